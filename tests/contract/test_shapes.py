"""No shape deadlocks: ENGINE 4.3 by property, on the real engine. The core has the same test over its own model."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest
from rig import Notes, Numbers

from rainband import BatchBolt, Bolt, TaskContext, Topology, Tuple, grouping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from rig import Rig

GROUPINGS = [
    grouping.shuffle,
    lambda: grouping.fields("n"),
    lambda: grouping.partial_key("n"),
    grouping.all,
    grouping.global_,
    grouping.none,
    grouping.local_or_shuffle,
]
PER_TEST = 10


class Shape:
    """A random topology of up to 6 components, drawn from a seed; `text` tells it when a test fails."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.lines: list[str] = []

    def build(self, rig: Rig, notes: Notes) -> Topology:
        draw = self.random
        topology = rig.topology(
            name=f"seed-{self.seed}",
            queue_capacity=draw.choice([1, 1, 2, 5, 1024]),
            max_pending=draw.choice([1, 1, 2, 10, 1000]),
            max_attempts=draw.choice([1, 2, 3]),
            retry_backoff_s=0.001,
            retry_backoff_max_s=0.002,
        )
        names: list[str] = []
        for at in range(draw.choice([1, 1, 2])):
            names.append(f"s{at}")
            source = partial(Numbers, draw.randrange(1, 25), notes=notes, tracked=draw.random() < 0.8)
            topology.spout(names[-1], source, parallelism=draw.choice([1, 2]))
        bolts = [f"b{at}" for at in range(draw.randrange(1, 6 - len(names) + 1))]
        for at, name in enumerate(bolts):
            earlier = [*names, *bolts[:at]]
            sources = set(draw.sample(earlier, draw.randrange(1, min(3, len(earlier)) + 1)))
            if draw.random() < 0.4:
                sources.add(draw.choice(bolts[at:]))  # a self-loop or an edge back
            self.add(topology, name, sorted(sources))
        return topology

    def add(self, topology: Topology, name: str, sources: list[str]) -> None:
        draw = self.random
        kind: type[Bolt] = draw.choice([Plain, Plain, Plain, Yields, Holds, Batches, Waits])
        seed, failures = draw.randrange(10**6), draw.choice([0.0, 0.0, 0.05, 0.3])
        tasks = draw.choice([1, 1, 2, 3])
        inputs = {source: draw.choice(GROUPINGS)() for source in sources}
        threads = draw.randrange(1, tasks + 1)
        config = {"tick_interval_s": 0.003}
        component = partial(kind, seed, failures)
        topology.bolt(name, component, inputs=inputs, parallelism=threads, tasks=tasks, config=config)
        self.lines.append(f"{name}: {kind.__name__} x {tasks}/{threads}, failures {failures}, inputs {inputs}")

    @property
    def text(self) -> str:
        return "\n".join([f"seed {self.seed}", *self.lines])


class Grows(Bolt):
    """Has 0 to 3 children for a number, less than one on average, so that loops die out."""

    outputs = ["n"]

    def __init__(self, seed: int, failures: float) -> None:
        self.random = Random(seed)
        self.failures = failures

    def prepare(self, context: TaskContext) -> None:
        self.finished = False
        self.budget = 150

    def children(self, n: int) -> list[int]:
        assert not self.finished
        if self.random.random() < self.failures:
            raise ValueError(n)
        self.budget -= 1
        # On average less than one child, and none once a task has worked for a while.
        count = self.random.choice([0, 0, 1, 1, 3]) if self.budget > 0 else 0
        return [n + 1] * count

    def tick(self) -> None:
        if self.budget > 0 and self.random.random() < 0.2:
            self.budget -= 1
            self.emit(0)

    def finish(self) -> None:
        self.finished = True


class Plain(Grows):
    def process(self, n: int) -> None:
        for child in self.children(n):
            self.emit(child)


class Yields(Grows):
    def process(self, n: int) -> Iterator[int]:
        yield from self.children(n)


class Waits(Grows):
    concurrency = 3

    async def process(self, n: int) -> AsyncIterator[int]:
        for child in self.children(n):
            await asyncio.sleep(0)
            yield child
        await asyncio.sleep(0.0005)


class Holds(Grows):
    """Acks in pairs, and the rest in `flush`."""

    auto_ack = False

    def prepare(self, context: TaskContext) -> None:
        super().prepare(context)
        self.held: list[Tuple] = []

    def process(self, n: int, tup: Tuple) -> None:
        children = self.children(n)
        self.held.append(tup)
        for child in children:
            self.emit(child, anchors=self.held)
        if len(self.held) == 2:
            self.flush()

    def flush(self) -> None:
        for tup in self.held:
            self.ack(tup)
        self.held.clear()

    def tick(self) -> None:
        super().tick()
        self.flush()  # with max_pending 1 no second one may ever come


class Batches(BatchBolt):
    outputs = ["n"]
    batch_size = 1
    batch_interval_s = 0.002

    def __init__(self, seed: int, failures: float) -> None:
        self.random = Random(seed)
        self.failures = failures
        self.budget = 150

    def process_batch(self, tuples: Sequence[Tuple]) -> None:
        if self.random.random() < self.failures:
            raise ValueError
        for tup in tuples:
            self.budget -= 1
            if self.budget > 0 and self.random.random() < 0.6:
                self.emit(tup["n"] + 1, anchors=tup)

    def tick(self) -> None: ...


@pytest.mark.parametrize("first", range(0, 100, PER_TEST))
def test_random_topologies_end(rig: Rig, first: int) -> None:
    """ENGINE 4.3: diamonds, self-loops, cycles, queues of 1, max_pending 1, fan-out 0-3, failures: all end."""
    for seed in range(first, first + PER_TEST):
        notes = Notes()
        shape = Shape(seed)
        topology = shape.build(rig, notes)
        try:
            report = rig.run(topology, within_s=15)
        except BaseException:
            print(shape.text)
            raise
        roots = [component.roots for component in report.components.values()]
        assert all(root.balances and root.pending == 0 for root in roots), shape.text
        assert report.counters["lost"] == 0
        resolved = len(notes.acked) + len(notes.dead)
        assert resolved == sum(c.roots.emitted for c in report.components.values() if c.kind == "spout"), shape.text
