"""`async` bolts on the real engine: API "async bolts", ENGINE 2.1, 5.1, 5.2."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from rig import DEADLINE_S, Burst, Gate, Notes, Rig, in_one_process, wait_until

from rainband import Bolt, Reject, Spout, TaskContext, Topology, Tuple, bolt, grouping


class Numbers(Spout):
    outputs = ["n"]

    def __init__(self, stop: int, *, tracked: bool = True) -> None:
        self.n = 0
        self.stop = stop
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


class Collect(Bolt):
    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def process(self, n: Any) -> None:
        self.seen.append(n)


def run(
    tmp_path: Path, component: Any, stop: int, *, tracked: bool = True, outputs: Any = None, **config: Any
) -> tuple[Any, list[Any]]:
    seen: list[Any] = []
    made = Topology("t", config={"state_dir": str(tmp_path), "retry_backoff_s": 0.001, "max_attempts": 3})
    made.spout("numbers", partial(Numbers, stop, tracked=tracked))
    made.bolt("work", component, inputs="numbers", outputs=outputs, config=config)
    made.bolt("collect", partial(Collect, seen), inputs="work")
    return made.run(), seen


class Sleeps(Bolt):
    outputs = ["n"]

    async def process(self, n: int) -> None:
        await asyncio.sleep(0.02)
        self.emit(n)


def test_many_are_in_flight(tmp_path: Path) -> None:
    begun = time.monotonic()
    report, seen = run(tmp_path, Sleeps, 64)
    assert sorted(seen) == list(range(1, 65))
    assert report.components["numbers"].roots.acked == 64
    assert report.balances
    assert time.monotonic() - begun < 64 * 0.02 / 2


def test_a_factory_may_build_one(tmp_path: Path) -> None:
    """What a callable builds is not known before: whether it is `async` is seen then."""

    class Doubles(Bolt):
        async def process(self, tup: Tuple) -> AsyncIterator[int]:
            await asyncio.sleep(0)
            yield tup["n"]

    def make() -> Doubles:
        return Doubles()

    report, seen = run(tmp_path, make, 10, outputs=["n"])
    assert sorted(seen) == list(range(1, 11))
    assert report.balances


def test_concurrency_bounds_them(tmp_path: Path) -> None:
    most = [0]

    class Counts(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.now = 0

        async def process(self, n: int) -> AsyncIterator[int]:
            self.now += 1
            most[0] = max(most[0], self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            yield n

    _, seen = run(tmp_path, Counts, 50, concurrency=3)
    assert most == [3]
    assert sorted(seen) == list(range(1, 51))


def test_failures_are_replayed_and_anchors_are_their_own(tmp_path: Path) -> None:
    class Fails(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.tried: set[int] = set()

        async def process(self, n: int) -> None:
            await asyncio.sleep(0.001 * (n % 3))
            if n % 5 == 0 and n not in self.tried:
                self.tried.add(n)
                raise ValueError(n)
            if n == 7:
                raise Reject("seven")
            self.emit(n)

    report, seen = run(tmp_path, Fails, 20)
    assert sorted(seen) == [n for n in range(1, 21) if n != 7]
    assert report.components["numbers"].replays == 4
    assert (report.dead_letters, report.balances) == (1, True)


def test_a_tuple_held_too_long_is_cancelled_and_replayed(tmp_path: Path) -> None:
    cancelled: list[int] = []

    class Hangs(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.tried: set[int] = set()

        async def process(self, n: int) -> None:
            if n not in self.tried:
                self.tried.add(n)
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(n)
                    raise
            self.emit(n)

    report, seen = run(tmp_path, Hangs, 3, ack_timeout_s=0.1)
    assert sorted(cancelled) == [1, 2, 3]
    assert sorted(seen) == [1, 2, 3]
    assert report.components["work"].failed == {"timeout": 3}


def test_what_was_taken_and_not_begun_does_not_time_out(rig: Rig) -> None:
    """ENGINE 2.1: an executor takes more than one of its tasks may begin; what waits there waits as in a queue."""
    notes = Notes()
    begun: list[int] = []

    class Naps(Bolt):
        ack_timeout_s = 0.3
        concurrency = 1

        async def process(self, n: int) -> None:
            begun.append(n)
            await asyncio.sleep(0.15)

    topology = rig.topology()
    topology.spout("numbers", partial(Burst, 4, notes=notes))
    # The room of all tasks of the executor is taken at once; one of them receives everything.
    topology.bolt("naps", Naps, inputs={"numbers": grouping.global_()}, parallelism=1, tasks=4)
    report = rig.run(topology)
    assert begun == [1, 2, 3, 4]
    assert notes.failed == []
    assert report.components["naps"].failed == {}


def test_hooks_may_be_async_and_finish_comes_last(tmp_path: Path) -> None:
    calls: list[str] = []

    class Hooks(Bolt):
        outputs = ["n"]

        async def prepare(self, context: TaskContext) -> None:
            await asyncio.sleep(0.001)
            calls.append("prepare")

        async def process(self, n: int) -> None:
            await asyncio.sleep(0.01)
            calls.append("process")

        async def finish(self) -> None:
            await asyncio.sleep(0.001)
            calls.append("finish")
            self.emit("last")

        async def close(self) -> None:
            await asyncio.sleep(0.001)
            calls.append("close")

    report, seen = run(tmp_path, Hooks, 3, tracked=False)
    assert calls == ["prepare", "process", "process", "process", "finish", "close"]
    assert seen == ["last"]
    assert report.components["work"].roots.acked == 1


def test_ticks_beside_tuples(tmp_path: Path) -> None:
    class Ticks(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.02

        async def process(self, n: int) -> None:
            await asyncio.sleep(0.2)

        async def tick(self) -> None:
            await asyncio.sleep(0)
            self.emit("tick")

    _, seen = run(tmp_path, Ticks, 1)
    assert 5 <= len(seen) <= 12


def test_an_idle_async_bolt_costs_nothing(tmp_path: Path) -> None:
    class Slow(Spout):
        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            self.begun = time.monotonic()

        def next_tuple(self) -> None:
            if time.monotonic() - self.begun > 0.7:
                self.end()

    @bolt(outputs=["n"])
    async def work(n: int) -> None: ...

    made = Topology("t", config={"state_dir": str(tmp_path)})
    made.spout("slow", Slow)
    made.bolt("work", work, inputs="slow")
    before = time.process_time()
    made.run()
    assert time.process_time() - before < 0.2


@in_one_process("a queue counts tuples, a link bytes")
def test_a_tuple_that_comes_while_the_loop_waits_for_room_is_seen(rig: Rig) -> None:
    """ENGINE 2.2, 4.1: news that come while the executor waits before a full queue wake its loop afterwards."""
    gate, go, entered = threading.Event(), threading.Event(), threading.Event()
    begun: list[int] = []

    class Two(Spout):
        outputs = ["n"]

        def open(self, context: TaskContext) -> None:
            self.n = 0

        def next_tuple(self) -> None:
            if self.n == 2:
                self.end()
            elif self.n == 0 or go.is_set():
                self.n += 1
                self.emit(self.n, id=self.n)

    class Fans(Bolt):
        outputs = ["n"]
        concurrency = 2

        def prepare(self, context: TaskContext) -> None:
            self.second = asyncio.Event()

        async def process(self, n: int) -> None:
            begun.append(n)
            if n == 1:
                self.emit(n)  # the gate has it in hand, which takes its only place
                self.emit(n)  # so for this one the executor waits
                await self.second.wait()  # an end would be news by itself
            else:
                self.second.set()

    topology = rig.topology()
    topology.spout("two", Two)
    topology.bolt("fans", Fans, inputs="two")
    topology.bolt("gate", partial(Gate, gate, entered), inputs="fans", config={"queue_capacity": 1})
    with rig.running(topology) as running:
        assert entered.wait(DEADLINE_S)
        go.set()
        wait_until(lambda: running.report().components["fans"].queue == 1, "the second tuple waiting")
        gate.set()
        report = rig.finish(running, within_s=2.0)
    assert begun == [1, 2]
    assert report.components["two"].roots.acked == 2


def test_what_is_finished_while_another_coroutine_blocks_is_not_lost(rig: Rig) -> None:
    """ENGINE 2.2: what a coroutine emitted and acked is held by its executor until the loop hands it over."""
    notes = Notes()
    attempts: list[int] = []

    class Blocks(Bolt):
        outputs = ["n"]
        concurrency = 2

        async def process(self, n: int) -> None:
            if n == 1:
                self.emit(n)
            else:
                time.sleep(0.5)  # many rounds of the audit

    class Sees(Bolt):
        def process(self, tup: Tuple) -> None:
            attempts.append(tup.attempt)

    topology = rig.topology(audit_s=0.1)
    topology.spout("numbers", partial(Burst, 2, notes=notes))
    topology.bolt("blocks", Blocks, inputs="numbers")
    topology.bolt("sees", Sees, inputs="blocks")
    report = rig.run(topology)
    assert report.counters["lost"] == 0
    assert notes.failed == []
    assert attempts == [1]
