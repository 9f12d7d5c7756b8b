"""Sources: ENGINE section 3, on the real engine. Positions across runs are also in test_state.py."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from rig import DEADLINE_S, Collect, Gate, Identity, Notes, Numbers, Quiet, is_caused_by, wait_until

from rainband import IDLE, At, Bolt, EmitError, KeyTypeError, Spout, TaskContext, Tuple, bolt, grouping, spout

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from rig import Rig


class Counts(Spout):
    """Emits position+1 … stop with positions; notes the positions it was opened at."""

    outputs = ["n"]

    def __init__(self, stop: int, opened: list[Any], acked: list[int]) -> None:
        self.stop = stop
        self.opened = opened
        self.acked = acked

    def open(self, context: TaskContext) -> None:
        self.opened.append(context.position)
        self.n = context.position or 0

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        self.emit(self.n, id=self.n, position=self.n)

    def ack(self, id: int) -> None:  # noqa: A002
        self.acked.append(id)


def stored(rig: Rig) -> Any:
    path = rig.state / "positions.json"
    if not path.exists():
        return None
    [entry] = json.loads(path.read_text())["positions"]
    return entry["position"]


def test_the_position_follows_what_is_resolved_in_order(rig: Rig) -> None:
    """ENGINE 3.1: what is stored, while the run lasts, is the highest position with everything before it resolved."""
    held: dict[int, Tuple] = {}
    bolts: list[Any] = []

    class Holds(Bolt):
        auto_ack = False

        def process(self, n: int, tup: Tuple) -> None:
            bolts[:] = [self]
            held[n] = tup

    def ack(*numbers: int) -> None:
        for n in numbers:
            bolts[0].ack(held.pop(n))

    topology = rig.topology()
    topology.spout("counts", partial(Counts, 10, [], []))
    topology.bolt("holds", Holds, inputs="counts")
    running = topology.start()
    wait_until(lambda: len(held) == 10)
    ack(2, 3, 5, 10)
    wait_until(lambda: running.report().components["counts"].acked == 4)
    assert stored(rig) is None
    ack(1)
    wait_until(lambda: stored(rig) == 3, "1 to 3 stored")
    ack(4)
    wait_until(lambda: stored(rig) == 5, "4 and 5 stored")
    ack(9, 8, 7, 6)
    rig.finish(running)
    assert stored(rig) == 10


def test_the_stored_position_is_at_most_100_ms_behind(rig: Rig) -> None:
    """ENGINE 3.1: a run that is killed repeats what was resolved in the last 100 ms, not more."""
    over = threading.Event()

    class Steps(Counts):
        def next_tuple(self) -> None:
            if self.n < 5 or over.is_set():
                super().next_tuple()

    acked: list[int] = []
    topology = rig.topology()
    topology.spout("steps", partial(Steps, 6, [], acked))
    topology.bolt("quiet", Quiet, inputs="steps")
    running = topology.start()
    wait_until(lambda: len(acked) == 5)
    began = time.monotonic()
    wait_until(lambda: stored(rig) == 5)
    assert time.monotonic() - began < 1.0  # 100 ms by rule; the machine may be busy
    over.set()
    rig.finish(running)


def test_dead_and_dropped_roots_are_resolved_too(rig: Rig) -> None:
    """ENGINE 3.1: a dead letter moves the position on; it would else stand still for ever."""

    class Fails(Bolt):
        def process(self, n: int) -> None:
            if n % 2:
                raise ValueError(n)

    topology = rig.topology(max_attempts=2)
    topology.spout("counts", partial(Counts, 10, [], []))
    topology.bolt("fails", Fails, inputs="counts")
    report = rig.run(topology)
    assert report.dead_letters == 5
    assert stored(rig) == 10


def test_positions_increase(rig: Rig) -> None:
    """ENGINE 3.1: a position that does not come after the last one, or that stands alone, is refused at the call."""
    raised: list[str] = []

    class Odd(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            self.emit(1, id=1, position=5)
            wrong: list[dict[str, Any]] = [{"id": 2, "position": 5}, {"id": 2, "position": 4}, {"position": 6}]
            for arguments in wrong:
                try:
                    self.emit(2, **arguments)
                except EmitError as error:
                    raised.append(str(error))
            self.emit(3, id=3, position=7)
            self.end()

    topology = rig.topology()
    topology.spout("odd", Odd)
    topology.bolt("quiet", Quiet, inputs="odd")
    report = rig.run(topology)
    assert "positions increase per task: 5 does not come after 5" in raised[0]
    assert "positions increase per task: 4 does not come after 5" in raised[1]
    assert "position= without id=: only a tracked tuple moves the position" in raised[2]
    assert report.components["odd"].roots.acked == 2
    assert stored(rig) == 7


def test_an_emit_that_was_refused_leaves_its_position_free(rig: Rig) -> None:
    """ENGINE 3.1: what was not emitted has used up no position: the same one may come with the next emit."""
    refused: list[str] = []

    class Again(Spout):
        outputs = ["n"]
        on_error = "stop"

        def next_tuple(self) -> None:
            try:
                self.emit([1], id="no key", position=1)
            except KeyTypeError as error:
                refused.append(str(error))
            self.emit("x", id="a key", position=1)
            self.end()

    topology = rig.topology()
    topology.spout("again", Again)
    topology.bolt("quiet", Quiet, inputs={"again": grouping.fields("n")}, parallelism=2)
    report = rig.run(topology)
    assert len(refused) == 1
    assert report.components["again"].roots.acked == 1
    assert stored(rig) == 1


def test_each_task_has_a_position_of_its_own(rig: Rig) -> None:
    """ENGINE 3.1: tasks of one spout are stored apart, and each gets its own back."""

    class Parts(Spout):
        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            seen[context.task_index] = context.position
            self.index = context.task_index

        def next_tuple(self) -> None:
            self.emit(1, id=1, position=("part", self.index, (seen[self.index] or ("", 0, 0))[2] + 1))
            self.end()

    seen: dict[int, Any] = {}
    for expected in ({0: None, 1: None, 2: None}, {n: ("part", n, 1) for n in range(3)}):
        topology = rig.topology()
        topology.spout("parts", Parts, parallelism=3)
        topology.bolt("quiet", Quiet, inputs="parts")
        rig.run(topology)
        assert seen == expected


def test_a_spout_without_positions_is_volatile_and_the_report_says_so(rig: Rig) -> None:
    """ENGINE 3.1: what is pending ends with its process; the report counts and names it."""

    class Holds(Bolt):
        auto_ack = False

        def process(self, tup: Tuple) -> None:
            held.append(tup)

    held: list[Tuple] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 3))
    topology.bolt("holds", Holds, inputs="numbers")
    running = topology.start()
    wait_until(lambda: len(held) == 3)
    report = running.stop(now=True)
    assert sorted(root.id for root in report.pending_roots) == [1, 2, 3]
    assert '"numbers" emits without positions: its 3 pending are gone with this run' in report.notes


def test_a_blocked_generator_stops_nothing(rig: Rig) -> None:
    """ENGINE 3.2: while a spout function blocks, acks, replays and ticks go on; a drain ends the run all the same."""
    lines: queue.Queue[int] = queue.Queue()
    seen: list[tuple[int, int]] = []
    let_go = threading.Event()

    @spout(outputs=["n"])
    def blocking() -> Iterator[int]:
        yield from iter(lines.get, None)

    class FailsOnce(Bolt):
        def process(self, n: int, tup: Tuple) -> None:
            seen.append((n, tup.attempt))
            if tup.attempt < 3:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("blocking", blocking)
    topology.bolt("fails", FailsOnce, inputs="blocking")
    running = topology.start()
    try:
        for n in (1, 2):
            lines.put(n)
            wait_until(lambda n=n: (n, 3) in seen)  # type: ignore[misc]
            wait_until(lambda n=n: running.report().components["blocking"].roots.acked == n)  # type: ignore[misc]
        report = running.stop()
    finally:
        lines.put(None)  # type: ignore[arg-type]
        let_go.set()
    assert report.state == "ended"
    assert report.components["blocking"].roots.acked == 2


def test_a_class_spout_that_blocks_still_replays_and_times_out(rig: Rig) -> None:
    """ENGINE 3.2: while `next_tuple` is inside user code, default replays and timeouts of its roots go on."""
    gate = threading.Event()
    attempts: list[int] = []

    class Blocks(Spout):
        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            self.has_emitted = False

        def next_tuple(self) -> None:
            if self.has_emitted:
                assert gate.wait(DEADLINE_S)
                self.end()
                return
            self.has_emitted = True
            self.emit(1, id=1)
            time.sleep(0.002)  # a call of this length is handed over by itself

    class Bad(Bolt):
        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            self.held: list[Tuple] = []

        def process(self, tup: Tuple) -> None:
            attempts.append(tup.attempt)
            if tup.attempt == 1:
                raise ValueError
            if tup.attempt == 2:
                self.held.append(tup)  # until it times out
            else:
                self.ack(tup)

    topology = rig.topology(ack_timeout_s=0.05)
    topology.spout("blocks", Blocks)
    topology.bolt("bad", Bad, inputs="blocks")
    running = topology.start()
    try:
        wait_until(lambda: attempts == [1, 2, 3])
        wait_until(lambda: running.report().components["blocks"].roots.acked == 1, within_s=2)
    finally:
        gate.set()
        rig.finish(running)


def test_what_was_emitted_before_a_spout_blocks_goes_out(rig: Rig) -> None:
    """ENGINE 3.2: a burst that is followed by silence is processed whole while the spout waits for more."""
    gate = threading.Event()
    seen: list[int] = []

    class Bursts(Numbers):
        def next_tuple(self) -> None:
            if self.n == 10 and not gate.wait(DEADLINE_S):
                raise TimeoutError
            super().next_tuple()

    topology = rig.topology()
    topology.spout("bursts", partial(Bursts, 11))
    topology.bolt("seen", partial(Collect, seen), inputs="bursts")
    running = topology.start()
    try:
        wait_until(lambda: len(seen) == 10, within_s=2)
    finally:
        gate.set()
        rig.finish(running)


def test_hooks_wait_for_a_spout_that_blocks(rig: Rig) -> None:
    """ENGINE 3.2: only overridden hooks wait for the task's own thread; they are called when it is free again."""
    gate, blocked = threading.Event(), threading.Event()
    notes = Notes()

    class Blocks(Numbers):
        def next_tuple(self) -> None:
            if self.n == 1:
                blocked.set()
                assert gate.wait(DEADLINE_S)
            super().next_tuple()
            time.sleep(0.002)

    topology = rig.topology()
    topology.spout("blocks", partial(Blocks, 2, notes=notes))
    topology.bolt("waits", partial(Gate, blocked), inputs="blocks")
    topology.bolt("quiet", Quiet, inputs="waits")
    running = topology.start()
    wait_until(lambda: running.report().components["quiet"].acked == 1)
    try:
        wait_until(lambda: running.report().components["blocks"].roots.acked == 1, within_s=2)
        assert notes.acked == []
    finally:
        gate.set()
        rig.finish(running)
    assert notes.acked == [1, 2]


