"""The harnesses imitate the engine: what is acked, failed, anchored, refused, and when."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from rainband import (
    DEAD_LETTER,
    DROP,
    At,
    BatchBolt,
    Bolt,
    EmitError,
    Failure,
    Reject,
    Spout,
    Stream,
    TaskContext,
    TopologyError,
    Tuple,
    bolt,
    spout,
    to,
)
from rainband.testing import BoltHarness, SpoutHarness


class Split(Bolt):
    outputs = ["word"]
    streams = {"late": ["word", "at"]}

    def process(self, line: str) -> Iterator[Any]:
        for word in line.split():
            if word == "bad":
                raise ValueError(word)
            yield to("late", word, 1) if word == "late" else word


class Count(Bolt):
    outputs = {"word": str, "count": int}
    tick_interval_s = 1.0

    def prepare(self, context: TaskContext) -> None:
        self.counts: dict[str, int] = {}

    def process(self, word: str) -> None:
        self.counts[word] = n = self.counts.get(word, 0) + 1
        self.emit(word, n)

    def tick(self) -> None:
        self.emit("total", sum(self.counts.values()))


def test_a_generator_bolt() -> None:
    harness = BoltHarness(Split)
    tup = harness.process(line="a late b")
    assert harness.emitted == ["a", "b"]
    assert harness.emitted_to("late") == [("late", 1)]
    assert harness.acked == [tup]
    assert all(emission.anchors == (tup,) for emission in harness.emissions)


def test_what_process_raises_fails_the_tuple_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    harness = BoltHarness(Split)
    tup = harness.process(line="a bad b")
    assert harness.emitted == ["a"]
    [failed] = harness.failed
    assert (failed.tup, failed.reason, failed.retry) == (tup, "error", True)
    assert isinstance(failed.error, ValueError)
    assert harness.acked == harness.held == []
    assert "bolt: process() raised ValueError('bad')" in caplog.text


@pytest.mark.parametrize("error", [Reject("no"), SystemExit(1), RecursionError()])
def test_rejects_and_other_exceptions(error: BaseException) -> None:
    @bolt
    def refuse(n: int) -> None:
        raise error

    harness = BoltHarness(refuse)
    harness.process(n=1)
    [failed] = harness.failed
    assert failed.reason == ("rejected" if isinstance(error, Reject) else "error")
    assert failed.retry is not isinstance(error, Reject)


def test_positional_values_and_tuples() -> None:
    harness = BoltHarness(Count, fields=["word"])
    harness.process("a")
    harness.process(Tuple(["b"], ["word"], "split", attempt=2))
    assert harness.emitted == [("a", 1), ("b", 1)]
    with pytest.raises(TypeError, match="process\\(\\) of 2 values, but the harness has fields"):
        harness.process("a", "b")
    with pytest.raises(TypeError, match="takes values by name"):
        BoltHarness(Count).process("a")


def test_a_parameter_without_field_is_an_error_of_the_test() -> None:
    with pytest.raises(TopologyError, match='parameter "word" of process\\(\\): input "source" has no such field'):
        BoltHarness(Count).process(line="a")


def test_a_class_with_a_mistake_is_refused() -> None:
    class Nothing(Bolt): ...

    with pytest.raises(TopologyError, match="does not define process"):
        BoltHarness(Nothing)


def test_ticks_come_as_the_clock_is_moved_and_are_roots() -> None:
    harness = BoltHarness(Count)
    harness.process(word="a")
    harness.clear()
    harness.advance(0.9)
    assert harness.emitted == []
    harness.advance(2.2)
    assert harness.emitted == [("total", 1)] * 3
    assert harness.emissions[0].anchors == ()


def test_declared_types_are_checked() -> None:
    harness = BoltHarness(Count)
    harness.process(word=5)
    [failed] = harness.failed
    assert str(failed.error) == 'bolt "bolt" stream "default": field "word" is declared str, got int (5)'
    harness = BoltHarness(Count, checked=False)
    harness.process(word=5)
    assert harness.emitted == [(5, 1)]


class Careless(Bolt):
    outputs = ["rows"]

    def prepare(self, context: TaskContext) -> None:
        self.rows: list[int] = []

    def process(self, n: int) -> None:
        self.rows.append(n)
        self.emit(self.rows)


def test_a_change_after_the_emit_is_found() -> None:
    harness = BoltHarness(Careless)
    harness.process(n=1)
    harness.process(n=2)
    assert 'field "rows" was changed after it was emitted: it was [1] and is [1, 2]' in str(harness.failed[0].error)


def test_a_change_of_the_input_is_found() -> None:
    @bolt
    def sort(rows: list[int]) -> None:
        rows.sort()

    harness = BoltHarness(sort)
    harness.process(rows=[2, 1])
    assert "changed a value of the tuple it received" in str(harness.failed[0].error)


@pytest.mark.parametrize(
    ("values", "more", "text"),
    [
        ((), {}, 'bolt "bolt" stream "default": emit() of 0 values, expected the 1 fields word'),
        ((1, 2), {}, 'bolt "bolt" stream "default": emit() of 2 values, expected the 1 fields word'),
        ((1,), {"stream": "lat"}, 'bolt "bolt": no stream "lat"; did you mean "late"?'),
        (
            (1,),
            {"task": 3},
            'bolt "bolt" stream "default": task= but not direct; declare it with Stream(…, direct=True)',
        ),
        ((1,), {"stream": "late"}, 'bolt "bolt" stream "late": direct; give task='),
    ],
)
def test_wrong_emits_raise_at_the_call(values: Any, more: Any, text: str) -> None:
    class Wrong(Bolt):
        outputs = ["word"]
        streams = {"late": Stream(["word"], direct=True)}

        def process(self, n: int) -> None:
            self.emit(*values, **more)

    harness = BoltHarness(Wrong)
    harness.process(n=1)
    assert str(harness.failed[0].error) == text


class Join(Bolt):
    outputs = ["pair"]
    auto_ack = False

    def prepare(self, context: TaskContext) -> None:
        self.first: Tuple | None = None

    def process(self, n: int, tup: Tuple) -> None:
        if self.first is None:
            self.first = tup
            return
        pair = [self.first, tup]
        self.emit((self.first["n"], n), anchors=pair)
        for each in pair:
            self.ack(each)
        self.first = None

    def flush(self) -> None:
        if self.first is not None:
            self.fail(self.first, "alone", retry=False)


def test_manual_acks_and_anchors() -> None:
    harness = BoltHarness(Join)
    one = harness.process(n=1)
    assert harness.held == [one]
    two = harness.process(n=2)
    assert harness.emissions[0].anchors == (one, two)
    assert harness.acked == [one, two]
    harness.process(n=3)
    harness.flush()
    assert [(f.tup["n"], f.reason, f.retry) for f in harness.failed] == [(3, "alone", False)]


def test_an_emit_after_the_ack_raises_and_a_second_ack_is_ignored() -> None:
    class Late(Bolt):
        outputs = ["n"]
        auto_ack = False

        def process(self, n: int, tup: Tuple) -> None:
            self.ack(tup)
            self.ack(tup)
            self.emit(n)

    harness = BoltHarness(Late)
    tup = harness.process(n=1)
    assert harness.acked == [tup]
    assert harness.emitted == []


class Store(BatchBolt):
    outputs = ["n"]
    batch_size = 3
    batch_interval_s = 2.0

    def prepare(self, context: TaskContext) -> None:
        self.batches: list[list[int]] = []

    def process_batch(self, tuples: Sequence[Tuple]) -> None:
        self.batches.append([tup["n"] for tup in tuples])
        for tup in tuples:
            if tup["n"] == 13:
                raise ValueError(13)
            if tup["n"] == 7:
                self.fail(tup, "seven")
            else:
                self.emit(tup["n"], anchors=tup)


def test_a_batch_runs_when_it_is_full_when_its_time_has_come_and_at_the_flush() -> None:
    harness = BoltHarness(Store)
    for n in (1, 2, 3, 4):
        harness.process(n=n)
    assert [tup["n"] for tup in harness.held] == [4]
    harness.advance(1.9)
    assert len(harness.held) == 1
    harness.advance(0.1)
    harness.process(n=5)
    harness.flush()
    assert harness.bolt.batches == [[1, 2, 3], [4], [5]]  # type: ignore[attr-defined]
    assert [tup["n"] for tup in harness.acked] == [1, 2, 3, 4, 5]
    assert harness.emissions[0].anchors == (harness.acked[0],)


def test_one_of_a_batch_fails_and_a_batch_that_raises_fails_whole() -> None:
    harness = BoltHarness(Store)
    for n in (6, 7, 8, 12, 13, 14):
        harness.process(n=n)
    assert [tup["n"] for tup in harness.acked] == [6, 8]
    assert [(f.tup["n"], f.reason) for f in harness.failed] == [
        (7, "seven"),
        (12, "error"),
        (13, "error"),
        (14, "error"),
    ]


def test_a_batch_needs_anchors() -> None:
    class Forgetful(BatchBolt):
        outputs = ["n"]
        batch_size = 1

        def process_batch(self, tuples: Sequence[Tuple]) -> None:
            self.emit(len(tuples))

    harness = BoltHarness(Forgetful)
    harness.process(n=1)
    assert "emit() in process_batch() needs anchors=" in str(harness.failed[0].error)


class Fetch(Bolt):
    outputs = ["page"]

    async def prepare(self, context: TaskContext) -> None:
        self.is_ready = True

    async def process(self, url: str) -> None:
        assert self.is_ready
        await asyncio.sleep(0)
        if url == "bad":
            raise OSError(url)
        await asyncio.gather(self.part(url, 1), self.part(url, 2))

    async def part(self, url: str, n: int) -> None:
        await asyncio.sleep(0)
        self.emit(f"{url} {n}")

    async def flush(self) -> None:
        self.emit("flushed")


def test_an_async_bolt() -> None:
    with BoltHarness(Fetch) as harness:
        tup = harness.process(url="a")
        harness.process(url="bad")
        harness.flush()
    assert harness.emitted == ["a 1", "a 2", "flushed"]
    assert [emission.anchors for emission in harness.emissions] == [(tup,), (tup,), ()]
    assert harness.acked == [tup]
    assert [type(f.error) for f in harness.failed] == [OSError]


def test_an_async_generator_and_an_async_tick() -> None:
    class Letters(Bolt):
        outputs = ["letter"]
        tick_interval_s = 1.0

        async def process(self, word: str) -> AsyncIterator[str]:
            for letter in word:
                await asyncio.sleep(0)
                yield letter

        async def tick(self) -> None:
            await asyncio.sleep(0)
            self.emit("tick")

    with BoltHarness(Letters) as harness:
        harness.process(word="ab")
        harness.advance(1)
    assert harness.emitted == ["a", "b", "tick"]


def test_nonsense_is_refused() -> None:
    class Returns(Bolt):
        def process(self, n: int) -> Any:
            return [n]

    harness = BoltHarness(Returns)
    harness.process(n=1)
    assert (
        str(harness.failed[0].error) == "process() returned list; what it returns is not emitted: yield it or emit it"
    )


class Lines(Spout):
    outputs = ["line"]

    def __init__(self, path: str) -> None:
        self.path = path
        self.verdict: Any = None
        self.calls: list[tuple[str, Any]] = []

    def open(self, context: TaskContext) -> None:
        self.place = context.position or 0

    def next_tuple(self) -> None:
        self.place += 1
        if self.place > 3:
            self.end()
        else:
            self.emit(f"{self.path} {self.place}", id=self.place, position=self.place)

    def ack(self, id: int) -> None:  # noqa: A002
        self.calls.append(("ack", id))

    def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
        self.calls.append((f"fail {failure.reason} {failure.attempt}", id))
        return self.verdict


def test_a_spout_class() -> None:
    harness = SpoutHarness(partial(Lines, "f"))
    assert harness.next() == ["f 1"]
    assert harness.next() == ["f 2"]
    assert harness.pending == [1, 2]
    assert harness.position is None
    harness.ack(2)
    assert harness.position is None
    harness.ack(1)
    assert harness.position == 2
    assert harness.run() == ["f 3"]
    assert harness.ended
    assert harness.spout.calls == [("ack", 2), ("ack", 1), ("ack", 3)]  # type: ignore[attr-defined]
    with pytest.raises(KeyError, match="no root with id 1 is pending"):
        harness.ack(1)


def test_a_spout_goes_on_at_its_position() -> None:
    assert SpoutHarness(partial(Lines, "f"), position=2).run() == ["f 3"]


def test_verdicts() -> None:
    harness = SpoutHarness(partial(Lines, "f"), config={"max_attempts": 2})
    for _ in range(3):
        harness.next()
    spout: Any = harness.spout
    assert harness.fail(1).kind == "retry"
    assert harness.fail(1, "timeout") is DEAD_LETTER
    spout.verdict = DROP
    assert harness.fail(2) is DROP
    spout.verdict = DEAD_LETTER
    assert harness.fail(3) is DEAD_LETTER
    assert (harness.dead, harness.dropped, harness.pending) == ([1, 3], [2], [])
    assert spout.calls == [
        ("fail error 1", 1),
        ("fail timeout 2", 1),
        ("ack", 1),  # what dead() does by default
        ("fail error 1", 2),
        ("fail error 1", 3),
        ("ack", 3),
    ]


def test_a_spout_function_with_positions_and_streams() -> None:
    @spout(outputs=["n"], streams={"odd": ["n"]})
    def numbers(stop: int, context: TaskContext) -> Iterator[Any]:
        for n in range(context.position or 0, stop):
            yield At(n + 1, to("odd", n)) if n % 2 else At(n + 1, n)

    with SpoutHarness(partial(numbers, 4), position=1) as harness:
        assert harness.run() == [2]
        assert harness.emitted_to("odd") == [1, 3]
        assert harness.position == 4


def test_id_none_is_refused() -> None:
    class Wrong(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            self.emit(1, id=None)

    with pytest.raises(EmitError, match="leave id= out for an untracked tuple"):
        SpoutHarness(Wrong).next()


def test_a_spout_that_does_not_end() -> None:
    class Endless(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            self.emit(1, id=1)

    with pytest.raises(AssertionError, match="did not end within 5 calls"):
        SpoutHarness(Endless).run(5)
