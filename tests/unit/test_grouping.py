"""Groupings: the nine of them, their words, and how they print."""

from __future__ import annotations

from typing import Any

import pytest

from rainband import Bolt, Spout, Stream, Topology, grouping
from rainband.grouping import KINDS, Grouping
from rainband.plan import compile_plan


class Evens:
    def prepare(self, context: Any, tasks: Any) -> None: ...
    def choose(self, values: Any) -> list[int]:
        return []


EVENS = Evens()
ALL: dict[str, Grouping] = {
    "shuffle": grouping.shuffle(),
    "fields": grouping.fields("b", "a"),
    "partial_key": grouping.partial_key("b"),
    "all": grouping.all(),
    "global": grouping.global_(),
    "none": grouping.none(),
    "local_or_shuffle": grouping.local_or_shuffle(),
    "direct": grouping.direct(),
    "custom": grouping.custom(EVENS),
}


class Source(Spout):
    outputs = ["a", "b"]

    def next_tuple(self) -> None: ...


class Sink(Bolt):
    def process(self) -> None: ...


def test_the_words_are_storms() -> None:
    assert tuple(ALL) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_plan(kind: str) -> None:
    topology = Topology("t")
    topology.spout("s", Source, outputs=[], streams={"x": Stream(["a", "b"], direct=kind == "direct")})
    topology.bolt("b", Sink, inputs={"s.x": ALL[kind]})
    (entry,) = compile_plan(topology).core["components"][1]["inputs"]
    fields = {"fields": [1, 0], "partial_key": [1]}.get(kind, [])
    custom = EVENS if kind == "custom" else None
    assert entry == {"component": 0, "stream": "x", "grouping": {"kind": kind, "fields": fields, "custom": custom}}


def test_repr() -> None:
    assert repr(grouping.fields("b", "a")) == 'grouping.fields("b", "a")'
    assert repr(grouping.global_()) == "grouping.global_()"
    assert repr(ALL["custom"]).startswith("grouping.custom(<")


def test_equal_and_frozen() -> None:
    assert grouping.shuffle() == grouping.shuffle() != grouping.none()
    with pytest.raises(AttributeError):
        grouping.shuffle().kind = "none"  # type: ignore[misc]
