"""Cycles: ENGINE 4.2 and 5.3, on the real engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from rig import DEADLINE_S, Collect, Identity, Notes, Numbers, wait_until

from rainband import Bolt, EmitError, Reject, TaskContext, Tuple, grouping

if TYPE_CHECKING:
    from rig import Rig


class Grows(Bolt):
    """Sends each tuple round `depth` times, with a fan-out, and those of the last round out."""

    streams = {"again": ["n", "round"], "out": ["n"]}

    def __init__(self, depth: int, fan_out: int) -> None:
        self.depth = depth
        self.fan_out = fan_out

    def process(self, n: int, round: int = 0) -> None:  # noqa: A002
        if round == self.depth:
            self.emit(n, stream="out")
            return
        for _ in range(self.fan_out):
            self.emit(n, round + 1, stream="again")


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("tracked", [True, False])
def test_a_loop_with_queues_of_one_and_a_fan_out_of_three(rig: Rig, tasks: int, tracked: bool) -> None:
    """ENGINE 4.2, 4.3: a back edge never blocks: 3^5 tuples a root through queues of one, and the loop ends."""
    seen: list[int] = []
    topology = rig.topology(queue_capacity=1, max_pending=4)
    topology.spout("numbers", partial(Numbers, 8, tracked=tracked))
    topology.bolt("grows", partial(Grows, 5, 3), inputs=["numbers", "grows.again"], parallelism=tasks)
    topology.bolt("seen", partial(Collect, seen), inputs="grows.out")
    report = rig.run(topology)
    assert Counter(seen) == dict.fromkeys(range(1, 9), 3**5)
    assert report.components["grows"].failed == {}
    if tracked:
        assert report.components["numbers"].roots.acked == 8


def test_a_loop_over_several_bolts(rig: Rig) -> None:
    """ENGINE 4.2, 5.3: a cycle of three components with several tasks each passes everything and ends as one."""
    seen: list[int] = []
    topology = rig.topology(queue_capacity=1, max_pending=2)
    topology.spout("numbers", partial(Numbers, 10), parallelism=2)
    topology.bolt("grows", partial(Grows, 4, 2), inputs=["numbers", "two"], parallelism=2)
    topology.bolt("one", Pairs, inputs="grows.again", parallelism=3)
    topology.bolt("two", Pairs, inputs="one", parallelism=2)
    topology.bolt("seen", partial(Collect, seen), inputs="grows.out")
    report = rig.run(topology)
    assert Counter(seen) == dict.fromkeys(range(1, 11), 2 * 2**4)
    assert report.components["numbers"].roots.acked == 20


class Pairs(Bolt):
    """Passes (n, round) on."""

    outputs = ["n", "round"]

    def process(self, n: int, round: int) -> None:  # noqa: A002
        self.emit(n, round)


def test_collatz_with_failures_on_the_way(rig: Rig) -> None:
    """ENGINE 4.2, 5.3: replays of roots that failed in a loop go round again, and the loop still ends."""
    notes = Notes()
    steps: Counter[int] = Counter()

    class Step(Bolt):
        streams = {"next": ["n", "start"], "done": ["start"]}

        def prepare(self, context: TaskContext) -> None:
            self.calls = 0

        def process(self, n: int, tup: Tuple, start: int | None = None) -> None:
            self.calls += 1
            if self.calls % 20 == 0 and tup.attempt <= 3:
                raise ValueError(n)
            start = n if start is None else start
            if n == 1:
                self.emit(start, stream="done")
            else:
                self.emit(n // 2 if n % 2 == 0 else 3 * n + 1, start, stream="next")

    class Done(Bolt):
        def process(self, start: int) -> None:
            steps[start] += 1

    topology = rig.topology(queue_capacity=4)
    topology.spout("numbers", partial(Numbers, 30, notes=notes))
    topology.bolt("step", Step, inputs=["numbers", "step.next"], parallelism=2)
    topology.bolt("done", Done, inputs="step.done")
    report = rig.run(topology)
    assert sorted(notes.acked) == list(range(1, 31))
    assert set(steps) == set(range(1, 31))
    assert report.components["numbers"].roots.replays > 0


@pytest.mark.parametrize("tracked", [True, False])
def test_a_loop_that_outgrows_its_bytes_fails_its_roots(rig: Rig, tracked: bool) -> None:
    """ENGINE 4.2: beyond `loop_bytes` the root fails with `loop full`; an untracked tuple is dropped and counted."""
    notes = Notes()
    passed: list[int] = []

    class Doubles(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            passed.append(n)
            if len(passed) < 3000:
                self.emit(n)
                self.emit(n)

    topology = rig.topology(max_attempts=1, max_hops=10**6)
    topology.spout("numbers", partial(Numbers, 1, notes=notes, tracked=tracked))
    topology.bolt("doubles", Doubles, inputs=["numbers", "doubles"], config={"loop_bytes": 10_000})
    report = rig.run(topology)
    assert report.components["doubles"].failed["loop full"] > 0
    if tracked:
        assert [failure.reason for _, failure in notes.dead] == ["loop full"]
        assert "bytes wait on the back edge to" in notes.dead[0][1].error
    else:
        assert report.counters["loop_dropped"] > 0
        assert report.components["doubles"].roots.untracked_failed == report.counters["loop_dropped"]


def test_a_back_edge_is_first_in_first_out(rig: Rig) -> None:
    """ENGINE 4.2: a queue in memory, but a queue: tuples come out of a back edge in the order they went in."""
    order: list[int] = []

    class Once(Bolt):
        streams = {"back": ["n", "came"]}

        def process(self, n: int, came: str = "") -> None:
            if came:
                order.append(n)
            else:
                self.emit(n, "back", stream="back")

    topology = rig.topology(queue_capacity=3)
    topology.spout("numbers", partial(Numbers, 2000))
    topology.bolt("once", Once, inputs=["numbers", "once.back"])
    rig.run(topology)
    assert order == list(range(1, 2001))


def test_a_cycle_ends_as_one(rig: Rig) -> None:
    """ENGINE 5.3: no `finish` of a member runs while an envelope, also an untracked one, is in flight inside."""
    events: list[str] = []
    flying = Counter[str]()
    guard = threading.Lock()

    class Member(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.name = f"{context.component} {context.task_index}"

        def process(self, n: int) -> None:
            if n <= 1:
                with guard:
                    flying["done"] += 1
                return
            self.emit(n - 1, anchors=[])

        def finish(self) -> None:
            with guard:
                events.append(self.name)
                events.append(f"done {flying['done']}")

        def close(self) -> None:
            events.append(f"closed {self.name}")

    topology = rig.topology(queue_capacity=2)
    topology.spout("numbers", partial(Numbers, 60))
    topology.bolt("a", Member, inputs=["numbers", "b"], parallelism=2)
    topology.bolt("b", Member, inputs="a", parallelism=2)
    topology.bolt("after", Identity, inputs="b")
    rig.run(topology)
    finished = [event for event in events if event[0] in "ab"]
    assert sorted(finished) == ["a 0", "a 1", "b 0", "b 1"]
    assert {event for event in events if event.startswith("done")} == {f"done {flying['done']}"}
    # `after` hangs on b, so what b let out was counted as well; every chain came down to 1 before any finish.
    assert flying["done"] >= 60


def test_held_tuples_keep_a_cycle_alive(rig: Rig) -> None:
    """ENGINE 5.3: a member that holds a tuple un-acked can still send: the cycle is not over."""
    held: list[tuple[Any, Tuple]] = []
    finished: list[int] = []
    seen: list[int] = []

    class Holds(Bolt):
        outputs = ["n"]
        auto_ack = False

        def process(self, n: int, tup: Tuple) -> None:
            seen.append(n)
            if n == 5:
                held.append((self, tup))
            else:
                if n < 5:
                    self.emit(n + 1, anchors=[])
                self.ack(tup)

        def finish(self) -> None:
            finished.append(len(seen))

    topology = rig.topology(ack_timeout_s=60.0)
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("holds", Holds, inputs=["numbers", "holds"])
    running = topology.start()
    wait_until(lambda: held)
    assert running.wait(0.1) is None
    assert finished == []
    bolt, tup = held[0]
    bolt.ack(tup)
    rig.finish(running)
    assert seen == [1, 2, 3, 4, 5]
    assert finished == [5]


def test_an_emit_from_finish_into_the_cycle_raises(rig: Rig) -> None:
    """ENGINE 5.3: in `finish` nothing can be sent to a member, which has finished too; out of the cycle it can."""
    raised: list[str] = []
    seen: list[str] = []

    class Member(Bolt):
        streams = {"inside": ["n"], "outside": ["n"]}

        def process(self, n: Any) -> None: ...

        def finish(self) -> None:
            try:
                self.emit("last", stream="inside")
            except EmitError as error:
                raised.append(str(error))
            self.emit("last", stream="outside")

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 3))
    topology.bolt("member", Member, inputs=["numbers", "member.inside"])
    topology.bolt("seen", partial(Collect, seen), inputs="member.outside")
    report = rig.run(topology)
    assert len(raised) == 1
    assert 'in finish() nothing can be sent to "member", which is in the same cycle and has finished too' in raised[0]
    assert seen == ["last"]
    assert report.components["member"].roots.acked == 1


def test_flush_lets_a_cycle_go(rig: Rig) -> None:
    """ENGINE 5.1, 5.3: members of a cycle flush when all inputs from outside it have ended."""
    flushed: list[str] = []

    class Gathers(Bolt):
        streams = {"again": ["n"]}
        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            self.held: list[Tuple] = []
            self.name = context.component

        def process(self, n: int, tup: Tuple) -> None:
            self.held.append(tup)

        def flush(self) -> None:
            flushed.append(self.name)
            for tup in self.held:
                if tup["n"] > 0:
                    self.emit(tup["n"] - 1, stream="again", anchors=tup)
                self.ack(tup)
            self.held.clear()

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 10))
    topology.bolt("gathers", Gathers, inputs=["numbers", "gathers.again"])
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 10
    assert len(flushed) >= 11  # each round of what came back is let go in turn


def test_two_cycles_one_behind_the_other(rig: Rig) -> None:
    """ENGINE 5.3: a cycle begins to end when its inputs from outside have; one waits for the other."""
    ends: list[str] = []

    class Round(Bolt):
        streams = {"again": ["n"], "out": ["n"]}

        def prepare(self, context: TaskContext) -> None:
            self.name = context.component

        def process(self, n: int) -> None:
            self.emit(n, stream="out")
            if n > 1 and n % 2 == 0:
                self.emit(n // 2, stream="again")

        def finish(self) -> None:
            ends.append(self.name)

    seen: list[int] = []
    topology = rig.topology(queue_capacity=2)
    topology.spout("numbers", partial(Numbers, 64))
    topology.bolt(
        "first", Round, inputs={"numbers": grouping.shuffle(), "first.again": grouping.fields("n")}, parallelism=2
    )
    topology.bolt("second", Round, inputs=["first.out", "second.again"])
    topology.bolt("seen", partial(Collect, seen), inputs="second.out")
    rig.run(topology, within_s=DEADLINE_S)

    def halves(n: int) -> list[int]:
        return [n, *(halves(n // 2) if n > 1 and n % 2 == 0 else [])]

    assert Counter(seen) == Counter(k for n in range(1, 65) for m in halves(n) for k in halves(m))
    assert ends == ["first", "first", "second"]


def test_a_replay_that_waits_before_a_full_queue_does_not_keep_a_cycle_alive(rig: Rig) -> None:
    """ENGINE 5.3: a root is buried while one delivery of its replay waits for room; it goes out, the cycle ends."""
    gate, entered = threading.Event(), threading.Event()
    attempts: list[int] = []

    class Speaks(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.005

        def prepare(self, context: TaskContext) -> None:
            self.has_spoken = False

        def process(self, n: Any) -> None:
            self.emit(n)

        def tick(self) -> None:
            if entered.is_set() and not self.has_spoken:
                self.has_spoken = True
                self.emit("root")

    class Full(Bolt):
        """Stands in its first call, with one tuple in its queue, while the root is tried again and buried."""

        outputs = ["n"]
        queue_capacity = 2

        def process(self, n: Any) -> None:
            entered.set()
            assert gate.wait(DEADLINE_S)

    class Refuses(Bolt):
        outputs = ["n"]

        def process(self, tup: Tuple) -> None:
            if tup["n"] == "root":
                attempts.append(tup.attempt)
                raise ValueError if tup.attempt == 1 else Reject("no")

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("speaks", Speaks, inputs=["numbers", "full", "refuses"])
    topology.bolt("full", Full, inputs="speaks")
    topology.bolt("refuses", Refuses, inputs="speaks")
    running = topology.start()
    try:
        wait_until(lambda: running.report().components["speaks"].roots.dead == 1, within_s=5.0)
    finally:
        gate.set()
        rig.finish(running, within_s=2.0)
    assert attempts == [1, 2]


@pytest.mark.parametrize("tracked", [True, False])
def test_an_async_tick_keeps_its_cycle_alive(rig: Rig, tracked: bool) -> None:
    """ENGINE 5.3: a tick that is under way in a member can still send: no `finish` runs before its end."""
    ticking = threading.Event()
    events: list[str] = []

    class Ticks(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.005

        async def process(self, n: Any) -> None: ...

        async def tick(self) -> None:
            if ticking.is_set():
                return
            ticking.set()
            until = time.monotonic() + 0.3
            while "finish" not in events and time.monotonic() < until:
                await asyncio.sleep(0.005)
            if tracked:
                self.emit("tick")
            else:
                self.emit("tick", anchors=[])

    class Sees(Bolt):
        outputs = ["n"]

        def process(self, n: Any) -> None:
            events.append(n)

        def finish(self) -> None:
            events.append("finish")

    class Late(Numbers):
        def next_tuple(self) -> None:
            if ticking.is_set():
                super().next_tuple()

    topology = rig.topology()
    topology.spout("late", partial(Late, 1))
    topology.bolt("ticks", Ticks, inputs=["late", "sees"])
    topology.bolt("sees", Sees, inputs="ticks")
    rig.run(topology)
    assert events == ["tick", "finish"]
