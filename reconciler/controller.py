"""The public controller: an engine, the descriptors that wake it, its signals, and one timer.

Rule: asyncio only waits here. Every ring (an exit, a change in the directory, a signal, a deadline) leads to one turn
of the engine, which looks at everything anew; nothing polls, nothing sleeps, and no thread is started, so that the
process stays safe to fork. asyncio is imported after the first turn, so that workers do not wait for it.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from reconciler import __version__
from reconciler.bells import Answer, Bells
from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.override import Override
from reconciler.core.spec import OutputMode, Policy
from reconciler.drivers import Driver
from reconciler.engine import Engine
from reconciler.parts import OutputRoom, capture, driver_of, shelf_of, source_of
from reconciler.publishing import Publish, Publisher
from reconciler.signals import SignalCounter
from reconciler.sources import Source

if TYPE_CHECKING:
    import asyncio

    from reconciler.core.status import Snapshot
    from reconciler.service import Service

AFTER_ERROR = 1.0
"""Seconds until the next turn after one that failed by a fault of our own."""

SIGNALS = ("HUP", "TERM", "INT", "QUIT", "TTIN", "TTOU", "USR1", "USR2")
"""The signals that `run` takes over. Those that mean nothing here would end the controller and orphan its workers."""


class Controller:
    """Keeps exactly the workers running that `update` returns, by means of `fork`.

    `update` is called at the start, on HUP, by `reload`, and every `interval` seconds if given; it returns workers of
    any type, or None for "no change". `fork` starts one worker and returns its pid, or an object with a `pid`; it is
    called in this process, one worker at a time. `key` gives a worker's key: hashable, orderable, and stable (default:
    the attribute `key`, else the worker itself); workers of one key that are not equal replace each other by the
    `policy`. `scale` is called with 1 and -1 on TTIN and TTOU, after which `update` is asked again.

    A `Source` may stand in the place of `update`, and a `Driver` in that of `fork`; without `fork`, `update` returns
    `SetSpec`s, which are started as local commands.

    Some attributes may be set before it runs. `publish` is given the events. `state_dir` names a directory for its
    control socket and what it remembers, which must be its own: else running raises `state.lock.TakenError`. With one,
    `output` says where local commands write to whose spec does not say. `hooks` has functions by the name of a signal
    that are called when `run` takes it, before anything else comes of it; one of TERM or INT may return the name of the
    signal that workers are asked to end with, in the place of their policy's. With `replace_all`, HUP and `reload`
    replace every worker whether it differs or not: all new ones are started, then all old ones stopped.
    """

    def __init__(  # noqa: PLR0913  six is the house's limit
        self,
        update: Callable[[], Any] | Source,
        fork: Callable[[Any], Any] | Driver | None = None,
        *,
        key: Callable[[Any], Any] | None = None,
        policy: Policy | None = None,
        interval: float | None = None,
        scale: Callable[[int], None] | None = None,
    ) -> None:
        self._events = Publisher()
        self.hooks: dict[str, Callable[[], Any]] = {}
        self._engine = Engine(
            source_of(update, key, policy, interval), driver_of(fork), self._events.tell, f"{os.urandom(3).hex()}-"
        )
        self._shelf = shelf_of(self._engine.driver)
        self.state_dir: str | None = None
        self.output: OutputMode = "inherit"
        self._output: OutputRoom | None = getattr(self._engine.driver, "output", None)
        self._service: Service | None = None
        self._scale = scale
        self._bells: Bells | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._settled: list[asyncio.Future[Snapshot]] = []
        self._began = 0.0
        self._last: Snapshot | None = None

    @property
    def publish(self) -> Publish | None:
        """What is given the events, some at a time; None before the first where the user set none."""
        return self._events.receiver

    @publish.setter
    def publish(self, receiver: Publish | None) -> None:
        self._events.receiver = receiver

    @property
    def replace_all(self) -> bool:
        """Whether HUP and `reload` replace workers that do not differ, too."""
        return self._engine.replace_all

    @replace_all.setter
    def replace_all(self, value: bool) -> None:
        self._engine.replace_all = value

    def run(self, *, once: bool = False) -> "Snapshot":
        """Own the process's signals and block until stopped by one; return the last state in which workers ran.

        HUP reads the source again, TERM and INT stop all workers and then return, a second one of them kills at once.
        With `once`, stop as soon as everything is up to date and ready, or cannot become so, and return that state.
        Must be called in the main thread.
        """
        signals = SignalCounter(SIGNALS)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the kernel would keep no exit status for us
        try:
            self._begin()
            import asyncio  # noqa: PLC0415  see the top of the file

            return asyncio.run(self._run(signals, once=once))
        except BaseException:
            self._abandon()
            raise
        finally:
            signals.close()

    async def serve(self) -> None:
        """Run inside an asyncio program, which keeps its signals, until `stop` or cancellation has ended all workers.

        Cancellation stops the workers gracefully before it goes on; a second one kills them first.
        """
        import asyncio  # noqa: PLC0415  see the top of the file

        try:
            loop = asyncio.get_running_loop()
            self._bells, self._stopped = Bells(loop), loop.create_future()  # before any fork, which lets go of them
            if not self._began:
                self._begin()
            self._turn()
            await asyncio.shield(self._stopped)
        except asyncio.CancelledError:
            self.stop()
            await self._drain()
            raise
        except BaseException:
            self._abandon()
            raise
        finally:
            self._close()

    async def settled(self) -> "Snapshot":
        """Wait until everything is up to date and ready, or will not become so by itself, or the controller has
        stopped; return that state.
        """
        import asyncio  # noqa: PLC0415  see the top of the file

        if self._engine.stopped:
            return self.status()
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._settled.append(future)
        self._ring()
        return await future

    def stop(self) -> None:
        """Stop all workers and then the controller; asked a second time, kill what is left.

        Returns at once, and may be called from any thread.
        """
        if self._bells is None:
            self._leave()
        else:
            self._bells.call(self._leave)

    def reload(self) -> None:
        """Read the source again, now. Returns at once, and may be called from any thread."""
        if self._bells is not None:
            self._bells.call(self._urgent)

    def status(self) -> "Snapshot":
        """The state of all sets and workers at this moment."""
        return self._engine.status()

    def override(self, overrides: Sequence[Override]) -> None:
        """Lay these overrides (`core.override`), and no others, over what `update` returns. To be called in the
        controller's thread; takes effect before it returns.
        """
        self._engine.override(overrides, time.monotonic())
        self._turn()

    def events(self) -> AsyncIterator[Event]:
        """The events from now on, each as it comes, until the controller has stopped. Who is more than 10 000 events
        behind misses some.
        """
        return self._events.recent.follow()

    # ---------------------------------------------------------------------------------------------- turns

    def _begin(self) -> None:
        """The first turn: what is wanted is started before anything else is loaded."""
        if "PREFORK" in os.environ:
            raise RuntimeError(
                "this process was started as a worker, and would become a second controller; "
                "call reconciler.worker.context before the controller is run"
            )
        self._began = time.monotonic()
        if self.state_dir is not None:
            self._enter(self.state_dir)
        source = str(getattr(self._engine.source, "path", "update"))
        self._events.hold()
        self._events.tell(
            [Event(event.CONTROLLER_STARTED, extra={"pid": os.getpid(), "version": __version__, "source": source})]
        )
        self._guarded(urgent=True)
        # What is needed when something goes wrong is loaded while nothing has.
        import traceback  # noqa: F401, PLC0415

        import reconciler.core.status  # noqa: F401, PLC0415

        if self._service is not None:
            self._service.open()
        self._events.release()

    def _enter(self, directory: str) -> None:
        """Have the state directory for ourselves, and what was asked for in it."""
        from reconciler.service import Service  # noqa: PLC0415  not without one
        from reconciler.steering.shell import Shell  # noqa: PLC0415  likewise

        shell = Shell(self._turn, self._urgent, self._shut_down)
        self._service = Service(directory, self._engine, self._events, shell)
        capture(self._engine, f"{self._service.directory}/output", self.output)
        self._output = getattr(self._engine.driver, "output", None)

    def _shut_down(self, now: bool) -> None:  # noqa: FBT001
        for _ in range(1 + now):
            self._leave()

    def _turn(self, *, read: bool = False, urgent: bool = False) -> None:
        """One turn, after which the timer and the watched descriptors are what the engine needs next."""
        if self._bells is None or self._stopped is None or self._stopped.done():
            return
        wake_at = self._guarded(read=read, urgent=urgent)
        if self._shelf is not None:
            self._shelf.keep(self._engine)
        if self._service is not None and self._service.turned():
            wake_at = time.monotonic()
        if self._engine.stopped:
            self._bells.cancel()
            self._stopped.set_result(None)
        else:
            self._bells.wake_at(wake_at, self._turn)
            self._watch(self._bells)
        self._tell_settled()

    def _tell_settled(self) -> None:
        if self._settled and (self._engine.settled or self._engine.stopped):
            snapshot = self.status()
            for future in self._settled:
                if not future.done():
                    future.set_result(snapshot)
            self._settled.clear()

    def _guarded(self, *, read: bool = False, urgent: bool = False) -> float:
        """A turn of the engine; a fault of ours is an event, and the next turn goes on."""
        now = time.monotonic()
        try:
            return self._engine.turn(now, read=read, urgent=urgent)
        except Exception as error:  # noqa: BLE001  whatever it is, the workers must not be left alone
            self._events.report(error)
            return now + AFTER_ERROR

    def _leave(self, signal: str | None = None) -> None:
        if not self._engine.stopping:
            self._last = self.status()
        self._engine.stop(time.monotonic(), signal)
        self._turn()

    def _abandon(self) -> None:
        """Kill all workers, at once: the last resort where the controller itself cannot go on."""
        driver = self._engine.driver
        for uid in tuple(driver.live()):
            driver.kill(uid)

    def _ring(self) -> None:
        if self._bells is not None:
            self._bells.call(self._turn)

    def _urgent(self) -> None:
        self._turn(urgent=True)

    def _look(self) -> None:
        self._turn(read=True)

    def _watch(self, bells: Bells) -> None:
        """Watch the descriptors that driver, source and output have at this moment."""
        ringing: list[tuple[int | None, Answer]] = [
            (self._engine.driver.fileno(), self._turn),
            (self._engine.source.fileno(), self._look),
        ]
        if self._output is not None:
            ringing.append((self._output.fileno(), self._pump))
        if self._service is not None:
            ringing.append((self._service.fileno(), self._service.pump))
        bells.watch({fd: answer for fd, answer in ringing if fd is not None})

    def _pump(self) -> None:
        """Pass on what workers wrote, which needs no turn of the engine."""
        if self._output is not None:
            self._events.tell(self._output.pump())

    # ---------------------------------------------------------------------------------------------- run and its signals

    async def _run(self, signals: SignalCounter, *, once: bool) -> "Snapshot":
        import asyncio  # noqa: PLC0415  see the top of the file

        loop = asyncio.get_running_loop()
        serving = loop.create_task(self.serve())
        await asyncio.sleep(0)  # until it has begun
        loop.add_reader(signals.fileno(), self._take, signals)
        if getattr(self._engine.driver, "reaps_strangers", False):
            signals.add("CHLD")
            self._on_child()
        reached = None
        if once:
            settling = loop.create_task(self.settled())
            await asyncio.wait({settling, serving}, return_when=asyncio.FIRST_COMPLETED)
            reached = settling.result() if settling.done() and not self._engine.stopping else None
            settling.cancel()
            if not self._engine.stopping:
                self.stop()
        await serving
        return reached or self._last or self.status()

    def _take(self, signals: SignalCounter) -> None:
        for name, count in signals.take().items():
            if name == "CHLD":
                self._on_child()
            else:
                self._on_signal(name, count)

    def _on_child(self) -> None:
        self._engine.driver.reap_strangers()  # type: ignore[attr-defined]  # only asked of a driver that has them
        self._turn()

    def _on_signal(self, name: str, count: int) -> None:
        """Any number of HUPs is one; of the others each counts."""
        step = {"TTIN": count, "TTOU": -count}.get(name, 0)
        scaled = step != 0 and not self._engine.stopping and self._rescale(step)
        means = scaled or name in self.hooks or name in ("HUP", "TERM", "INT")
        told = Event(event.CONTROLLER_SIGNALLED, reason=None if means else "Ignored", extra={"signal": name})
        self._events.tell([told])
        asked = None
        if name in self.hooks and not self._engine.stopping:
            answer = self._events.call(self.hooks[name])
            asked = answer if f"SIG{answer}" in signal.Signals.__members__ else None
        if name in ("TERM", "INT"):
            for _ in range(min(count, 2)):
                self._leave(asked)
        elif name == "HUP":
            self._turn(urgent=not self._engine.stopping)
        elif scaled:
            self._turn(read=self._scale is not None)

    def _rescale(self, step: int) -> bool:
        """So many workers more or fewer, by the user's `scale`, or where there is just one set made from a spec."""
        if self._scale is not None:
            for _ in range(abs(step)):
                self._events.call(self._scale, 1 if step > 0 else -1)
            return True
        return self._engine.step(step, time.monotonic())

    async def _drain(self) -> None:
        import asyncio  # noqa: PLC0415  see the top of the file

        while self._stopped is not None and not self._stopped.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(self._stopped)
                return
            self.stop()

    def _close(self) -> None:
        if self._bells is not None:
            self._bells.close()
            self._bells = None
        self._engine.source.close()
        self._engine.driver.close()
        if self._shelf is not None:
            self._shelf.close()
        if self._output is not None:
            self._events.tell(self._output.close())
        uptime = round(time.monotonic() - self._began, 3)
        self._events.tell([Event(event.CONTROLLER_STOPPED, extra={"uptime_s": uptime})])
        if self._service is not None:
            self._service.close()
            self._service = None
