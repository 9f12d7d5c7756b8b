"""Topologies for test_deaths.py, which worker processes import: somebody in them dies, or takes long."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rainband import BatchBolt, Bolt, Spout, TaskContext, Topology, Tuple, grouping

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE, THERE = {"on_workers": [0]}, {"on_workers": [1]}
MARK = "RAINBAND_TEST_MARK"
POISON = 15


def is_first() -> bool:
    """Whether nobody asked before, in any process."""
    mark = Path(os.environ[MARK])
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Numbers(Spout):
    """Emits 1 … stop with the number as id, `pause_s` apart."""

    outputs = ["n"]

    def __init__(self, stop: int, pause_s: float = 0.0) -> None:
        self.n, self.stop, self.pause_s = 0, stop, pause_s

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        time.sleep(self.pause_s)
        self.n += 1
        self.emit(self.n, id=self.n)


class Seen(Bolt):
    def prepare(self, context: TaskContext) -> None:
        self.seen = context.counter("seen")

    def process(self, n: object) -> None:
        self.seen.add()


# -- what ended before a death, in the same worker -------------------------------------------------------------------


class DiesOnce(Bolt):
    def process(self, n: int) -> None:
        if n == 100 and is_first():
            os._exit(3)


ended_spout = Topology("ended_spout")
ended_spout.spout("short", partial(Numbers, 3), config=THERE)
ended_spout.spout("long", partial(Numbers, 120, 0.002), config=HERE)
ended_spout.bolt("dies", DiesOnce, inputs=["short", "long"], config=THERE)


class PassesOn(Bolt):
    outputs = ["n"]

    def process(self, n: int) -> None:
        self.emit(n)


class DiesInFinish(Bolt):
    def prepare(self, context: TaskContext) -> None:
        self.finished = context.counter("finished")

    def process(self, n: int) -> None: ...

    def finish(self) -> None:
        if is_first():
            os._exit(3)
        self.finished.add()


ended_bolt = Topology("ended_bolt")
ended_bolt.spout("numbers", partial(Numbers, 20), config=HERE)
ended_bolt.bolt("passes", PassesOn, inputs="numbers", config=THERE)
ended_bolt.bolt("dies", DiesInFinish, inputs="passes", config=THERE)


# -- replays of more than a frame holds ------------------------------------------------------------------------------


class Large(Numbers):
    outputs = ["n", "text"]

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        self.emit(self.n, "x" * 40_000, id=self.n)


class FailsAllOnce(Bolt):
    auto_ack = False

    def __init__(self) -> None:
        self.held: list[Tuple] = []

    def prepare(self, context: TaskContext) -> None:
        self.seen = context.counter("seen")

    def process(self, tup: Tuple) -> None:
        self.seen.add()
        if tup.attempt > 1:
            self.ack(tup)
            return
        self.held.append(tup)
        if len(self.held) == 600:
            for each in self.held:
                self.fail(each)


large_replays = Topology("large_replays", config={"retry_backoff_s": 0.0})
large_replays.spout("large", partial(Large, 600), config=HERE)
large_replays.bolt("fails", FailsAllOnce, inputs="large", config=THERE)


# -- poison ----------------------------------------------------------------------------------------------------------


class Waits(Bolt):
    """Dies a while after it took the poison; takes others meanwhile."""

    def prepare(self, context: TaskContext) -> None:
        self.seen = context.counter("seen")

    async def process(self, n: int) -> None:
        if n == POISON:
            await asyncio.sleep(0.2)
            os._exit(7)
        await asyncio.sleep(0)
        self.seen.add()


class ByPoison:
    """The poison to the first task, everything else to the second."""

    def prepare(self, context: TaskContext, tasks: Sequence[int]) -> None:
        self.tasks = tasks

    def choose(self, values: Sequence[int]) -> list[int]:
        return [self.tasks[values[0] != POISON]]


QUICKLY = {"max_attempts": 2, "retry_backoff_s": 0.01}

poison_beside_a_sibling = Topology("poison_beside_a_sibling", config=QUICKLY)
poison_beside_a_sibling.spout("numbers", partial(Numbers, 300), config=HERE)
poison_beside_a_sibling.bolt(
    "waits", Waits, inputs={"numbers": grouping.custom(ByPoison())}, parallelism=1, tasks=2, config=THERE
)

poison_among_thousands = Topology("poison_among_thousands", config=QUICKLY)
poison_among_thousands.spout("numbers", partial(Numbers, 20_000), config=HERE)
poison_among_thousands.bolt("waits", Waits, inputs="numbers", config={**THERE, "concurrency": 200})


class Batches(BatchBolt):
    def prepare(self, context: TaskContext) -> None:
        self.seen = context.counter("seen")

    def process_batch(self, tuples: Sequence[Tuple]) -> None:
        if any(tup["n"] == POISON for tup in tuples):
            os._exit(7)
        self.seen.add(len(tuples))


poison_with_its_spout = Topology("poison_with_its_spout", config={**QUICKLY, "batch_size": 10})
poison_with_its_spout.spout("numbers", partial(Numbers, 40), config=THERE)
poison_with_its_spout.bolt("batches", Batches, inputs="numbers", config=THERE)
poison_with_its_spout.spout("other", partial(Numbers, 1), config=HERE)
poison_with_its_spout.bolt("sees", Seen, inputs="other", config=HERE)


# -- a spout without positions ---------------------------------------------------------------------------------------


class Volatile(Numbers):
    """Dies once, right behind its hundredth tuple."""

    def next_tuple(self) -> None:
        super().next_tuple()
        if self.n == 100 and is_first():
            time.sleep(0.03)  # those before were handed over by now
            os._exit(9)


volatile = Topology("volatile")
volatile.spout("numbers", partial(Volatile, 150), config=THERE)
volatile.bolt("sees", Seen, inputs="numbers", config=HERE)


# -- waiting for room ------------------------------------------------------------------------------------------------


class Many(Bolt):
    outputs = ["n"]

    def process(self, n: int) -> None:
        for at in range(300):
            self.emit(at)


class Slow(Bolt):
    def process(self, n: int) -> None:
        time.sleep(0.01)


waits_for_room = Topology("waits_for_room", config={"execute_timeout_s": 1.0, "link_bytes": 1000})
waits_for_room.spout("numbers", partial(Numbers, 1), config=HERE)
waits_for_room.bolt("many", Many, inputs="numbers", config=HERE)
waits_for_room.bolt("slow", Slow, inputs="many", config=THERE)


class Stamped(Numbers):
    outputs = ["at"]

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        self.emit(time.monotonic(), id=self.n)


class Sleeps(Bolt):
    def process(self, at: float) -> None:
        time.sleep(0.02)


class Late(Bolt):
    def prepare(self, context: TaskContext) -> None:
        self.late = context.counter("late")
        self.seen = context.counter("seen")

    def process(self, at: float) -> None:
        self.seen.add()
        if time.monotonic() - at > 0.5:
            self.late.add()


one_full_queue = Topology("one_full_queue")
one_full_queue.spout("stamped", partial(Stamped, 100), config=HERE)
one_full_queue.bolt("sleeps", Sleeps, inputs="stamped", config={**HERE, "queue_capacity": 1})
one_full_queue.bolt("late", Late, inputs="stamped", config=THERE)
