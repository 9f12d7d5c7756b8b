"""What the tests of the contract share: a rig that runs topologies to their end in bounded time, and small components.

The rig is given by the fixture `rig` (conftest.py), which also checks every run of every test here: the account of each
component balances, nothing is lost, and neither threads nor files are left.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from rainband import Bolt, Failure, RunError, Spout, TaskContext, Topology
from rainband.errors import WorkerError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rainband.report import Report
    from rainband.run import Run

DEADLINE_S = 20.0
"""A run or a condition that takes longer has failed; ordinary ones take milliseconds."""


def wait_until(condition: Callable[[], object], what: str = "", within_s: float = DEADLINE_S) -> None:
    """Wait until `condition` holds; a test that waits longer than `within_s` fails."""
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what or condition}"
        time.sleep(0.001)


def in_one_process(why: str) -> pytest.MarkDecorator:
    """Marks a scenario that is not run on workers."""
    return pytest.mark.in_one_process(why)


def is_caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an exception of this class is why a run failed; from a worker its name comes, and not itself."""
    cause = error.__cause__
    return cause.kind == kind.__name__ if isinstance(cause, WorkerError) else isinstance(cause, kind)


def traceback_of(error: BaseException) -> str:
    """The user's traceback of why a run failed."""
    cause = error.__cause__
    return cause.traceback if isinstance(cause, WorkerError) else "".join(traceback.format_exception(cause))


class Rig:
    """Makes topologies with short backoffs and a state folder of the test, and runs them with a deadline."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"

    def topology(self, name: str = "t", **config: Any) -> Topology:
        return Topology(name, config={"state_dir": str(self.state), "retry_backoff_s": 0.002, **config})

    def run(
        self, topology: Topology, *, within_s: float = DEADLINE_S, config: Mapping[str, Any] | None = None
    ) -> Report:
        return self.finish(topology.start(config=config), within_s)

    def finish(self, running: Run, within_s: float = DEADLINE_S) -> Report:
        """Wait for the end; a run that does not come to it is stopped and its state is the text of the failure."""
        report = running.wait(within_s)
        if report is None:
            snapshot = running.snapshot()
            report = running.stop(now=True)
            raise AssertionError(f"the run did not end within {within_s:g} s: {snapshot}\n{report}")
        assert report.state == "ended"
        assert report.pending == 0
        assert [component.queue for component in report.components.values()] == [0] * len(report.components)
        return report

    def fails(self, topology: Topology, *, within_s: float = DEADLINE_S) -> RunError:
        """Run a topology that has to fail."""
        running = topology.start()
        try:
            report = running.wait(within_s)
        except RunError as error:
            return error
        if report is None:
            running.stop(now=True)
        raise AssertionError(f"the run should have failed: {report}")

    @contextlib.contextmanager
    def running(self, topology: Topology) -> Iterator[Run]:
        """A run for the time of the block; stopped at once behind it if it is not over."""
        running = topology.start()
        try:
            yield running
        finally:
            with contextlib.suppress(RunError):
                running.stop(now=True)


class Numbers(Spout):
    """Emits start+1 … stop with the number as id, and notes what becomes of each."""

    outputs = ["n"]

    def __init__(self, stop: int, *, notes: Notes | None = None, tracked: bool = True) -> None:
        self.n = 0
        self.stop = stop
        self.notes = notes if notes is not None else Notes()
        self.tracked = tracked

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        if self.tracked:
            self.emit(self.n, id=self.n)
        else:
            self.emit(self.n)

    def ack(self, id: int) -> None:  # noqa: A002
        self.notes.acked.append(id)

    def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
        self.notes.failed.append((id, failure))

    def dead(self, id: int, failure: Failure) -> None:  # noqa: A002
        self.notes.dead.append((id, failure))


class Burst(Numbers):
    """Emits all its numbers in one call: they are on their way as whole batches before the first is worked on."""

    def next_tuple(self) -> None:
        while self.n < self.stop:
            super().next_tuple()
        self.end()


class Notes:
    """What a `Numbers` was told."""

    def __init__(self) -> None:
        self.acked: list[int] = []
        self.failed: list[tuple[int, Failure]] = []
        self.dead: list[tuple[int, Failure]] = []

    @property
    def reasons(self) -> list[str]:
        return [failure.reason for _, failure in self.failed]


class Collect(Bolt):
    """Appends what it receives to a list."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def process(self, n: Any) -> None:
        self.seen.append(n)


class Quiet(Bolt):
    """Takes everything and does nothing."""

    def process(self, **fields: Any) -> None: ...


class Identity(Bolt):
    """Emits what it receives."""

    outputs = ["n"]

    def process(self, n: Any) -> None:
        self.emit(n)


class Gate(Bolt):
    """Blocks in `process` until the test opens it."""

    outputs = ["n"]

    def __init__(self, gate: threading.Event, entered: threading.Event | None = None) -> None:
        self.gate = gate
        self.entered = entered

    def process(self, n: Any) -> None:
        if self.entered is not None:
            self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        self.emit(n)


class Idle(Spout):
    """Emits nothing and does not end until told to."""

    outputs = ["n"]

    def __init__(self, over: threading.Event) -> None:
        self.over = over

    def open(self, context: TaskContext) -> None:
        self.context = context

    def next_tuple(self) -> None:
        if self.over.is_set():
            self.end()
