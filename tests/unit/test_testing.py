"""`complete` on the real engine: what it returns, what it refuses, and that the topology stays as it was."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rainband import (
    Bolt,
    EmitError,
    Reject,
    RunError,
    Spout,
    Stream,
    Topology,
    TopologyError,
    bolt,
    grouping,
    spout,
    to,
)
from rainband.testing import complete


@spout(outputs=["line"])
def lines() -> Iterator[str]:
    yield "from the source"


@bolt(outputs=["word"], streams={"long": ["word", "length"]})
def split(line: str) -> Iterator[Any]:
    for word in line.split():
        yield to("long", word, len(word)) if len(word) > 3 else word


class Count(Bolt):
    outputs = {"word": str, "count": int}

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def process(self, word: str) -> None:
        self.counts[word] = n = self.counts.get(word, 0) + 1
        self.emit(word, n)


@bolt
def ignore(word: str) -> None: ...


def wordcount() -> Topology:
    topology = Topology("wordcount")
    topology.spout("lines", lines)
    topology.bolt("split", split, inputs="lines", parallelism=2)
    topology.bolt("count", Count, inputs={"split": grouping.fields("word")}, parallelism=2)
    topology.bolt("ignore", ignore, inputs="count")
    return topology


def test_what_every_stream_got() -> None:
    result = complete(wordcount(), {"lines": ["a b a", "late b"]})
    assert sorted(result["split"]) == ["a", "a", "b", "b"]
    assert sorted(result["count"]) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert result["split.long"] == [("late", 4)]
    assert result["split.default"] == result["split"]
    assert result["lines"] == ["a b a", "late b"]
    assert result["ignore"] == []
    assert result.dead_letters == []
    assert result.report.state == "ended"
    assert result.report.components["lines"].roots.acked == 2
    assert set(result) == {"lines", "split", "split.long", "count", "ignore"}


def test_a_spout_that_is_not_replaced_runs_as_it_is() -> None:
    assert complete(wordcount())["split"] == ["the"]


def test_the_topology_is_not_changed() -> None:
    topology = wordcount()
    before = list(topology.definitions)
    complete(topology, {"lines": ["a"]})
    assert topology.definitions == before


def test_unknown_names_say_what_was_meant() -> None:
    result = complete(wordcount(), {"lines": []})
    with pytest.raises(KeyError, match='nothing is called "cont"; did you mean "count"'):
        result["cont"]
    with pytest.raises(KeyError, match="lines"):
        complete(wordcount(), {"line": []})
    with pytest.raises(TypeError, match="expected a list of values, got 'a b'"):
        complete(wordcount(), {"lines": "a b"})


def test_mistakes_of_the_topology_are_told() -> None:
    topology = wordcount()
    topology.bolt("more", ignore, inputs="nobody")
    with pytest.raises(TopologyError, match="nobody"):
        complete(topology, {"lines": []})


def test_several_fields_and_streams_of_a_given_spout() -> None:
    @spout(outputs=["a", "b"], streams={"late": ["c"]})
    def pairs() -> Iterator[Any]: ...  # type: ignore[empty-body]

    @bolt(outputs=["seen"])
    def see(**values: Any) -> Iterator[Any]:
        yield tuple(values.items())

    topology = Topology("t")
    topology.spout("pairs", pairs)
    topology.bolt("see", see, inputs=["pairs", "pairs.late"])
    result = complete(topology, {"pairs": [(1, 2), to("late", 3)]})
    assert sorted(result["see"]) == [(("a", 1), ("b", 2)), (("c", 3),)]


def test_direct_streams_are_captured() -> None:
    class Route(Bolt):
        streams = {"to": Stream(["line"], direct=True)}

        def prepare(self, context: Any) -> None:
            self.target = context.tasks_of("ignore")[0]

        def process(self, line: str) -> None:
            self.emit(line, stream="to", task=self.target)

    @bolt
    def take(line: str) -> None: ...

    topology = Topology("t")
    topology.spout("lines", lines)
    topology.bolt("route", Route, inputs="lines")
    topology.bolt("ignore", take, inputs={"route.to": grouping.direct()})
    assert complete(topology, {"lines": ["a"]})["route.to"] == ["a"]


def test_dead_letters_are_returned() -> None:
    @bolt
    def refuse(line: str) -> None:
        raise Reject(f"no {line}")

    topology = Topology("t")
    topology.spout("lines", lines)
    topology.bolt("refuse", refuse, inputs="lines")
    result = complete(topology, {"lines": ["a"]})
    [letter] = result.dead_letters
    assert letter["component"] == "lines"
    assert letter["values"] == ("a",)
    assert letter["reason"] == "rejected"
    assert letter["error"].endswith("no a")
    assert letter["attempts"] == 1
    assert result.report.dead_letters == 1


def test_a_failure_is_replayed_and_emits_again() -> None:
    class Once(Bolt):
        outputs = ["line"]

        def __init__(self) -> None:
            self.seen: set[str] = set()

        def process(self, line: str) -> None:
            self.emit(line)
            if line not in self.seen:
                self.seen.add(line)
                raise ValueError(line)

    topology = Topology("t", config={"retry_backoff_s": 0.001})
    topology.spout("lines", lines)
    topology.bolt("once", Once, inputs="lines")
    result = complete(topology, {"lines": ["a"]})
    assert result["once"] == ["a", "a"]
    assert result.report.components["lines"].replays == 1


def test_declared_types_are_checked_unless_told_otherwise() -> None:
    @bolt(outputs={"n": int})
    def wrong(line: str) -> Iterator[str]:
        yield line

    topology = Topology("t", config={"max_attempts": 1})
    topology.spout("lines", lines)
    topology.bolt("wrong", wrong, inputs="lines")
    result = complete(topology, {"lines": ["a"]})
    assert 'field "n" is declared int, got str' in result.dead_letters[0]["error"]
    assert complete(topology, {"lines": ["a"]}, checked=False)["wrong"] == ["a"]


def test_a_value_changed_by_its_receiver_is_found() -> None:
    @bolt(outputs=["rows"])
    def rows(line: str) -> Iterator[list[str]]:
        yield line.split()

    @bolt
    def sort(rows: list[str]) -> None:
        rows.sort()

    topology = Topology("t", config={"max_attempts": 1})
    topology.spout("lines", lines)
    topology.bolt("rows", rows, inputs="lines")
    topology.bolt("sort", sort, inputs="rows")
    result = complete(topology, {"lines": ["b a"]})
    assert 'bolt "sort" changed field "rows" of a tuple of bolt "rows"' in result.dead_letters[0]["error"]


def test_a_run_that_fails_raises_the_users_exception() -> None:
    class Broken(Bolt):
        def prepare(self, context: Any) -> None:
            raise FileNotFoundError("model.bin")

        def process(self, line: str) -> None: ...

    topology = Topology("t")
    topology.spout("lines", lines)
    topology.bolt("broken", Broken, inputs="lines")
    with pytest.raises(RunError, match=r"prepare\(\) raised FileNotFoundError\('model\.bin'\)") as caught:
        complete(topology, {"lines": ["a"]})
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_run_that_does_not_end_is_stopped() -> None:
    class Endless(Spout):
        outputs = ["line"]

        def next_tuple(self) -> None: ...

    topology = Topology("t")
    topology.spout("lines", Endless)
    topology.bolt("split", split, inputs="lines")
    with pytest.raises(RunError) as caught:
        complete(topology, timeout_s=0.2)
    assert str(caught.value) == ('topology "t" did not end within 0.2 s; nothing is pending: a spout does not end')
    assert not [t.name for t in threading.enumerate() if t.name.startswith("rainband-")]


def test_an_emit_error_is_an_error_of_the_bolt() -> None:
    class Wrong(Bolt):
        outputs = ["a"]

        def process(self, line: str) -> None:
            try:
                self.emit(1, 2)
            except EmitError:
                self.emit("caught")

    topology = Topology("t")
    topology.spout("lines", lines)
    topology.bolt("wrong", Wrong, inputs="lines")
    assert complete(topology, {"lines": ["a"]})["wrong"] == ["caught"]
