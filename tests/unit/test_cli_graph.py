"""Pictures of topologies: which edges are back edges, what each format says, and that no two boxes overlap."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainband import Bolt, Spout, Topology, grouping
from rainband.cli.graph_svg import draw_svg
from rainband.cli.graph_text import draw_dot, draw_json, draw_mermaid
from rainband.cli.layout import lay_out
from rainband.cli.target import Target, load_target
from rainband.cli.wiring import Edge, Part, Wiring, _finished, wiring_of

if TYPE_CHECKING:
    from pathlib import Path

TIMES = "\N{MULTIPLICATION SIGN}"
LOOP = """\
name: loop
spouts:
  numbers: {class: "steps:Numbers", with: {stop: 5, password: "${PW:-x}"}}
bolts:
  step:
    class: steps:Step
    parallelism: 2
    tasks: 4
    inputs: [numbers, {from: next, grouping: {fields: [n]}}, {from: step.again, grouping: direct}]
  next: {class: "steps:Next", inputs: [step]}
  out:
    class: steps:Out
    inputs: [{from: next.done, grouping: global}, {from: step, grouping: {custom: "steps:Own"}}]
"""


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wiring:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.yaml").write_text(LOOP, encoding="utf-8")
    return wiring_of(load_target("loop.yaml", {}))


def test_back_edges_are_those_to_the_same_or_an_earlier_component_within_a_cycle(loop: Wiring) -> None:
    assert [(edge.source, edge.target, edge.label) for edge in loop.edges if edge.is_back] == [
        ("next", "step", "fields(n)"),
        ("step", "step", "again: direct"),
    ]


def test_an_edge_to_an_earlier_component_outside_a_cycle_is_no_back_edge() -> None:
    parts = [Part(name, "bolt", "m:C", 1, 1, {}) for name in "abc"]
    found = _finished("t", parts, [Edge("c", "default", "a", "shuffle"), Edge("a", "default", "b", "shuffle")])
    assert [edge.is_back for edge in found.edges] == [False, False]


MERMAID = """\
flowchart LR
    c0(["numbers<br/><small>steps:Numbers</small>"])
    c1["step x2, 4 tasks<br/><small>steps:Step</small>"]
    c2["next<br/><small>steps:Next</small>"]
    c3["out<br/><small>steps:Out</small>"]
    c0 -->|"shuffle"| c1
    c2 -.->|"fields(n)"| c1
    c1 -.->|"again: direct"| c1
    c1 -->|"shuffle"| c2
    c2 -->|"done: global"| c3
    c1 -->|"custom(Own)"| c3"""


def test_mermaid(loop: Wiring) -> None:
    assert draw_mermaid(loop) == MERMAID.replace("x2", f"{TIMES}2")


def test_dot(loop: Wiring) -> None:
    text = draw_dot(loop)
    assert '"numbers" [label="numbers\\nsteps:Numbers", shape=oval' in text
    assert '"next" -> "step" [label="fields(n)", style=dashed, color="#c2410c", constraint=false];' in text
    assert text.count("->") == len(loop.edges)


def test_json_masks_what_is_named_like_a_secret(loop: Wiring) -> None:
    found = json.loads(draw_json(loop))
    assert found["components"][0] == {
        "name": "numbers",
        "kind": "spout",
        "class": "steps:Numbers",
        "parallelism": 1,
        "tasks": 1,
        "with": {"stop": 5, "password": "***"},
    }
    assert found["edges"][1] == {
        "from": "next",
        "stream": "default",
        "to": "step",
        "grouping": "fields",
        "keys": ["n"],
        "back_edge": True,
    }


def test_a_topology_in_python_gives_the_same_picture() -> None:
    class Source(Spout):
        outputs = ["n"]

        def __init__(self, stop: int) -> None: ...

        def next_tuple(self) -> None: ...

    class Sink(Bolt):
        def process(self, n: int) -> None: ...

    topology = Topology("python")
    topology.spout("source", partial(Source, 3), parallelism=2)
    topology.bolt("one", Sink, inputs="source")
    topology.bolt("two", Sink, inputs={"source": grouping.fields("n")}, tasks=3)
    found = wiring_of(Target("x", made=topology))
    assert [part.component.rpartition(".")[2] for part in found.parts] == ["Source", "Sink", "Sink"]
    assert [(edge.source, edge.target, edge.label) for edge in found.edges] == [
        ("source", "one", "shuffle"),
        ("source", "two", "fields(n)"),
    ]


def test_svg_is_xml_with_every_component_and_edge(loop: Wiring) -> None:
    root = ET.fromstring(draw_svg(loop))
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert {"loop", "numbers", "step", "next", "out", f"{TIMES}2, 4 tasks", "fields(n)", "done: global"} <= set(texts)
    paths = [element for element in root.iter(f"{space}path") if element.get("class") == "edge"]
    assert len(paths) == len(loop.edges)
    assert sum("stroke-dasharray" in path.attrib for path in paths) == 2


def test_svg_escapes_names() -> None:
    wiring = Wiring("a<b>&\"c'", (Part("x<y", "spout", "m:<lambda>", 1, 1, {}),), ())
    ET.fromstring(draw_svg(wiring))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))
    )
)
def test_no_layout_has_boxes_that_overlap(graph: tuple[int, set[tuple[int, int]]]) -> None:
    count, pairs = graph
    parts = [Part(f"c{index}", "bolt", "m:C", 1, 1, {}) for index in range(count)]
    wiring = _finished("t", parts, [Edge(f"c{a}", "default", f"c{b}", "shuffle") for a, b in sorted(pairs)])
    placed = lay_out(wiring, {part.name: (80.0 + 10 * index, 52.0) for index, part in enumerate(parts)})
    assert len(placed.routes) == len(pairs)
    boxes = list(placed.boxes.values())
    for index, first in enumerate(boxes):
        assert first.x - first.width / 2 >= 0
        assert first.y - first.height / 2 >= -0.01
        assert first.y + first.height / 2 <= placed.height + 0.01
        for second in boxes[index + 1 :]:
            apart_x = abs(first.x - second.x) >= (first.width + second.width) / 2
            apart_y = abs(first.y - second.y) >= (first.height + second.height) / 2 - 0.01
            assert apart_x or apart_y
    for edge, route in placed.routes:
        if not edge.is_back:
            assert route[0][0] < route[-1][0]
    ET.fromstring(draw_svg(wiring))
