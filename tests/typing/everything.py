"""A topology that uses every typed part of the API; type checkers must accept it as it stands."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from rainband import (
    DEAD_LETTER,
    DROP,
    IDLE,
    At,
    BatchBolt,
    Bolt,
    Failure,
    Reject,
    Report,
    Run,
    Spout,
    Stream,
    TaskContext,
    Topology,
    Tuple,
    bolt,
    codec,
    grouping,
    retry,
    spout,
    to,
)


class Sensor(Spout):
    outputs = {"name": str, "value": float}
    streams = {"late": Stream(["name"]), "control": Stream(["command"], direct=True, pickle=True), "plain": ["a", "b"]}
    max_pending = 50

    def next_tuple(self) -> None:
        self.emit("a", 1.0, id=("a", 1), position=7)
        self.emit("stop", stream="control", task=3)
        self.end()

    def ack(self, key: tuple[str, int]) -> None:
        print(key)

    def fail(self, key: tuple[str, int], failure: Failure) -> Any:
        if failure.reason == "rejected":
            return DROP
        return retry(after_s=2) if failure.attempt < 3 else DEAD_LETTER

    def dead(self, key: tuple[str, int], failure: Failure) -> None:
        super().dead(key, failure)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


codec.register(Money, name="money", encode=lambda money: money.cents, decode=Money)
kept: bytes = codec.encode(Money(5))


class Quiet(Spout):
    outputs = ["n"]

    def next_tuple(self) -> None: ...

    def fail(self, root: int, failure: Failure) -> None:
        print(root, failure.error, failure.age_s)


class Join(Bolt):
    outputs = ["name", "sum"]
    auto_ack = False
    tick_interval_s = 1.0
    on_error = "restart"

    def prepare(self, context: TaskContext) -> None:
        self.held: list[Tuple] = []
        self.missed = context.counter("missed")

    def process(self, tup: Tuple, value: float = 0.0, **rest: Any) -> None:
        if value < 0:
            raise Reject("negative")
        self.held.append(tup)
        self.reset_timeout(tup)

    def tick(self) -> None:
        self.missed.add()
        self.emit("all", sum(tup["value"] for tup in self.held), anchors=self.held)
        for tup in self.held:
            self.ack(tup)

    def flush(self) -> Iterator[Any]:
        for tup in self.held:
            self.fail(tup, "too late", retry=False)
            yield tup[0], 0


class Enrich(Bolt):
    outputs = ["name"]
    concurrency = 4

    async def prepare(self, context: TaskContext) -> None: ...

    async def process(self, name: str) -> AsyncIterator[str]:
        yield name
        yield name.upper()

    async def close(self) -> None: ...


class Store(BatchBolt):
    batch_size = 10

    def process_batch(self, tuples: list[Tuple]) -> None:
        self.emit(len(tuples), anchors=tuples)


class Chooser:
    def prepare(self, context: TaskContext, tasks: Any) -> None:
        self.tasks = list(tasks)

    def choose(self, values: tuple[Any, ...]) -> list[int]:
        return self.tasks[:1]


@spout(outputs=["n"])
def numbers(stop: int, context: TaskContext) -> Iterator[Any]:
    for n in range(context.position or 0, stop):
        yield At(n, n)
        yield IDLE


@bolt(outputs=["word"], streams={"late": ["word"]}, concurrency=3)
def split(line: str) -> Iterator[Any]:
    yield line
    yield to("late", line)


@bolt
async def show(tup: Tuple) -> None:
    print(*tup, len(tup), tup.values, tup.fields, tup.component, tup.stream, tup.task, tup.attempt)


words: list[Any] = list(split("a b"))

topology = Topology("everything", config={"max_pending": 10})
topology.spout("sensor", Sensor, streams={"late": ["name"]}, config={"max_attempts": 2})
topology.spout("quiet", Quiet, outputs={"name": str, "value": float})
topology.spout("numbers", partial(numbers, 10), parallelism=2, tasks=4)
topology.bolt("join", Join, inputs=["sensor", "quiet"])
topology.bolt(
    "enrich", Enrich, inputs={"sensor.late": grouping.custom(Chooser()), "join": grouping.partial_key("name")}
)
topology.bolt("store", Store, inputs="numbers")
topology.bolt("split", split, inputs={"enrich": grouping.local_or_shuffle()})
topology.bolt("show", show, inputs={"split": grouping.all(), "split.late": grouping.global_()})


def go() -> Report:
    started: Run = topology.start(workers=1, config={"checked": True})
    started.stop()
    return topology.run(duration_s=1.5)
