"""`async` bolts on the real engine: API "async bolts", ENGINE 2.1, 5.1, 5.2."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from rainband import Bolt, Reject, Spout, TaskContext, Topology, Tuple, bolt


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
