"""Compiled plans: the dict of the core, what the runtime needs beside it, and hashes, equal for equal plans."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from rainband import BatchBolt, Bolt, Spout, Stream, TaskContext, Topology, TopologyError, Tuple, bolt, grouping, spout
from rainband.anatomy import mode_of
from rainband.binding import Binding
from rainband.config import defaults
from rainband.plan import CompiledPlan, compile_component, compile_plan


class Lines(Spout):
    outputs = ["line"]
    streams = {"control": Stream({"command": str}, direct=True)}

    def __init__(self, path: str) -> None:
        self.path = path

    def next_tuple(self) -> None: ...


class Split(Bolt):
    outputs = {"word": str, "length": int}

    def process(self, line: str, tup: Tuple) -> None: ...


class Count(Bolt):
    def process(self, word: str) -> None: ...


class Letters(Bolt):
    def process(self, tup: Tuple) -> None: ...


CONTEXT = TaskContext(topology="t", component="c")


def wordcount(**lines: Any) -> Topology:
    topology = Topology("wordcount", config={"max_pending": 9})
    topology.spout("lines", partial(Lines, "book.txt"), **lines)
    topology.bolt("split", Split, inputs="lines", parallelism=2, tasks=3)
    topology.bolt("count", Count, inputs={"split": grouping.fields("length", "word")}, parallelism=2)
    topology.bolt("letters", Letters, inputs={"lines.dead_letter": grouping.global_()})
    return topology


def test_the_dict_of_the_core() -> None:
    plan = compile_plan(wordcount())
    assert plan.core["name"] == "wordcount"
    assert plan.core["config"] == defaults("topology")
    lines, split, count, letters = plan.core["components"]
    assert lines == {
        "name": "lines",
        "kind": "spout",
        "parallelism": 1,
        "tasks": 1,
        "streams": [
            {"name": "default", "fields": ["line"], "direct": False, "pickle": False},
            {"name": "control", "fields": ["command"], "direct": True, "pickle": False},
            {
                "name": "dead_letter",
                "fields": ["component", "stream", "values", "id", "reason", "error", "attempts", "at"],
                "direct": False,
                "pickle": False,
            },
        ],
        "inputs": [],
        "config": {**defaults("component"), "max_pending": 9},
    }
    assert (split["parallelism"], split["tasks"]) == (2, 3)
    shuffle: dict[str, Any] = {"kind": "shuffle", "fields": [], "custom": None}
    assert split["inputs"] == [{"component": 0, "stream": "default", "grouping": shuffle}]
    fields = {"kind": "fields", "fields": [1, 0], "custom": None}
    assert count["inputs"] == [{"component": 1, "stream": "default", "grouping": fields}]
    assert count["streams"] == []
    assert letters["inputs"][0]["stream"] == "dead_letter"


def test_a_dead_letter_stream_is_only_there_if_somebody_takes_it() -> None:
    topology = Topology("t")
    topology.spout("lines", partial(Lines, ""))
    assert [stream["name"] for stream in compile_plan(topology).core["components"][0]["streams"]] == [
        "default",
        "control",
    ]


def test_what_the_runtime_needs() -> None:
    plan = compile_plan(wordcount())
    assert plan.tasks == {"lines": range(1), "split": range(1, 4), "count": range(4, 6), "letters": range(6, 7)}
    split = plan.component("split")
    assert (split.index, split.first_task, split.mode, split.where) == (1, 1, "plain", 'bolt "split"')
    assert split.bindings == {(0, "default"): Binding((0, -1))}
    default = split.stream("default")
    assert default is not None
    assert default.fields == {"word": str, "length": int}
    assert split.stream("other") is None
    with pytest.raises(KeyError, match='topology "wordcount" has no component "x"'):
        plan.component("x")


def test_build() -> None:
    plan = compile_plan(wordcount())
    lines = plan.component("lines").build(CONTEXT)
    assert isinstance(lines, Lines)
    assert lines.path == "book.txt"
    assert plan.component("lines").build(CONTEXT) is not lines


def test_an_exception_of_a_constructor_is_the_users() -> None:
    class Broken(Count):
        def __init__(self) -> None:
            raise LookupError("no such file")

    topology = wordcount()
    topology.bolt("broken", Broken, inputs="split")
    with pytest.raises(LookupError, match="no such file"):
        compile_plan(topology).component("broken").build(CONTEXT)


def test_wiring_replaces_what_a_class_declares() -> None:
    topology = Topology("t")
    topology.spout("s", partial(Lines, ""), outputs=["a", "b"], streams={})
    assert [shape.name for shape in compile_plan(topology).components[0].streams] == ["default"]
    assert compile_plan(topology).core["components"][0]["streams"][0]["fields"] == ["a", "b"]


def test_modes() -> None:
    class Async(Count):
        async def process(self, word: str) -> None: ...  # type: ignore[override]

    class Generator(Count):
        async def process(self, word: str) -> Any:
            yield word

    class AsyncTick(Count):
        tick_interval_s = 1

        async def tick(self) -> None: ...

    class Batch(BatchBolt):
        def process_batch(self, tuples: list[Tuple]) -> None: ...

    @bolt
    async def function(word: str) -> None: ...

    class AsyncWhole(Bolt):
        async def process(self, tup: Tuple) -> None: ...

    def factory() -> AsyncWhole:
        return AsyncWhole()

    topology = wordcount()
    components: list[Any] = [Async, Generator, AsyncTick, Batch, function, Count]
    for i, component in enumerate(components):
        topology.bolt(f"b{i}", component, inputs="split")
    topology.bolt("factory", factory, inputs="split", outputs=[])
    plan = compile_plan(topology)
    modes = [part.mode for part in plan.components[4:]]
    assert modes == ["async", "async", "async", "batch", "async", "plain", None]
    assert [mode_of(part.build(CONTEXT)) for part in plan.components[4:]] == [*modes[:-1], "async"]


def test_factories_take_the_whole_tuple() -> None:
    class Whole(Bolt):
        def process(self, tup: Tuple) -> None: ...

    def make() -> Whole:
        return Whole()

    topology = wordcount()
    topology.bolt("made", make, inputs="split", outputs=["x"])
    made = compile_plan(topology).component("made")
    assert made.bindings == {(1, "default"): Binding((-1,))}
    assert isinstance(made.build(CONTEXT), Whole)


def test_the_plan_does_not_change_with_the_topology() -> None:
    topology = wordcount()
    plan = compile_plan(topology)
    before = repr(plan.core)
    topology.bolt("more", Count, inputs="split")
    assert repr(plan.core) == before


def hashes(plan: CompiledPlan) -> list[str]:
    return [plan.plan_hash, *(component.hash for component in plan.components)]


def test_hashes_are_equal_for_equal_plans_and_name_the_component_that_differs() -> None:
    first = hashes(compile_plan(wordcount()))
    assert hashes(compile_plan(wordcount())) == first
    other = hashes(compile_plan(wordcount(config={"max_pending": 8})))
    assert [a == b for a, b in zip(first, other, strict=True)] == [False, False, True, True, True]
    topology = Topology("wordcount", config={"max_pending": 9})
    topology.spout("lines", partial(Lines, "other.txt"))
    assert compile_plan(topology).components[0].hash != first[1]


def test_hashes_do_not_depend_on_the_process() -> None:
    script = """
