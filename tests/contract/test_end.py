"""The end: ENGINE 5.1, 5.2, 5.4 and 5.5, on the real engine. Cycles: test_cycles.py; signals: test_signals.py."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import DEADLINE_S, Collect, Identity, Notes, Numbers, Quiet, in_one_process, is_caused_by, wait_until

from rainband import BatchBolt, Bolt, DrainError, Spout, TaskContext, Tuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rig import Rig

CORE = Path(__file__).parents[2] / "rust" / "core" / "src"


class Pairs(Bolt):
    """Joins tuples two by two; lets a single one go in `flush`."""

    outputs = ["n"]
    auto_ack = False

    def __init__(self, flushes: list[int]) -> None:
        self.flushes = flushes

    def prepare(self, context: TaskContext) -> None:
        self.held: list[Tuple] = []

    def process(self, tup: Tuple) -> None:
        self.held.append(tup)
        if len(self.held) == 2:
            self.let_go()

    def let_go(self) -> None:
        self.emit(sum(tup["n"] for tup in self.held), anchors=self.held)
        for tup in self.held:
            self.ack(tup)
        self.held.clear()

    def flush(self) -> None:
        self.flushes.append(len(self.held))
        if self.held:
            self.let_go()


def test_flush_lets_a_join_go_before_the_end(rig: Rig) -> None:
    """ENGINE 5.1: a join that holds a tuple at the end of its input gives it up in `flush`; without it nothing ends."""
    flushes: list[int] = []
    seen: list[int] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 5))
    topology.bolt("pairs", partial(Pairs, flushes), inputs="numbers")
    topology.bolt("seen", partial(Collect, seen), inputs="pairs")
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 5
    assert sum(seen) == 15
    assert flushes[0] == 1


def test_flush_runs_again_if_replays_come_after_it(rig: Rig) -> None:
    """ENGINE 5.1: what `flush` let go and somebody failed comes back, is held again and let go again."""
    notes = Notes()
    flushes: list[int] = []

    class FailsFourTimes(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.calls = 0

        def process(self, n: int) -> None:
            self.calls += 1
            if self.calls <= 4:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 3, notes=notes))
    topology.bolt("pairs", partial(Pairs, flushes), inputs="numbers")
    topology.bolt("fails", FailsFourTimes, inputs="pairs")
    report = rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3]
    assert report.components["numbers"].roots.replays >= 4
    assert len(flushes) >= 2


def test_a_batch_is_flushed_by_itself_also_after_replays(rig: Rig) -> None:
    """ENGINE 5.1: `BatchBolt` lets its batch go at the flush, each time; nobody waits for `batch_interval_s`."""
    notes = Notes()
    batches: list[list[int]] = []

    class Store(BatchBolt):
        outputs = ["n"]
        batch_size = 4
        batch_interval_s = 60.0

        def process_batch(self, tuples: Sequence[Tuple]) -> None:
            batches.append([tup["n"] for tup in tuples])
            for tup in tuples:
                self.emit(tup["n"], anchors=tup)

    class FailsOnce(Bolt):
        def process(self, n: int, tup: Tuple) -> None:
            if tup.attempt == 1:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 6, notes=notes))
    topology.bolt("store", Store, inputs="numbers")
    topology.bolt("fails", FailsOnce, inputs="store")
    rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3, 4, 5, 6]
    assert batches[0] == [1, 2, 3, 4]
    assert sorted(n for batch in batches for n in batch) == sorted([1, 2, 3, 4, 5, 6] * 2)


def test_flush_waits_for_all_inputs(rig: Rig) -> None:
    """ENGINE 5.1, 5.4: a task's table of channels merges: one input that still runs keeps the flush back."""
    gate = threading.Event()
    events: list[str] = []

    class Slow(Numbers):
        def next_tuple(self) -> None:
            if gate.is_set():
                super().next_tuple()

    class Joins(Bolt):
        def process(self, n: int) -> None:
            events.append(f"process {n}")

        def flush(self) -> None:
            events.append("flush")

        def finish(self) -> None:
            events.append("finish")

    topology = rig.topology()
    topology.spout("quick", partial(Numbers, 3), parallelism=2)
    topology.spout("slow", partial(Slow, 1))
    topology.bolt("joins", Joins, inputs=["quick", "slow"])
    running = topology.start()
    wait_until(lambda: len(events) == 6)
    assert running.wait(0.05) is None
    assert len(events) == 6
    gate.set()
    rig.finish(running)
    assert events[6:] in (["process 1", "flush", "finish"], ["process 1", "flush", "flush", "finish"])


