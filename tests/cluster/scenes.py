"""Topologies for test_scenes_on_processes.py, which worker processes import.

What they saw comes home in counters of the report (`TaskContext.counter`), because their lists stay where they are.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rainband import DEAD_LETTER, DROP, BatchBolt, Bolt, Failure, Spout, Stream, TaskContext, Topology, Tuple, grouping
from rainband import retry as try_again

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE, THERE = {"on_workers": [0]}, {"on_workers": [1]}
WORDS = ("red", "green", "blue", "grey", "red")
BIG = 10 * 2**20


class Numbers(Spout):
    """Emits 1 … stop with the number as id."""

    outputs = ["n"]

    def __init__(self, stop: int) -> None:
        self.n, self.stop = 0, stop

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        self.emit(self.n, id=self.n)


class Counts(Bolt):
    """Counts under "task <index>" what it receives, and under "sum" its numbers."""

    def prepare(self, context: TaskContext) -> None:
        self.mine, self.sum = context.counter(f"task {context.task_index}"), context.counter("sum")

    def process(self, n: int) -> None:
        self.mine.add()
        self.sum.add(n)


# -- every grouping, from one spout --------------------------------------------------------------------------------


class Words(Spout):
    outputs = ["word", "n", "pid"]
    streams = {"to": Stream(["n"], direct=True)}

    def open(self, context: TaskContext) -> None:
        self.n, self.tasks = 0, context.tasks_of("direct")

    def next_tuple(self) -> None:
        if self.n == 200:
            self.end()
            return
        self.n += 1
        self.emit(WORDS[self.n % 5], self.n, os.getpid(), id=self.n)
        self.emit(self.n, stream="to", id=("to", self.n), task=self.tasks[self.n % 4])


class CountsWords(Bolt):
    """Counts each word by the task that it came to, and where it came from."""

    def prepare(self, context: TaskContext) -> None:
        self.context = context

    def process(self, word: str, pid: int) -> None:
        self.context.counter(f"{word} {self.context.task_index}").add()
        self.context.counter(f"task {self.context.task_index}").add()
        self.context.counter("same process" if pid == os.getpid() else "another process").add()


class ByLength:
    """A grouping of the user's: to the task numbered as the word is long."""

    def prepare(self, context: TaskContext, tasks: Sequence[int]) -> None:
        self.tasks = tasks

    def choose(self, values: tuple[Any, ...]) -> Sequence[int]:
        return [self.tasks[len(values[0]) % len(self.tasks)]]


groupings = Topology("groupings")
groupings.spout("words", Words, config=HERE)
for _name, _how in {
    "fields": grouping.fields("word"),
    "all": grouping.all(),
    "global": grouping.global_(),
    "local": grouping.local_or_shuffle(),
    "custom": grouping.custom(ByLength()),
    "partial": grouping.partial_key("word"),
}.items():
    groupings.bolt(_name, CountsWords, inputs={"words": _how}, parallelism=4)
groupings.bolt("direct", Counts, inputs={"words.to": grouping.direct()}, parallelism=4)


# -- bolts that hold, join, wait and batch -------------------------------------------------------------------------


class Twice(Bolt):
    """Acks by hand, from a thread of its own."""

    outputs = ["n"]
    auto_ack = False

    def process(self, n: int, tup: Tuple) -> None:
        self.emit(n, anchors=tup)
        threading.Thread(target=self.ack, args=(tup,)).start()


class Join(Bolt):
    """Holds the first of a pair until the second comes: its child has anchors from two workers."""

    outputs = ["n"]
    auto_ack = False

    def prepare(self, context: TaskContext) -> None:
        self.first: dict[int, Tuple] = {}

    def process(self, n: int, tup: Tuple) -> None:
        other = self.first.pop(n, None)
        if other is None:
            self.first[n] = tup
            return
        self.emit(n, anchors=[other, tup])
        self.ack(other)
        self.ack(tup)


class Waits(Bolt):
    outputs = ["n"]

    async def process(self, n: int) -> None:
        await asyncio.sleep(0.001)
        self.emit(n)


class Batches(BatchBolt):
    outputs = ["n"]
    batch_size = 7

    def process_batch(self, tuples: Sequence[Tuple]) -> None:
        for tup in tuples:
            self.emit(tup["n"], anchors=tup)


class Totals(Bolt):
    """Says only at the end what it has summed up."""

    outputs = ["n"]

    def prepare(self, context: TaskContext) -> None:
        self.total = 0

    def process(self, n: int) -> None:
        self.total += n

    def finish(self) -> None:
        self.emit(self.total)


held = Topology("held", config={"max_pending": 50})
held.spout("numbers", partial(Numbers, 300), config=HERE)
held.bolt("left", Twice, inputs="numbers", config=HERE)
held.bolt("right", Twice, inputs="numbers", config=THERE)
held.bolt("join", Join, inputs=["left", "right"], config=THERE)
held.bolt("waits", Waits, inputs="join", config=HERE)
held.bolt("batches", Batches, inputs="waits", config=THERE)
held.bolt("totals", Totals, inputs={"batches": grouping.shuffle()}, parallelism=2)
held.bolt("counts", Counts, inputs="totals", config=HERE)


