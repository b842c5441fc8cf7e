"""What an order needs of the controller that it is given to.

Rule: three functions, and nothing else of it.
"""

from collections.abc import Callable

import attrs


@attrs.frozen
class Shell:
    """What only the controller itself can do, and does at once: let the engine act on what changed; read the source
    again; and stop all workers and then itself (or kill them, if true).
    """

    turn: Callable[[], object]
    reload: Callable[[], object]
    shutdown: Callable[[bool], object]