def test_a_standstill_at_max_pending_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """ENGINE 5.1: spouts at `max_pending` and everything held by bolts: a warning names those bolts."""
    topology = rig.topology(max_pending=3, ack_timeout_s=60.0)
    topology.spout("numbers", partial(Numbers, 10))
    topology.bolt("waits", Gathers, inputs="numbers")
    running = topology.start()
    wait_until(lambda: "nothing moves" in caplog.text)
    assert 'these bolts hold all that is pending: "waits" task 1 (3)' in caplog.text
    assert "raise max_pending or ack sooner" in caplog.text
    running.stop(now=True)


class Gathers(Bolt):
    """Holds everything until the flush."""

    auto_ack = False

    def prepare(self, context: TaskContext) -> None:
        self.held: list[Tuple] = []

    def process(self, tup: Tuple) -> None:
        self.held.append(tup)

    def flush(self) -> None:
        for tup in self.held:
            self.ack(tup)
        self.held.clear()


def test_finish_runs_once_after_everything(rig: Rig) -> None:
    """ENGINE 5.2: `finish` exactly once a task, after all inputs, with no `process` or `tick` after it."""
    calls: dict[int, list[str]] = {}

    class Notices(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.001

        def prepare(self, context: TaskContext) -> None:
            self.mine = calls.setdefault(context.task_id, [])

        def process(self, n: int, tup: Tuple) -> None:
            self.mine.append("process")
            if tup.attempt == 1 and n % 3 == 0:
                raise ValueError(n)

        def tick(self) -> None:
            self.mine.append("tick")

        def finish(self) -> None:
            self.mine.append("finish")
            time.sleep(0.01)
            self.emit("last")

        def close(self) -> None:
            self.mine.append("close")

    seen: list[Any] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 100), parallelism=2)
    topology.bolt("notices", Notices, inputs="numbers", parallelism=2, tasks=3)
    topology.bolt("seen", partial(Collect, seen), inputs="notices")
    rig.run(topology)
    assert len(calls) == 3
    for mine in calls.values():
        assert mine.count("finish") == mine.count("close") == 1
        assert mine[-1] == "close"
        after = mine[mine.index("finish") + 1 : -1]
        assert "process" not in after
    assert seen == ["last"] * 3
    assert sum(mine.count("process") for mine in calls.values()) == 200 + 66


@pytest.mark.parametrize("tracked", [True, False])
def test_finish_comes_behind_all_tuples(rig: Rig, tracked: bool) -> None:
    """ENGINE 5.2: end-of-stream is in band: untracked tuples that wait in the queue are processed before `finish`."""
    counts: list[int] = []

    class Slow(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.n = 0

        def process(self, n: int) -> None:
            time.sleep(0.0005)
            self.n += 1
            self.emit(n)

        def flush(self) -> None:
            counts.append(self.n)

        def finish(self) -> None:
            counts.append(self.n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 150, tracked=tracked))
    topology.bolt("slow", Slow, inputs="numbers")
    topology.bolt("slower", Slow, inputs="slow")
    rig.run(topology)
    assert set(counts) == {150}


