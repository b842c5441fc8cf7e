"""Requests per second of the sample web server beside `uvicorn --workers`, by wrk; prints a table in Markdown.

    python tests/bench/throughput.py --rounds 3 --seconds 5

Both serve the same application on the same port, in turn. Needs uvicorn, and wrk on the PATH.
"""

import argparse
import contextlib
import http.client
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORT = 18_437
APP = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body = f"Hello from worker 0, process {os.getpid()}\\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
"""
SUBJECTS = {
    "sample": lambda n: [str(ROOT / "docs/samples/web.py"), "-p", str(PORT), "-w", str(n)],
    "uvicorn --workers": lambda n: [
        *("-m", "uvicorn", "app:app", "--port", str(PORT), "--workers", str(n)),
        *("--lifespan", "off", "--log-level", "warning", "--no-access-log"),
    ],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not on the PATH; install it to measure requests")
    print("| workers | server | requests/s | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- |")
    for workers in (1, 2, 4):
        measured: dict[str, list[tuple[float, ...]]] = {name: [] for name in SUBJECTS}
        for _ in range(options.rounds):
            for name, command in SUBJECTS.items():
                with serving(command(workers)):
                    measured[name].append(load(options.seconds))
        for name, figures in measured.items():
            rate, middle, high = map(statistics.median, zip(*figures, strict=True))
            print(f"| {workers} | {name} | {rate:.0f} | {middle:.2f} | {high:.2f} |", flush=True)


@contextlib.contextmanager
def serving(arguments: list[str]) -> Iterator[None]:
    """A server that answers."""
    with tempfile.TemporaryDirectory() as place:
        Path(place, "app.py").write_text(APP)
        silent = subprocess.DEVNULL
        server = subprocess.Popen([sys.executable, *arguments], cwd=place, stdout=silent, stderr=silent)
        try:
            while not answers():
                time.sleep(0.05)
            time.sleep(1)  # the other workers come up too
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def answers() -> bool:
    """Whether the server answers."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        client.request("GET", "/")
        return client.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        client.close()


def load(seconds: int) -> tuple[float, float, float]:
    """Requests per second, and the median and 99th percentile of their latency in ms."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{PORT}/"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert rate, told
    return float(rate[1]), percentile(told, 50), percentile(told, 99)


def percentile(told: str, percent: int) -> float:
    """A latency in ms, from what wrk tells."""
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\n", told)
    assert found, told
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


if __name__ == "__main__":
    main()