# -- a cycle, roots of ticks, tuples without roots -----------------------------------------------------------------


class Collatz(Bolt):
    outputs = ["n"]
    streams = {"steps": ["n"]}

    def process(self, n: int) -> None:
        if n == 1:
            self.emit(1, stream="steps")
        else:
            self.emit(3 * n + 1 if n % 2 else n // 2)


class Ticks(Bolt):
    outputs = ["n"]
    tick_interval_s = 0.005

    def prepare(self, context: TaskContext) -> None:
        self.ticks = context.counter("ticks")

    def process(self, n: int) -> None:
        time.sleep(0.001)

    def tick(self) -> None:
        self.ticks.add()
        self.emit(1)

    def flush(self) -> None:
        self.emit(1000)


class Untracked(Bolt):
    outputs = ["n"]

    def process(self, n: int) -> None:
        self.emit(n, anchors=[])


loops = Topology("loops")
loops.spout("numbers", partial(Numbers, 40), config=HERE)
loops.bolt("collatz", Collatz, inputs=["numbers", "collatz"], config=THERE)
loops.bolt("ticks", Ticks, inputs="numbers", config=THERE)
loops.bolt("of_ticks", Counts, inputs="ticks", config=HERE)
loops.bolt("untracked", Untracked, inputs="collatz.steps", config=HERE)
loops.bolt("ends", Counts, inputs="untracked", config=THERE)


# -- failures ------------------------------------------------------------------------------------------------------


class Judges(Numbers):
    """A verdict for each rest of 4: none, try again, dead letter, drop. Every hook raises once it has done its work."""

    def open(self, context: TaskContext) -> None:
        self.told = {name: context.counter(name) for name in ("ack", "fail", "dead")}

    def ack(self, id: int) -> None:  # noqa: A002
        self.told["ack"].add()
        raise OSError("in ack")

    def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
        self.told["fail"].add()
        if id == 4:
            raise OSError("in fail")
        return [None, try_again(after_s=0.01), DEAD_LETTER, DROP][id % 4]

    def dead(self, id: int, failure: Failure) -> None:  # noqa: A002
        self.told["dead"].add()
        raise OSError("in dead")


class Refuses(Bolt):
    """Refuses every first attempt."""

    tick_interval_s = 0.01

    def process(self, n: int, tup: Tuple) -> None:
        if tup.attempt == 1:
            raise ValueError(n)

    def tick(self) -> None:
        raise OSError("in tick")

    def flush(self) -> None:
        raise OSError("in flush")

    def finish(self) -> None:
        raise OSError("in finish")

    def close(self) -> None:
        raise OSError("in close")


class Letters(Bolt):
    def prepare(self, context: TaskContext) -> None:
        self.context = context

    def process(self, component: str, values: tuple[int], id: int, reason: str, attempts: int) -> None:  # noqa: A002
        assert values == (id,)
        self.context.counter(f"{component} {reason} {attempts}").add()


failures = Topology("failures", config={"retry_backoff_s": 0.01})
failures.spout("numbers", partial(Judges, 40), config=HERE)
failures.bolt("refuses", Refuses, inputs="numbers", config=THERE)
failures.bolt("letters", Letters, inputs="numbers.dead_letter", config=THERE)


# -- values --------------------------------------------------------------------------------------------------------


def _values() -> Iterator[Any]:
    yield bytes(BIG)
    yield np.arange(BIG // 8)
    yield np.ones((300, 7), dtype="float32").T


class Large(Spout):
    outputs = ["n", "value"]

    def open(self, context: TaskContext) -> None:
        self.refused, self.waiting = context.counter("refused"), list(enumerate(_values()))
        self.log = context.logger

    def next_tuple(self) -> None:
        if not self.waiting:
            try:
                self.emit(9, threading.Lock(), id=9)
            except Exception as error:  # noqa: BLE001
                self.refused.add()
                self.log.warning("%s: %s", type(error).__name__, error)
            self.end()
            return
        n, value = self.waiting.pop(0)
        self.emit(n, value, id=n)


class Looks(Bolt):
    def prepare(self, context: TaskContext) -> None:
        self.equal = context.counter("equal")

    def process(self, n: int, value: Any) -> None:
        wanted = list(_values())[n]
        assert type(value) is type(wanted)
        if np.array_equal(value, wanted) and getattr(value, "dtype", None) == getattr(wanted, "dtype", None):
            self.equal.add()


values = Topology("values")
values.spout("large", Large, config=HERE)
values.bolt("looks", Looks, inputs="large", config=THERE)


# -- without an end of its own -------------------------------------------------------------------------------------

endless = Topology("endless")
endless.spout("numbers", partial(Numbers, 10**9), config=HERE)
endless.bolt("counts", Counts, inputs={"numbers": grouping.shuffle()}, parallelism=2)


def expected_words() -> Counter[str]:
    """How often each word comes."""
    return Counter(WORDS[n % 5] for n in range(1, 201))
