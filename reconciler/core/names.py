"""What the placeholders of a spec's texts stand for, as far as they say which worker it is.

Rule: everybody who renders a text of a spec takes its values from here, so that a worker and the probe that asks it
mean the same.
"""

from typing import Any

from reconciler.core.spec import Key


def names_of(set_name: str, key: Any) -> dict[str, str]:
    """The values of {name}, {index} and {key}. A key that is not of a spec file is its own index."""
    if isinstance(key, Key):
        return {"name": key.name, "index": str(key.number), "key": str(key)}
    return {"name": set_name, "index": str(key), "key": str(key)}
