"""A preforking server with gunicorn's threaded worker and a WSGI application.

An answer says who gives it, and sends the request's body back. HUP replaces the workers, with the code as it is then. A
worker asked to stop finishes its requests, for at most gunicorn's `graceful_timeout`. gunicorn's worker class runs
directly: its master would only stand between ours and the worker. What is lost is its `timeout` for workers that hang.
"""

import argparse
import functools
import os
import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any

import attrs
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from reconciler import Controller, Policy, fork_worker_process, listen, worker


@attrs.frozen
class Web:
    """A worker. HUP asks for one of now, which replaces the one of then."""

    key: int
    since: float
    listener: socket.socket


def app(web: Web, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """A WSGI application."""
    start_response("200 OK", [])
    yield f"key={web.key} pid={os.getpid()}\n".encode()
    yield environ["wsgi.input"].read()


class Application(BaseApplication):
    """What gunicorn asks for its settings."""

    def load_config(self) -> None:
        """Set them, by their names in gunicorn's documentation."""
        self.cfg.set("threads", 8)
        self.cfg.set("loglevel", "warning")


class Worker(ThreadWorker):
    """A gunicorn worker that is stopped by the worker's drain."""

    def run(self) -> None:
        """Answer until asked to stop."""
        self.poller.register(worker.drain(), selectors.EVENT_READ, self.leave)
        worker.ready()
        super().run()

    def leave(self, drain: worker.Drain) -> None:
        """Accept no more."""
        self.poller.unregister(drain)
        self.alive = False


def serve(web: Web) -> None:
    """Make gunicorn's objects, and run."""
    application = Application()
    application.callable = functools.partial(app, web)
    config = application.cfg
    log = config.logger_class(config)
    Worker(1, os.getppid(), [web.listener], application, config.timeout, config, log).init_process()


def main() -> None:
    """Be a worker, or keep the workers running."""
    web = worker.context(Web)
    if web is not None:
        serve(web)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:8000")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    listener = listen(options.listen)
    Controller(
        lambda: [Web(key, time.time(), listener) for key in range(options.workers)],
        lambda web: fork_worker_process(web, [f"id={web.key}"]),
        policy=Policy(ready="notify"),
    ).run()


if __name__ == "__main__":
    main()
