"""A topology as text for other programs: mermaid, dot, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainband.cli.wiring import Part, Wiring


def draw_mermaid(wiring: Wiring) -> str:
    """A flowchart for Markdown: spouts are rounded, back edges dotted."""
    lines = ["flowchart LR"]
    names = {part.name: f"c{index}" for index, part in enumerate(wiring.parts)}
    for part in wiring.parts:
        opening, closing = ('(["', '"])') if part.kind == "spout" else ('["', '"]')
        text = f"{part.name}{_times(part)}<br/><small>{part.component}</small>"
        lines.append(f"    {names[part.name]}{opening}{text}{closing}")
    for edge in wiring.edges:
        arrow = "-.->" if edge.is_back else "-->"
        lines.append(f'    {names[edge.source]} {arrow}|"{edge.label}"| {names[edge.target]}')
    return "\n".join(lines)


def draw_dot(wiring: Wiring) -> str:
    """A digraph for Graphviz."""
    lines = [f"digraph {_quoted(wiring.name)} {{", "  rankdir=LR;", '  node [fontname="sans-serif", style=filled];']
    for part in wiring.parts:
        shape = 'shape=oval, fillcolor="#dbeafe"' if part.kind == "spout" else 'shape=box, fillcolor="#f1f5f9"'
        label = _quoted(f"{part.name}{_times(part)}\n{part.component}")
        lines.append(f"  {_quoted(part.name)} [label={label}, {shape}];")
    for edge in wiring.edges:
        back = ', style=dashed, color="#c2410c", constraint=false' if edge.is_back else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(edge.label)}{back}];")
    return "\n".join([*lines, "}"])


def draw_json(wiring: Wiring) -> str:
    """Components and edges as JSON; arguments with secrets masked."""
    parts = [_renamed(asdict(part), {"component": "class", "arguments": "with"}) for part in wiring.parts]
    edges = [
        _renamed(asdict(edge), {"source": "from", "target": "to", "is_back": "back_edge"}) for edge in wiring.edges
    ]
    found = {"name": wiring.name, "components": parts, "edges": edges}
    return json.dumps(found, ensure_ascii=False, indent=2)


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _times(part: Part) -> str:
    tasks = f", {part.tasks} tasks" if part.tasks != part.parallelism else ""
    return f" \N{MULTIPLICATION SIGN}{part.parallelism}{tasks}" if part.parallelism > 1 or tasks else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
