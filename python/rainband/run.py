"""A run in one process: its threads, the wait for its end, signals, the drain, and why it ended.

Off the tuple's path. `Topology.start` and `.run` come in here; this calls the core's `Engine`, which calls `runtime`
back on cold paths, on the threads of `engine_threads`. With worker processes the engine is `cluster.supervisor`, which
has the same methods.

The end, in order (ENGINE 5): the engine's state is ended, failed or stopped; threads are joined (each closes its
tasks); files are closed and the state folder is unlocked; the report is made; a failure is raised. Whoever waits, and
whatever is raised meanwhile, `_conclude` runs once.

Which threads: `Run`'s methods may be called from any thread. `run` installs handlers only on the main thread, which
waits in slices of at most 100 ms so that Python delivers signals to it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self, runtime_checkable

from .engine_threads import TIMER, EngineThreads
from .errors import DrainError, RunError, RunInterrupted
from .report import PendingRoot, Report
from .runtime import Runtime
from .signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from .errors import StateError
    from .plan import CompiledPlan
    from .topology import Topology

__all__ = ["Run", "leave", "run", "start"]

_SLICE_S: Final = 0.1
_STOP_GRACE_S: Final = 5.0  # for the calls in progress to return after a stop
_KILL_GRACE_S: Final = 1.0  # for worker processes to be gone after they were killed
_INTERRUPT_GRACE_S: Final = 1.0  # the same after a second signal: somebody waits at the keyboard
_OVER: Final = frozenset({"ended", "failed", "stopped"})
_LISTED_PENDING: Final = 10  # roots named in the text of an error; the report has all
_live: weakref.WeakSet[Run] = weakref.WeakSet()
_stuck: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # that did not return after their run was over

Pending = tuple[str, int, object, int, float, bool]  # component, task id, user id, attempt, age in s, has a position


class EngineLike(Protocol):
    """What a run needs of `_core.Engine`; tests give their own."""

    def executors(self) -> list[tuple[int, list[int]]]: ...
    def run_executor(self, index: int) -> None: ...
    def run_timer(self) -> None: ...
    def wait(self, timeout_s: float) -> str: ...
    def activate(self) -> None: ...
    def deactivate(self) -> None: ...
    def drain(self) -> None: ...
    def stop(self) -> None: ...
    def fail_run(self, error: BaseException) -> None: ...
    def error(self) -> BaseException | None: ...
    def snapshot(self) -> dict[str, Any]: ...
    def pending(self) -> list[Pending]: ...


@runtime_checkable
class Killable(Protocol):
    """An engine whose work can be ended although user code does not return: that of worker processes."""

    def kill(self) -> None: ...


class RuntimeLike(Protocol):
    """What a run needs of its `Runtime`."""

    lost_positions: StateError | None

    def open(self) -> None: ...
    def close(self) -> None: ...
    def describe(self, error: BaseException) -> str: ...
    def user_counters(self) -> dict[str, dict[str, int]]: ...
    def notes(self) -> list[str]: ...
    @property
    def letter_file(self) -> str | None: ...
    @property
    def folder(self) -> Path: ...


class Run:
    """A topology that runs: wait for it, pause it, end it, look at its numbers. Made by `Topology.start`.

    As a context manager it waits for the end of the run, or stops it at once if the block raises.

    Example:
        >>> from rainband import Topology, bolt, spout
        >>> @spout(outputs=["n"])
        ... def numbers():
        ...     yield from range(3)
        >>> @bolt(outputs=[])
        ... def ignore(n):
        ...     pass
        >>> topology = Topology("example")
        >>> topology.spout("numbers", numbers)
        >>> topology.bolt("ignore", ignore, inputs="numbers")
        >>> with topology.start() as running:
        ...     report = running.wait()
    """

    def __init__(
        self, plan: CompiledPlan, *, engine: EngineLike | None = None, runtime: RuntimeLike | None = None
    ) -> None:
        self._plan = plan
        self._name = plan.name
        self._pid = os.getpid()
        self._runtime: RuntimeLike = Runtime(plan) if runtime is None else runtime
        self._guard = threading.Lock()  # of the fields below; never held while the engine or user code is called
        self._concluding = threading.Lock()
        self._drain_deadline: float | None = None
        self._stop_deadline: float | None = None
        self._pending_at_timeout: list[Pending] | None = None
        self._defect: BaseException | None = None
        self._result: Report | None = None
        self._failure: RunError | None = None
        self._runtime.open()
        try:
            self._engine = _new_engine(plan, self._runtime) if engine is None else engine
            executors = [(i, plan.components[c].name) for i, (c, _) in enumerate(self._engine.executors())]
            self._threads = EngineThreads(self._engine, executors, self._on_defect)
            self._start_threads()
        except BaseException:
            self._runtime.close()
            raise
        _live.add(self)

    # -- what users call -------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> Report | None:
        """Wait for the end of the run and return its report; None if `timeout_s` passed before.

        Raises:
            RunError: the run failed; its text holds, and its `__cause__` is, the user's exception.
            DrainError: a drain ran out of `drain_timeout_s`; what is pending is in its text and report.
        """
        return self._drive(None, timeout_s)

    def stop(self, *, now: bool = False) -> Report:
        """End the run and return its report: drain it first (`drain_timeout_s`), or with `now` leave what is pending.

        Either way every task that was opened is closed, and positions of sources have not moved past what is pending.

        Raises:
            RunError: as `wait`.
        """
        if now:
            self._stop_now(_STOP_GRACE_S)
        else:
            self._drain()
        report = self._drive(None, None)
        assert report is not None
        return report

    def activate(self) -> None:
        """Let spouts emit again after `deactivate`."""
        self._engine.activate()

    def deactivate(self) -> None:
        """Pause: spouts emit no new roots; trees complete, timers run, nothing ends."""
        self._engine.deactivate()

    def report(self) -> Report:
        """The numbers of this moment, or of the end once the run is over."""
        return self._result or self._make_report()

    def snapshot(self) -> dict[str, Any]:
        """The engine's own counters, cheap enough for a display twice a second."""
        return self._engine.snapshot()

    @property
    def name(self) -> str:
        """The topology's name."""
        return self._name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._drive(None, None)
        else:
            self._abandon(_STOP_GRACE_S)

    # -- threads ---------------------------------------------------------------------------------------------------

    def _start_threads(self) -> None:
        try:
            self._threads.start()
        except BaseException as error:
            self._engine.fail_run(error)
            self._engine.stop()
            raise

    def _on_defect(self, error: BaseException) -> None:
        self._defect = error
        self._engine.fail_run(error)
        self._stop_now(_STOP_GRACE_S)  # an engine with a defect may not come to its end by itself

    # -- the wait --------------------------------------------------------------------------------------------------

    def _drive(self, signals: Signals | None, timeout_s: float | None, ends_at: float | None = None) -> Report | None:
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_over():
            now = time.monotonic()
            if give_up is not None and now >= give_up:
                return None
            if ends_at is not None and now >= ends_at:
                ends_at = None
                self._drain()
            if signals is not None:
                self._obey(signals)
            self._look_at_deadlines(now)
        self._conclude(signals)
        if self._failure is not None:
            raise self._failure
        assert self._result is not None
        return self._result

    def _is_over(self) -> bool:
        if self._result is not None:
            return True
        if self._engine.wait(_SLICE_S) in _OVER:
            return True
        return self._stop_deadline is not None and time.monotonic() >= self._stop_deadline

    def _look_at_deadlines(self, now: float) -> None:
        with self._guard:
            expired = self._drain_deadline is not None and now >= self._drain_deadline
            if expired:
                self._drain_deadline = None
        if expired:
            pending = self._engine.pending()
            with self._guard:
                self._pending_at_timeout = pending
            self._stop_now(_STOP_GRACE_S)

    def _obey(self, signals: Signals) -> None:
        if signals.count >= 2:
            self._interrupt(signals)
        elif signals.count == 1 and not signals.is_obeyed:
            signals.is_obeyed = True
            limit = self._plan.config["drain_timeout_s"]
            text = f"{self._name}: {signals.last_name}: draining, at most {limit:g} s; once more stops at once"
            _log.info("%s", text)
            if signals.tell is not None:
                signals.tell(text)
            self._drain()

    def _interrupt(self, signals: Signals) -> None:
        pending = self._engine.pending()
        self._abandon(_INTERRUPT_GRACE_S)
        report = self.report()
        what = _describe_pending(report.pending, report.pending_roots or [PendingRoot(*row) for row in pending])
        text = f'topology "{self._name}" was stopped by a second {signals.last_name}; {what}'
        raise RunInterrupted(text, report=report, signum=signals.last)

    def _drain(self) -> None:
        with self._guard:
            if self._drain_deadline is None and self._stop_deadline is None:
                self._drain_deadline = time.monotonic() + self._plan.config["drain_timeout_s"]
        self._engine.drain()

    def _stop_now(self, grace_s: float) -> None:
        with self._guard:
            limit = time.monotonic() + grace_s
            self._stop_deadline = limit if self._stop_deadline is None else min(limit, self._stop_deadline)
            self._drain_deadline = None
        self._engine.stop()

    def _abandon(self, grace_s: float) -> None:
        """Stop at once without raising; what the run would have raised is logged."""
        self._stop_now(grace_s)
        while not self._is_over():
            pass
        self._conclude(None)
        if self._failure is not None:
            _log.error("%s", self._failure)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _conclude(self, signals: Signals | None) -> None:
        with self._concluding:
            if self._result is not None:
                return
            stuck = self._join(signals)
            if stuck:
                _stuck.update(stuck)
                names = ", ".join(t.name for t in stuck if t.name != TIMER) or TIMER
                _log.error("%s: still inside user code after the end: %s", self._name, names)
            self._runtime.close()
            pending = self._engine.pending() or self._pending_at_timeout or ()
            report = self._make_report(pending)
            self._failure = self._why_failed(report)
            self._result = report
            _live.discard(self)

    def _join(self, signals: Signals | None) -> list[threading.Thread]:
        limit = self._stop_deadline
        if limit is None:
            grace_s = _STOP_GRACE_S if self._engine.error() is not None else self._plan.config["drain_timeout_s"]
            limit = time.monotonic() + grace_s
        stuck = self._threads.join(limit, is_hurried=lambda: signals is not None and signals.count >= 2)
        if stuck and isinstance(self._engine, Killable):
            self._engine.kill()
            stuck = self._threads.join(time.monotonic() + _KILL_GRACE_S)
        return stuck

    def _make_report(self, pending: Sequence[Pending] = ()) -> Report:
        runtime = self._runtime
        return Report.of(
            self._name,
            self._engine.snapshot(),
            pending=pending,
            dead_letter_file=runtime.letter_file,
            user_counters=runtime.user_counters(),
            notes=[*_notes_on(pending, runtime.folder), *runtime.notes()],
        )

    def _why_failed(self, report: Report) -> RunError | None:
        error = self._engine.error() or self._defect or self._runtime.lost_positions
        if error is not None:
            text = self._runtime.describe(error)
            failure = RunError(f'topology "{self._name}" failed: {text}', report=report)
            failure.__cause__ = error
            return failure
        if self._pending_at_timeout is None:
            return None
        limit = self._plan.config["drain_timeout_s"]
        what = _describe_pending(report.pending, report.pending_roots)
        return DrainError(f'topology "{self._name}": the drain ran out of its {limit:g} s; {what}', report=report)


