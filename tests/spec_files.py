"""Spec files for the tests: the example of the documentation in three formats, and how to write data in each."""

import io
import json
import math
from typing import Any

FORMATS = ("toml", "json", "yaml")

EXAMPLE: dict[str, Any] = {
    "command": ["python3", "-m", "http.server", "80{index}0"],
    "replicas": 3,
    "order": 0,
    "cwd": ".",
    "env": {"GREETING": "hello {name} {index} {key}"},
    "min_ready": "0s",
    "suspend": False,
    "restart": {
        "policy": "always",
        "success_exit_codes": [0],
        "backoff": {"initial": "1s", "factor": 2.0, "max": "60s", "reset_after": "1m", "jitter": 0.25},
        "start_limit": {"burst": 5, "interval": "10s"},
    },
    "stop": {"signal": "TERM", "timeout": "30s"},
    "rollout": {"strategy": "rolling", "max_surge": 0, "max_unavailable": 1, "progress_deadline": "10m"},
}

EXAMPLE_TOML = b"""\
# specs/web.toml  ->  workers web-0, web-1, web-2
command = ["python3", "-m", "http.server", "80{index}0"]   # a list; or a string, split as a shell would
replicas = 3            # 1
order = 0               # sorts before the name
cwd = "."               # relative to the spec directory
env = { GREETING = "hello {name} {index} {key}" }   # added to the controller's environment
min_ready = "0s"
suspend = false         # true: keep the file, run nothing

[restart]
policy = "always"       # always | on_failure | never
success_exit_codes = [0]
backoff = { initial = "1s", factor = 2.0, max = "60s", reset_after = "1m", jitter = 0.25 }
start_limit = { burst = 5, interval = "10s" }   # optional

[stop]
signal = "TERM"
timeout = "30s"

[rollout]
strategy = "rolling"    # rolling | recreate | on_delete
max_surge = 0           # a number or "25%"
max_unavailable = 1
progress_deadline = "10m"
"""


def written(data: Any, suffix: str) -> bytes:
    """`data` as the content of a file of one of the formats."""
    if suffix == "json":
        return json.dumps(data, indent=1).encode()
    if suffix == "toml":
        return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in data.items()).encode()
    from ruamel.yaml import YAML  # noqa: PLC0415 - only the tests of YAML wait for it

    stream = io.BytesIO()
    YAML(typ="safe", pure=True).dump(data, stream)
    return stream.getvalue()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