def test_what_finish_emits_is_resolved_before_the_next_task_finishes(rig: Rig) -> None:
    """ENGINE 5.2: end-of-stream goes on when what was emitted in `finish` is resolved, replays included."""
    order: list[str] = []

    class Last(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.name = context.component

        def process(self, n: Any, tup: Tuple) -> None:
            if tup.component != "numbers":
                order.append(f"{self.name} process {tup.attempt}")
                if tup.attempt < 3:
                    raise ValueError(n)

        def finish(self) -> None:
            order.append(f"{self.name} finish")
            self.emit("words")

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("a", Last, inputs="numbers")
    topology.bolt("b", Last, inputs="a")
    topology.bolt("c", Quiet, inputs="b")
    report = rig.run(topology)
    assert order == ["a finish", "b process 1", "b process 2", "b process 3", "b finish"]
    assert report.components["a"].roots.acked == report.components["b"].roots.acked == 1


def test_finish_waits_for_held_tuples(rig: Rig) -> None:
    """ENGINE 5.2: a manual bolt that acks from a thread of its own finishes after the last ack."""
    order: list[str] = []

    class Later(Bolt):
        auto_ack = False

        def process(self, tup: Tuple) -> None:
            thread = threading.Timer(0.05, self.late, [tup])
            thread.start()

        def late(self, tup: Tuple) -> None:
            order.append("ack")
            self.ack(tup)

        def finish(self) -> None:
            order.append("finish")

    for tracked in (True, False):
        order.clear()
        topology = rig.topology()
        topology.spout("numbers", partial(Numbers, 5, tracked=tracked))
        topology.bolt("later", Later, inputs="numbers")
        rig.run(topology)
        assert order == ["ack"] * 5 + ["finish"]


def test_many_producers_and_consumers_end_once(rig: Rig) -> None:
    """ENGINE 5.2, 5.4: end-of-stream of every producer task is needed, however they are wired."""
    finished: list[str] = []

    class Ends(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.name = context.component

        def process(self, n: int) -> None:
            assert self.name not in finished
            self.emit(n)

        def finish(self) -> None:
            finished.append(self.name)

    seen: list[int] = []
    topology = rig.topology(queue_capacity=8)
    topology.spout("one", partial(Numbers, 50), parallelism=3)
    topology.spout("two", partial(Numbers, 10), parallelism=1)
    topology.bolt("a", Ends, inputs=["one", "two"], parallelism=3)
    topology.bolt("b", Ends, inputs=["a", "two"], parallelism=2)
    topology.bolt("seen", partial(Collect, seen), inputs=["a", "b", "one"])
    rig.run(topology)
    assert sorted(finished) == ["a"] * 3 + ["b"] * 2
    assert len(seen) == 160 + 170 + 150


@in_one_process("runs no topology")
def test_the_envelope_has_room_for_a_stamp() -> None:
    """ENGINE 5.4: the head of every envelope carries `stamp: u64`, inherited as the maximum of the anchors."""
    head = re.search(r"pub struct Head \{(.*?)\n\}", (CORE / "tuple.rs").read_text(), re.DOTALL)
    assert head is not None
    assert re.search(r"pub stamp: u64,", head[1])
    assert re.search(r"stamp = head\.stamp\.max\(anchor\.head\.stamp\)", (CORE / "emit.rs").read_text())


class Endless(Spout):
    outputs = ["n"]

    def open(self, context: TaskContext) -> None:
        self.n = 0

    def next_tuple(self) -> None:
        self.n += 1
        self.emit(self.n, id=self.n)


def test_stop_drains(rig: Rig) -> None:
    """ENGINE 5.5: a drain ends the spouts, resolves what is pending, flushes and finishes, and closes."""
    flushes: list[int] = []
    seen: list[int] = []
    finished: list[str] = []

    class Ends(Quiet):
        def finish(self) -> None:
            finished.append("finish")

    topology = rig.topology()
    topology.spout("endless", Endless)
    topology.bolt("pairs", partial(Pairs, flushes), inputs="endless")
    topology.bolt("seen", partial(Collect, seen), inputs="pairs")
    topology.bolt("ends", Ends, inputs="pairs")
    running = topology.start()
    wait_until(lambda: len(seen) > 100)
    report = running.stop()
    assert (report.state, report.pending) == ("ended", 0)
    assert flushes
    assert finished == ["finish"]
    assert report.components["endless"].roots.acked == report.components["endless"].roots.emitted


def test_a_drain_that_runs_out_of_time_says_what_is_pending(rig: Rig) -> None:
    """ENGINE 1.1, 5.5: after `drain_timeout_s` the run stops; the error and its report list what was not resolved."""
    closed: list[str] = []

    class Keeps(Gathers):
        def flush(self) -> None: ...

        def close(self) -> None:
            closed.append("keeps")

    topology = rig.topology(drain_timeout_s=0.2, ack_timeout_s=60.0, max_pending=5)
    topology.spout("endless", Endless)
    topology.bolt("keeps", Keeps, inputs="endless")
    running = topology.start()
    wait_until(lambda: running.report().pending == 5)
    with pytest.raises(DrainError, match=r"the drain ran out of its 0.2 s; 5 pending: spout \"endless\" task 0 id 1 "):
        running.stop()
    assert closed == ["keeps"]
    assert sorted(root.id for root in running.report().pending_roots) == [1, 2, 3, 4, 5]


def test_off_the_main_thread_no_handlers_are_installed(rig: Rig) -> None:
    """ENGINE 5.5: `run` works on any thread and leaves signals alone there."""
    import signal  # noqa: PLC0415

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[Any] = []
    reports: list[Any] = []

    class Looks(Bolt):
        def process(self, n: int) -> None:
            seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("looks", Looks, inputs="numbers")
    thread = threading.Thread(target=lambda: reports.append(topology.run()))
    thread.start()
    thread.join(DEADLINE_S)
    assert [report.state for report in reports] == ["ended"]
    assert seen == [before]
    reports.append(topology.run())
    assert seen[1] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("place", ["open", "next_tuple", "prepare", "process", "finish", "nowhere"])
def test_every_task_that_was_opened_is_closed(rig: Rig, place: str) -> None:  # noqa: C901
    """ENGINE 5.5: `close` runs once for every task that was opened, also after errors, and on the task's thread.

    One whose `open` raised was not opened: what its `close` would close is not there.
    """
    calls: list[tuple[str, str, int]] = []

    class Source(Numbers):
        on_error = "stop"

        def open(self, context: TaskContext) -> None:
            if place == "open":
                raise ValueError(place)
            calls.append(("open", "source", threading.get_ident()))

        def next_tuple(self) -> None:
            if place == "next_tuple" and self.n == 3:
                raise ValueError(place)
            super().next_tuple()

        def close(self) -> None:
            calls.append(("close", "source", threading.get_ident()))

    class Work(Bolt):
        on_error = "stop"

        def prepare(self, context: TaskContext) -> None:
            if place == "prepare":
                raise ValueError(place)
            calls.append(("open", "work", threading.get_ident()))

        def process(self, n: int) -> None:
            if place == "process":
                raise ValueError(place)

        def finish(self) -> None:
            if place == "finish":
                raise ValueError(place)

        def close(self) -> None:
            calls.append(("close", "work", threading.get_ident()))
            raise RuntimeError("close fails as well")

    topology = rig.topology()
    topology.spout("source", partial(Source, 10), parallelism=2)
    topology.bolt("work", Work, inputs="source", parallelism=2)
    if place == "nowhere":
        rig.run(topology)
    else:
        error = rig.fails(topology)
        assert is_caused_by(error, ValueError)
    opened = sorted((name, thread) for call, name, thread in calls if call == "open")
    closed = sorted((name, thread) for call, name, thread in calls if call == "close")
    assert opened == closed
    names = {name for name, _ in opened}
    if place in {"open", "prepare"}:
        assert {"open": "source", "prepare": "work"}[place] not in names  # whether the others came so far is chance
    else:
        assert names == {"source", "work"}


class EndlessSpout(Spout):
    outputs = ["n"]

    def __init__(self, over: threading.Event) -> None:
        self.over = over

    def next_tuple(self) -> None:
        while not self.over.is_set():
            self.emit(0)


class EndlessBolt(Bolt):
    outputs = ["n"]

    def __init__(self, over: threading.Event) -> None:
        self.over = over

    def process(self, n: int) -> None:
        while not self.over.is_set():
            self.emit(n)


class EndlessGenerator(EndlessBolt):
    def process(self, n: int) -> Any:
        while not self.over.is_set():
            yield n


@pytest.mark.parametrize("kind", [EndlessSpout, EndlessBolt, EndlessGenerator])
def test_a_call_that_emits_without_end_is_stopped(rig: Rig, kind: Any) -> None:
    """ENGINE 5.5: a stop is at once also for a call that would never return by itself: its emit raises."""
    over = threading.Event()
    endless = partial(kind, over)
    topology = rig.topology(queue_capacity=10)
    topology.spout("source", endless if kind is EndlessSpout else partial(Numbers, 1))
    topology.bolt("work", Identity if kind is EndlessSpout else endless, inputs="source")
    topology.bolt("quiet", Quiet, inputs="work")
    running = topology.start()
    try:
        wait_until(lambda: running.report().components["quiet"].executed > 100)
        began = time.monotonic()
        assert running.stop(now=True).state == "stopped"
        assert time.monotonic() - began < 3
        assert not [thread for thread in running._threads.all if thread.is_alive()]
    finally:
        over.set()  # without the rule it would burn a core until the end of all tests


def test_a_report_can_be_had_at_any_time(rig: Rig) -> None:
    """ENGINE 5.5: `wait` with a timeout is None while the run lasts; afterwards all give the same report."""
    topology = rig.topology()
    topology.spout("endless", Endless)
    topology.bolt("identity", Identity, inputs="endless")
    topology.bolt("quiet", Quiet, inputs="identity")
    running = topology.start()
    assert running.wait(0.01) is None
    report = running.stop()
    assert running.wait() is report
    assert running.report() is report
    assert running.stop(now=True) is report
