"""A topology as nodes and edges, for drawing: made of a file without importing its classes, or of a ``Topology``.

Back edges, which never block (they queue in memory), are those to the same or an earlier component in definition order
within a cycle. They are found here the way the core finds them, so that a picture needs no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rainband.cli.target import Target
    from rainband.definition.model import BoltEntry, GroupingEntry
    from rainband.topology import Topology


@dataclass(frozen=True, slots=True)
class Part:
    """A component: its name, ``spout`` or ``bolt``, its class, executors, tasks, and what ``with:`` gives it."""

    name: str
    kind: str
    component: str
    parallelism: int
    tasks: int
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edge:
    """A stream from one component to another, and how it is shared out."""

    source: str
    stream: str
    target: str
    grouping: str
    keys: tuple[str, ...] = ()
    is_back: bool = False

    @property
    def label(self) -> str:
        """``fields(word)``, behind the stream if it is not the default one."""
        keys = f"({', '.join(self.keys)})" if self.keys else ""
        return (f"{self.stream}: " if self.stream != "default" else "") + self.grouping + keys


@dataclass(frozen=True, slots=True)
class Wiring:
    """A topology's components in definition order, and the edges between them."""

    name: str
    parts: tuple[Part, ...]
    edges: tuple[Edge, ...]


def wiring_of(target: Target) -> Wiring:
    """The wiring of what the command line named; classes of a topology file are not imported."""
    if target.definition is not None:
        return _of_file(target)
    return _of_topology(target.topology())


def _of_file(target: Target) -> Wiring:
    definition = target.definition
    assert definition is not None
    shown, model = definition.shown(), definition.model
    parts, edges = [], []
    for kind, entries in (("spout", model.spouts), ("bolt", model.bolts)):
        for name, entry in entries.items():
            arguments = shown[f"{kind}s"][name].get("with") or {}
            tasks = entry.tasks or entry.parallelism
            parts.append(Part(name, kind, entry.class_, entry.parallelism, tasks, arguments))
    for name, bolt in model.bolts.items():
        edges += [_edge(source, name, *grouping) for source, grouping in _inputs_of_entry(bolt)]
    return _finished(model.name, parts, edges)


def _inputs_of_entry(bolt: BoltEntry) -> Iterable[tuple[str, tuple[str, tuple[str, ...]]]]:
    for each in [bolt.inputs] if isinstance(bolt.inputs, str) else bolt.inputs:
        if isinstance(each, str):
            yield each, ("shuffle", ())
        else:
            yield each.from_, _grouping_of_entry(each.grouping)


def _grouping_of_entry(entry: str | GroupingEntry) -> tuple[str, tuple[str, ...]]:
    if isinstance(entry, str):
        return entry, ()
    if entry.fields is not None:
        return "fields", tuple(entry.fields)
    if entry.partial_key is not None:
        return "partial_key", tuple(entry.partial_key)
    return "custom", ((entry.custom or "").rpartition(":")[2],)


def _of_topology(topology: Topology) -> Wiring:
    parts, edges = [], []
    for each in topology.definitions:
        tasks = each.tasks or each.parallelism
        parts.append(Part(each.name, each.kind, _component_name(each.component), each.parallelism, tasks, {}))
        inputs = each.inputs or ()
        if isinstance(inputs, str):
            inputs = [inputs]
        if not hasattr(inputs, "items"):
            inputs = dict.fromkeys(inputs)
        for source, grouping in inputs.items():
            kind = grouping.kind if grouping is not None else "shuffle"
            keys = grouping.names if grouping is not None else ()
            if grouping is not None and kind == "custom":
                keys = (type(grouping.chooser).__name__,)
            edges.append(_edge(source, each.name, kind, keys))
    return _finished(topology.name, parts, edges)


def _component_name(component: Any) -> str:
    while isinstance(component, partial):
        component = component.func
    return f"{getattr(component, '__module__', '')}:{getattr(component, '__qualname__', type(component).__name__)}"


def _edge(source: str, target: str, grouping: str, keys: tuple[str, ...]) -> Edge:
    name, _, stream = source.partition(".")
    return Edge(name, stream or "default", target, grouping, keys)


def _finished(name: str, parts: list[Part], edges: list[Edge]) -> Wiring:
    order = {part.name: index for index, part in enumerate(parts)}
    edges = [edge for edge in edges if edge.source in order]
    below: dict[str, set[str]] = {part.name: set() for part in parts}
    for edge in edges:
        below[edge.source].add(edge.target)
    marked = []
    for edge in edges:
        turns_back = order[edge.target] <= order[edge.source] and edge.source in _reached(edge.target, below)
        marked.append(Edge(edge.source, edge.stream, edge.target, edge.grouping, edge.keys, turns_back))
    return Wiring(name, tuple(parts), tuple(marked))


def _reached(start: str, below: dict[str, set[str]]) -> set[str]:
    """Every component that tuples of ``start`` may come to, ``start`` itself included."""
    found, open_ = {start}, [start]
    while open_:
        for name in below[open_.pop()] - found:
            found.add(name)
            open_.append(name)
    return found
