"""Queues and flow: ENGINE section 4 without cycles, on the real engine."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import pytest
from rig import DEADLINE_S, Collect, Gate, Identity, Notes, Numbers, Quiet, in_one_process, wait_until

from rainband import BatchBolt, Bolt, Spout, TaskContext, TopologyError, Tuple, grouping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rig import Rig


@in_one_process("a queue counts tuples, a link bytes")
def test_a_full_queue_holds_its_producers_back_up_to_the_spout(rig: Rig) -> None:
    """ENGINE 4.1: with the last bolt standing still every queue before it fills to its capacity and no further."""
    gate = threading.Event()
    seen: list[int] = []
    topology = rig.topology(queue_capacity=10, max_pending=10_000)
    topology.spout("numbers", partial(Numbers, 1000))
    topology.bolt("first", Identity, inputs="numbers")
    topology.bolt("gate", partial(Gate, gate), inputs="first")
    topology.bolt("seen", partial(Collect, seen), inputs="gate")
    running = topology.start()

    def stands() -> bool:
        before = running.report()
        time.sleep(0.05)
        after = running.report()
        return [c.executed for c in before.components.values()] == [c.executed for c in after.components.values()]

    wait_until(lambda: running.report().components["gate"].queue >= 10)
    wait_until(stands)
    report = running.report()
    assert [component.queue for component in report.components.values()][1:] == [10, 10, 0]
    # A batch of 64 may be in each task's hands and in each outbox.
    assert report.components["numbers"].roots.emitted <= 2 * 10 + 4 * 64
    gate.set()
    report = rig.finish(running)
    assert seen == list(range(1, 1001))
    assert report.components["numbers"].roots.acked == 1000


def test_queues_are_bounded_in_bytes_too(rig: Rig) -> None:
    """ENGINE 4.1: `queue_bytes` holds producers back too; a tuple larger than it still passes alone."""
    gate = threading.Event()
    seen: list[int] = []

    class Large(Numbers):
        def next_tuple(self) -> None:
            if self.n >= self.stop:
                self.end()
                return
            self.n += 1
            self.emit(bytes(100_000), id=self.n)
            time.sleep(0.0002)  # a slice of its own

    class Sizes(Bolt):
        def process(self, n: bytes) -> None:
            assert gate.wait(DEADLINE_S)
            seen.append(len(n))

    topology = rig.topology()
    topology.spout("large", partial(Large, 200))
    topology.bolt("sizes", Sizes, inputs="large", config={"queue_bytes": 1_000_000})
    running = topology.start()
    wait_until(lambda: running.report().components["sizes"].queue >= 8)
    time.sleep(0.05)
    assert running.report().components["sizes"].queue <= 11
    assert running.report().components["large"].roots.emitted <= 15
    gate.set()
    rig.finish(running)
    assert seen == [100_000] * 200
    again = rig.topology()
    again.spout("large", partial(Large, 5))
    again.bolt("sizes", Sizes, inputs="large", config={"queue_bytes": 10})
    assert rig.run(again).components["large"].roots.acked == 5


@in_one_process("counts what passes: a link lets a section more through than a queue")
def test_queue_bytes_hold_replays_back_too(rig: Rig) -> None:
    """ENGINE 4.1: a replay is as large as its tuple was, and waits for room like it."""
    gate = threading.Event()
    failed: list[int] = []

    class Large(Numbers):
        def next_tuple(self) -> None:
            if self.n >= self.stop:
                self.end()
                return
            self.n += 1
            self.emit(bytes(100_000), id=self.n)

    class FailsFirst(Bolt):
        queue_bytes = 1_000_000

        def process(self, tup: Tuple) -> None:
            if tup.attempt == 1:
                failed.append(1)
                raise ValueError
            assert gate.wait(DEADLINE_S)

    topology = rig.topology(retry_backoff_s=0.1)
    topology.spout("large", partial(Large, 50))
    topology.bolt("fails", FailsFirst, inputs="large")
    running = topology.start()
    wait_until(lambda: len(failed) == 50)
    wait_until(lambda: running.report().components["fails"].queue >= 8)
    time.sleep(0.1)  # by then all are due
    queued = running.report().components["fails"].queue
    gate.set()
    report = rig.finish(running)
    assert queued <= 11
    assert report.components["large"].roots.acked == 50


def test_a_spout_is_woken_for_few_places_too(rig: Rig) -> None:
    """ENGINE 4.1, 4.6: with most of `max_pending` held by a bolt, the places that get free are used at once."""

    class Holds(Bolt):
        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            self.held: list[Tuple] = []

        def process(self, n: int, tup: Tuple) -> None:
            if n <= 90:
                self.held.append(tup)
            else:
                self.ack(tup)

        def flush(self) -> None:
            for tup in self.held:
                self.ack(tup)
            self.held.clear()

    class Plain(Spout):
        """Has no `ack`, so it need not be woken for each."""

        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            self.n = 0

        def next_tuple(self) -> None:
            self.n += 1
            if self.n > 290:
                self.end()
            else:
                self.emit(self.n, id=self.n)

    topology = rig.topology(max_pending=100)
    topology.spout("plain", Plain)
    topology.bolt("holds", Holds, inputs="plain")
    began = time.monotonic()
    report = rig.run(topology)
    assert report.components["plain"].roots.acked == 290
    assert time.monotonic() - began < 0.5, "ten places at a time, each time at the timer's look"


@pytest.mark.parametrize("max_pending", [1, 7, 1000])
def test_max_pending_with_a_fan_out_of_1000(rig: Rig, max_pending: int) -> None:
    """ENGINE 4.1: `max_pending` counts roots, not tuples; each may be as large as it likes, with any queue."""
    pending: list[int] = []
    started = threading.Event()

    class Fans(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            assert started.wait(DEADLINE_S)
            pending.append(running.report().components["numbers"].roots.pending)
            for i in range(1000):
                self.emit(i)

    count = 30
    seen: list[int] = []
    topology = rig.topology(max_pending=max_pending, queue_capacity=16)
    topology.spout("numbers", partial(Numbers, count))
    topology.bolt("fans", Fans, inputs="numbers")
    topology.bolt("seen", partial(Collect, seen), inputs="fans", parallelism=2)
    running = topology.start()
    started.set()
    report = rig.finish(running)
    assert len(seen) == count * 1000
    assert max(pending) <= max_pending
    assert report.components["numbers"].roots.acked == count


def test_nothing_is_dropped_whatever_the_capacity(rig: Rig) -> None:
    """ENGINE 4.1: untracked tuples, which nobody replays, all arrive through queues of one."""
    seen: list[int] = []
    topology = rig.topology(queue_capacity=1)
    topology.spout("numbers", partial(Numbers, 1000, tracked=False))
    topology.bolt("a", Identity, inputs="numbers", parallelism=2)
    topology.bolt("b", Identity, inputs="a", parallelism=2)
    topology.bolt("seen", partial(Collect, seen), inputs="b")
    rig.run(topology)
    assert sorted(seen) == list(range(1, 1001))


def test_first_in_first_out_per_producer_consumer_and_stream(rig: Rig) -> None:
    """ENGINE 4.5: between two tasks the tuples of one stream keep their order, with slices and full queues between."""
    orders: dict[tuple[int, int, str], list[int]] = defaultdict(list)

    class Marks(Bolt):
        streams = {"some": ["n"], "others": ["n"]}

        def process(self, n: int) -> None:
            self.emit(n, stream="others" if n % 3 else "some")

    class Looks(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.task = context.task_id

        def process(self, n: int, tup: Tuple) -> None:
            orders[tup.task, self.task, tup.stream].append(n)

    topology = rig.topology(queue_capacity=5)
    topology.spout("numbers", partial(Numbers, 3000))
    topology.bolt("marks", Marks, inputs="numbers", parallelism=2)
    topology.bolt(
        "looks", Looks, inputs={"marks.some": grouping.shuffle(), "marks.others": grouping.fields("n")}, parallelism=2
    )
    rig.run(topology)
    assert len(orders) == 8
    assert sum(map(len, orders.values())) == 3000
    assert all(order == sorted(order) for order in orders.values())


def test_an_output_waits_for_the_call_in_progress_at_most(rig: Rig) -> None:
    """ENGINE 4.6: a slow bolt with a full queue hands over after every call, not after its batch."""
    events: list[tuple[str, int]] = []

    class Slow(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            time.sleep(0.01)
            self.emit(n)
            events.append(("emitted", n))

    class Sees(Bolt):
        def process(self, n: int) -> None:
            events.append(("seen", n))

    acked: list[int] = []

    class Watched(Numbers):
        def ack(self, id: int) -> None:  # noqa: A002
            acked.append(len([event for event, _ in events if event == "emitted"]) - id)

    topology = rig.topology()
    topology.spout("numbers", partial(Watched, 40))
    topology.bolt("slow", Slow, inputs="numbers")
    topology.bolt("sees", Sees, inputs="slow")
    rig.run(topology)
    lags = [events.index(("seen", n)) - events.index(("emitted", n)) for n in range(1, 41)]
    assert sorted(lags)[36] <= 3, "outputs waited for later calls"
    assert sorted(acked)[36] <= 2, "acks waited for later calls"


@in_one_process("a queue counts tuples, a link bytes")
def test_one_slow_task_does_not_hoard_work(rig: Rig) -> None:
    """ENGINE 4.6: of two tasks one is stuck in a call; what waits behind that call is a slice, not a queue."""
    gate = threading.Event()
    done: list[int] = []

    class Work(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.index = context.task_index

        def process(self, n: int) -> None:
            time.sleep(0.0005)
            if self.index == 0 and not gate.is_set():
                assert gate.wait(DEADLINE_S)
            done.append(n)

    topology = rig.topology(queue_capacity=4, max_pending=10_000)
    topology.spout("numbers", partial(Numbers, 300))
    topology.bolt("work", Work, inputs="numbers", parallelism=2)
    running = topology.start()
    try:
        wait_until(lambda: len(done) >= 290, within_s=5)
    finally:
        gate.set()
        rig.finish(running)


@in_one_process("a queue counts tuples, a link bytes")
def test_ticks_come_on_time_while_the_queue_is_full(rig: Rig) -> None:
    """ENGINE 4.6: ticks of 0.05 s are looked at between tuples and come although the inbox never empties."""
    over = threading.Event()
    ticks: list[float] = []
    fills: list[int] = []

    class Busy(Bolt):
        tick_interval_s = 0.05

        def process(self, n: int) -> None:
            time.sleep(0.0005)

        def tick(self) -> None:
            ticks.append(time.monotonic())
            fills.append(running.report().components["busy"].queue)
            if len(ticks) == 20:
                over.set()

    class Endless(Numbers):
        def next_tuple(self) -> None:
            if over.is_set():
                self.end()
            else:
                super().next_tuple()

    topology = rig.topology(max_pending=100_000, queue_capacity=200)
    topology.spout("endless", partial(Endless, 10**9))
    topology.bolt("busy", Busy, inputs="endless")
    running = topology.start()
    rig.finish(running)
    assert sorted(fills)[len(fills) // 2] >= 100, "the queue was not full"
    gaps = sorted(after - before for before, after in itertools.pairwise(ticks))
    assert 0.045 <= gaps[len(gaps) // 2] < 0.075


def test_ticks_do_not_pile_up(rig: Rig) -> None:
    """ENGINE 4.6: a call as long as twenty intervals costs those ticks; they are not made up for."""
    ticks: list[float] = []

    class Sleeps(Bolt):
        tick_interval_s = 0.02

        def process(self, n: int) -> None:
            time.sleep(0.2)

        def tick(self) -> None:
            ticks.append(time.monotonic())

    class Late(Numbers):
        def next_tuple(self) -> None:
            if self.n == 0 or len(ticks) > 8:
                super().next_tuple()

    topology = rig.topology()
    topology.spout("late", partial(Late, 2))
    topology.bolt("sleeps", Sleeps, inputs="late")
    rig.run(topology)
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(gap > 0.005 for gap in gaps), "two ticks at once"


@in_one_process("a queue counts tuples, a link bytes")
def test_a_task_that_is_blocked_on_output_ticks_when_that_ends(rig: Rig) -> None:
    """ENGINE 4.6: no tick runs in the middle of an emit; the next one comes as soon as there is room."""
    gate = threading.Event()
    ticks: list[int] = []
    done: list[int] = []

    class Fans(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.005

        def prepare(self, context: TaskContext) -> None:
            self.is_inside = False

        def process(self, n: int) -> None:
            self.is_inside = True
            for i in range(500):
                self.emit(i)
            self.is_inside = False
            done.append(len(ticks))

        def tick(self) -> None:
            assert not self.is_inside
            ticks.append(1)

    topology = rig.topology(queue_capacity=1)
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("fans", Fans, inputs="numbers")
    topology.bolt("gate", partial(Gate, gate), inputs="fans")
    topology.bolt("quiet", Quiet, inputs="gate")
    running = topology.start()
    wait_until(lambda: running.report().components["gate"].queue == 1)
    time.sleep(0.03)
    gate.set()
    report = rig.finish(running)
    assert report.components["quiet"].executed == 500
    assert report.components["fans"].failed == {}
    assert report.components["numbers"].roots.replays == 0


def test_a_batch_interval_is_finite(rig: Rig) -> None:
    """ENGINE 4.7: no batch waits for ever: infinite and unbounded intervals are refused when wired."""

    class Store(BatchBolt):
        def process_batch(self, tuples: Sequence[Tuple]) -> None: ...

    for interval in (math.inf, math.nan, 0.0, -1.0, 1e9, None):
        topology = rig.topology()
        topology.spout("numbers", partial(Numbers, 1))
        topology.bolt("store", Store, inputs="numbers", config={"batch_interval_s": interval})
        with pytest.raises(TopologyError, match="batch_interval_s"):
            topology.check()


@pytest.mark.parametrize(
    ("max_pending", "tasks", "size", "fills"), [(9, 1, 10, False), (10, 1, 10, True), (5, 2, 10, True)]
)
def test_a_batch_that_never_fills_is_refused(rig: Rig, max_pending: int, tasks: int, size: int, fills: bool) -> None:
    """ENGINE 4.7: a `batch_size` above what `max_pending` of its spouts lets through can never fill."""

    class Store(BatchBolt):
        batch_size = size

        def process_batch(self, tuples: Sequence[Tuple]) -> None: ...

    topology = rig.topology(max_pending=max_pending)
    topology.spout("numbers", partial(Numbers, 20), parallelism=tasks)
    topology.bolt("store", Store, inputs="numbers")
    if fills:
        assert rig.run(topology).components["numbers"].roots.acked == 20 * tasks
    else:
        with pytest.raises(TopologyError, match="batch_size"):
            topology.check()


def test_a_generator_waits_for_room_in_the_middle(rig: Rig) -> None:
    """ENGINE 4.1: a generator that yields 10,000 tuples for one input goes through queues of ten."""
    seen: list[int] = []

    class Expands(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> Iterator[int]:
            yield from range(10_000)

    notes = Notes()
    topology = rig.topology(queue_capacity=10)
    topology.spout("numbers", partial(Numbers, 2, notes=notes))
    topology.bolt("expands", Expands, inputs="numbers")
    topology.bolt("seen", partial(Collect, seen), inputs="expands")
    rig.run(topology)
    assert seen == list(range(10_000)) * 2
    assert notes.acked == [1, 2]


def test_several_emits_in_one_call_may_pass_max_pending_by_that_call(rig: Rig) -> None:
    """ENGINE 4.1: at the limit a spout is not asked again; what one call emitted before counts."""
    pending: list[int] = []

    class Bursts(Spout):
        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            self.calls = 0

        def next_tuple(self) -> None:
            self.calls += 1
            if self.calls > 20:
                self.end()
                return
            for n in range(10):
                self.emit(n, id=n)

    class Looks(Bolt):
        def process(self, n: int) -> None:
            assert started.wait(DEADLINE_S)
            pending.append(running.report().components["bursts"].roots.pending)

    started = threading.Event()
    topology = rig.topology(max_pending=5)
    topology.spout("bursts", Bursts)
    topology.bolt("looks", Looks, inputs="bursts")
    running = topology.start()
    started.set()
    report = rig.finish(running)
    assert report.components["bursts"].roots.acked == 200
    assert max(pending) <= 14