_log = logging.getLogger("rainband.run")


def start(topology: Topology, *, workers: int | None = None, config: Mapping[str, Any] | None = None) -> Run:
    """Check the topology, build it and set it going; `Topology.start` is this."""
    from .plan import compile_plan  # noqa: PLC0415 - pydantic comes with it

    overrides = dict(config or {})
    if workers is not None:
        overrides["workers"] = workers
    if "rainband.cluster.origin" in sys.modules:
        sys.modules["rainband.cluster.origin"].refuse_while_loading(topology.name)
    plan = compile_plan(topology, overrides)
    if plan.config["workers"] == 1:
        return Run(plan)
    from .cluster.start import start as start_workers  # noqa: PLC0415 - zmq comes with it

    return start_workers(topology, plan, overrides)


def run(
    topology: Topology,
    *,
    workers: int | None = None,
    config: Mapping[str, Any] | None = None,
    duration_s: float | None = None,
    watch: Callable[[Run], AbstractContextManager[object]] | None = None,
    tell: Callable[[str], object] | None = None,
) -> Report:
    """Run the topology to its end and return the report; `Topology.run` is this.

    The first SIGINT or SIGTERM drains, as does the end of `duration_s`; the second signal stops at once. Off the main
    thread signals are left alone. `watch` is entered with the `Run` while it lasts (a progress display). `tell`
    is called with what the first signal does, which is logged as well.

    Raises:
        TopologyError: the topology has mistakes; nothing was started.
        RunError: the run failed; see `Run.wait`.
        RunInterrupted: a second signal came.
    """
    if duration_s is not None and not duration_s > 0:
        raise ValueError(f"duration_s must be greater than 0, got {duration_s!r}")
    with Signals(tell) as signals:
        started = start(topology, workers=workers, config=config)
        ends_at = None if duration_s is None else time.monotonic() + duration_s
        try:
            with watch(started) if watch is not None else contextlib.nullcontext():
                report = started._drive(signals, None, ends_at)  # noqa: SLF001 - the same module
        except RunError:
            raise
        except BaseException:
            started._abandon(_INTERRUPT_GRACE_S)  # noqa: SLF001
            raise
    assert report is not None
    return report