from functools import partial
from rainband import Bolt, Spout, Topology, grouping
from rainband.plan import compile_plan
class Pick:
    def prepare(self, context, tasks): ...
    def choose(self, values): return []
class Lines(Spout):
    outputs = ["line"]
    def __init__(self, path, opener): ...
    def next_tuple(self): ...
class Count(Bolt):
    def process(self, line): ...
topology = Topology("t", config={"state_dir": "/x"})
topology.spout("lines", partial(Lines, "a", opener=object()))
topology.bolt("count", Count, inputs={"lines": grouping.custom(Pick())})
print(compile_plan(topology).plan_hash)
"""
    seen = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        seen.add(done.stdout)
    assert len(seen) == 1


def test_one_component_for_harnesses() -> None:
    plan = compile_component("bolt", Split, name="split", config={"concurrency": 3})
    assert plan.parameters is not None
    assert plan.parameters.bind({"line": None}, plan.where, "test") == (Binding((0, -1)), [])
    assert plan.config["concurrency"] == 3
    assert isinstance(plan.build(CONTEXT), Split)
    with pytest.raises(TopologyError, match='bolt "component" has 1 mistake'):
        compile_component("bolt", 5)


def test_a_function_spout_knows_its_fields() -> None:
    @spout(outputs=["a", "b"])
    def pairs() -> Any:
        yield 1, 2

    made: Any = compile_component("spout", pairs, outputs=["x"]).build(CONTEXT)
    assert made._streams == {"default": ("x",)}