def test_idle_yields_are_no_tuples(rig: Rig) -> None:
    """ENGINE 3.2: `yield IDLE` says that there is nothing now."""
    seen: list[int] = []

    @spout(outputs=["n"])
    def sometimes() -> Iterator[Any]:
        for n in range(5):
            yield IDLE
            yield n

    topology = rig.topology()
    topology.spout("sometimes", sometimes)
    topology.bolt("seen", partial(Collect, seen), inputs="sometimes")
    rig.run(topology)
    assert seen == [0, 1, 2, 3, 4]


def test_a_class_spout_that_raises_starts_again_at_its_position(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """ENGINE 3.3: a fresh instance goes on at `context.position`, after a pause, and nothing is emitted twice."""
    opened: list[Any] = []
    acked: list[int] = []
    closed: list[int] = []
    seen: list[int] = []

    class Breaks(Counts):
        def next_tuple(self) -> None:
            if self.n == 5 and len(opened) == 1:
                raise OSError("the source is gone")
            super().next_tuple()

        def close(self) -> None:
            closed.append(self.n)

    topology = rig.topology()
    topology.spout("breaks", partial(Breaks, 10, opened, acked))
    topology.bolt("seen", partial(Collect, seen), inputs="breaks")
    report = rig.run(topology)
    assert opened == [None, 5]
    assert closed == [5, 10]
    assert sorted(acked) == seen == list(range(1, 11))
    assert report.components["breaks"].roots.acked == 10
    assert "spout \"breaks\" task 0: next_tuple() raised OSError('the source is gone')" in caplog.text
    assert "a fresh instance takes over in 0.1 s" in caplog.text


def test_tasks_that_restart_together_do_not_disturb_each_others_positions(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENGINE 3.1, 3.3: a position is stored while that of another task is, and each fresh instance gets its own."""
    opened: dict[int, list[Any]] = {0: [], 1: []}
    held: dict[int, tuple[Any, Tuple]] = {}
    first, second = threading.Event(), threading.Event()

    def slowly(fd: int) -> None:
        if first.is_set():
            second.set()
        else:
            first.set()
            second.wait(0.3)  # who stores one at a time has nobody to wait for
        sync(fd)

    class Breaks(Spout):
        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            self.index = context.task_index
            opened[self.index].append(context.position)
            self.has_emitted = False

        def next_tuple(self) -> None:
            if len(opened[self.index]) == 2:
                self.end()
            elif self.has_emitted:
                raise OSError("the source is gone")
            else:
                self.has_emitted = True
                self.emit(self.index, id=self.index, position=1)

    class Holds(Bolt):
        auto_ack = False

        def process(self, n: int, tup: Tuple) -> None:
            held[n] = self, tup

    topology = rig.topology()
    topology.spout("breaks", Breaks, parallelism=2)
    topology.bolt("holds", Holds, inputs="breaks")
    running = topology.start()
    wait_until(lambda: len(held) == 2)
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", slowly)
    for n in (0, 1):
        bolt, tup = held.pop(n)
        bolt.ack(tup)
        assert first.wait(DEADLINE_S)  # the other is acked while the first is being stored
        del bolt, tup
    rig.finish(running)
    assert opened == {0: [None, 1], 1: [None, 1]}


def test_a_spout_that_raises_again_and_again_stops_the_run(rig: Rig) -> None:
    """ENGINE 3.3: restarts are limited; above the limit the run fails with the spout's exception."""

    class Broken(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            raise OSError("never")

    topology = rig.topology()
    topology.spout("broken", Broken, config={"restart_limit": 2})
    topology.bolt("quiet", Quiet, inputs="broken")
    error = rig.fails(topology)
    assert is_caused_by(error, OSError)
    assert "spout \"broken\" task 0: next_tuple() raised OSError('never')" in str(error)


def test_on_error_stop_stops_at_the_first_exception_of_a_spout(rig: Rig) -> None:
    """ENGINE 3.3: `on_error="stop"` holds for class spouts as well."""

    class Broken(Spout):
        outputs = ["n"]
        on_error = "stop"

        def next_tuple(self) -> None:
            raise OSError("at once")

    topology = rig.topology()
    topology.spout("broken", Broken)
    topology.bolt("quiet", Quiet, inputs="broken")
    assert is_caused_by(rig.fails(topology), OSError)


def test_a_generator_that_raises_stops_the_run(rig: Rig) -> None:
    """ENGINE 3.3: a generator cannot be resumed; what it yielded before was emitted, then the run fails."""
    seen: list[int] = []

    @spout(outputs=["n"])
    def breaks() -> Iterator[At]:
        yield At(1, 1)
        yield At(2, 2)
        raise OSError("torn")

    @bolt
    def note(n: int) -> None:
        seen.append(n)

    topology = rig.topology()
    topology.spout("breaks", breaks)
    topology.bolt("note", note, inputs="breaks")
    error = rig.fails(topology)
    assert is_caused_by(error, OSError)
    assert "spout \"breaks\" task 0: next_tuple() raised OSError('torn')" in str(error)
    assert error.report is not None
    assert error.report.components["breaks"].roots.emitted == 2


def test_a_pause_lets_trees_complete_and_ends_nothing(rig: Rig) -> None:  # noqa: C901
    """ENGINE 3.4: `deactivate`: no new roots; what is pending is acked, replays and ticks go on, the run lasts."""
    gate = threading.Event()
    calls: list[str] = []
    ticks: list[int] = []
    notes = Notes()

    class Pausable(Numbers):
        def activate(self) -> None:
            calls.append("activate")

        def deactivate(self) -> None:
            calls.append("deactivate")

        def next_tuple(self) -> None:
            if self.n >= 5 and not gate.is_set():
                return
            super().next_tuple()

    class Work(Bolt):
        tick_interval_s = 0.002
        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            held[:] = []

        def process(self, n: int, tup: Tuple) -> None:
            if n == 1 and tup.attempt == 1:
                raise ValueError(n)
            held.append((self, tup))

        def tick(self) -> None:
            ticks.append(1)

    held: list[tuple[Bolt, Tuple]] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Pausable, 10, notes=notes))
    topology.bolt("work", Work, inputs="numbers")
    running = topology.start()
    wait_until(lambda: len(held) == 5)
    running.deactivate()
    wait_until(lambda: calls == ["deactivate"])
    gate.set()
    before = len(ticks)
    for worker, tup in held[:3]:
        worker.ack(tup)
    worker, tup = held[3]
    worker.fail(tup, "once more")
    wait_until(lambda: len(held) == 6, "the replay during the pause")
    for worker, tup in held[4:]:
        worker.ack(tup)
    wait_until(lambda: len(notes.acked) == 5)
    wait_until(lambda: len(ticks) > before + 20)
    wait_until(lambda: running.report().components["numbers"].roots.acked == 5)
    assert running.report().components["numbers"].roots.emitted == 5
    assert running.wait(0.01) is None
    held.clear()
    running.activate()
    wait_until(lambda: len(held) == 5)
    assert calls == ["deactivate", "activate"]
    for worker, tup in held:
        worker.ack(tup)
    assert rig.finish(running).components["numbers"].roots.acked == 10


def test_a_run_that_is_paused_can_be_drained(rig: Rig) -> None:
    """ENGINE 3.4, 5.5: a pause does not keep a drain from ending the run."""
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 10**9))
    topology.bolt("identity", Identity, inputs="numbers")
    topology.bolt("quiet", Quiet, inputs="identity")
    running = topology.start()
    wait_until(lambda: running.report().components["quiet"].acked > 10)
    running.deactivate()
    wait_until(lambda: running.report().pending == 0)
    report = running.stop()
    assert (report.state, report.pending) == ("ended", 0)