def _new_engine(plan: CompiledPlan, runtime: RuntimeLike) -> EngineLike:
    from . import _core, homecore  # noqa: PLC0415 - the engine is needed only here

    homecore.install()
    engine: EngineLike = _core.Engine(plan.core, runtime)
    return engine


def _notes_on(pending: Sequence[Pending], folder: Path) -> list[str]:
    """What becomes of pending roots after the end: that depends on whether their spout gave them positions."""
    notes = []
    for (name, has_position), count in Counter((row[0], row[5]) for row in pending).items():
        if has_position:
            notes.append(f'spout "{name}": its {count} pending come again in a run with state_dir={str(folder)!r}')
        else:
            notes.append(f'"{name}" emits without positions: its {count} pending are gone with this run')
    return notes


def _describe_pending(count: int, roots: Sequence[PendingRoot]) -> str:
    """What is pending; the count is that of the report, so that no two texts about the end differ."""
    if not count:
        return "nothing is pending"
    rows = [
        f'spout "{root.component}" task {root.task} id {root.id!r} (attempt {root.attempt}, {root.age_s:.1f} s old)'
        for root in roots[: min(count, _LISTED_PENDING)]
    ]
    if rows and count > len(rows):
        rows.append(f"and {count - len(rows)} more")
    return f"{count} pending" + (f": {', '.join(rows)}" if rows else "")


def leave(code: int) -> NoReturn:
    """End the process with this exit code, also when user code never returned from a call.

    Like `sys.exit`, unless threads of a run are still inside user code. Those would be torn down within the core's
    frames when they next ask for the interpreter, and that ends in an abort; then streams are flushed and the process
    ends at once.
    """
    _stop_live()
    _leave_at_once_if_stuck(code)
    sys.exit(code)


def _stop_live() -> None:
    for running in [r for r in _live if r._pid == os.getpid()]:  # noqa: SLF001 - the same module
        with contextlib.suppress(Exception):
            running._abandon(_STOP_GRACE_S)  # noqa: SLF001 - the same module


def _leave_at_once_if_stuck(code: int) -> None:
    names = [thread.name for thread in _stuck if thread.is_alive() and thread.name != TIMER]
    if not names:
        return
    _log.critical("leaving without the interpreter's own shutdown: still inside user code: %s", ", ".join(names))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _stop_all_at_exit() -> None:
    # An interpreter must not be finalized under threads that will ask for it again. The exit code that the program
    # asked for cannot be seen here; who cares for it calls `leave`.
    _stop_live()
    _leave_at_once_if_stuck(1)


atexit.register(_stop_all_at_exit)
