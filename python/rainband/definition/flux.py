"""Recognises a topology of Storm's Flux and writes it the way rainband wants it, with the user's own names.

Flux lists components (``- id: …, className: …``) and wires them in ``streams:``. A file like that is not read; the
error says so once, at its first list, and shows the whole file rewritten, so that what is left to do is to port the
classes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from rainband.definition.scalars import plain_text

if TYPE_CHECKING:
    from rainband.definition.reader import Node, Source

_FLUX_KEYS: Final = frozenset(("id", "className", "constructorArgs", "configMethods"))
_GROUPINGS: Final = {
    "SHUFFLE": "shuffle", "ALL": "all", "GLOBAL": "global", "NONE": "none", "DIRECT": "direct",
    "LOCAL_OR_SHUFFLE": "local_or_shuffle",
}  # fmt: skip
_SETTINGS: Final = {
    "topology.workers": "workers",
    "topology.max.spout.pending": "max_pending",
    "topology.message.timeout.secs": "ack_timeout_s",
    "topology.executor.receive.buffer.size": "queue_capacity",
}


def is_flux(root: Node) -> bool:
    """Whether the file is one of Flux."""
    for kind in ("spouts", "bolts", "components"):
        node = root.child(kind)
        for entry in node.items if node is not None and isinstance(node.items, list) else ():
            if isinstance(entry.items, dict) and _FLUX_KEYS & entry.items.keys():
                return True
    node = root.child("topologySource")
    return node is not None and node.child("className") is not None


def note_flux(source: Source, root: Node) -> None:
    """Notes the one problem of such a file, with the file rewritten in its details."""
    first = next(key for key in ("spouts", "bolts", "components", "topologySource") if root.child(key) is not None)
    what = "this is a topology of Storm's Flux, which rainband does not run"
    fix = "write it as below, with each class ported to a Spout or Bolt in Python"
    source.add(source.at((first,), key=True), (first,), what, fix=fix, details=_rewritten(root.plain()), code="flux")


def _rewritten(flux: dict[str, Any]) -> str:
    lines = [f"name: {_name(flux.get('name', 'topology'))}"]
    config = flux.get("config")
    settings = {
        _SETTINGS[key]: value for key, value in (config if isinstance(config, dict) else {}).items() if key in _SETTINGS
    }
    if settings:
        lines.append("config: {" + ", ".join(f"{key}: {value}" for key, value in settings.items()) + "}")
    named = _components(flux.get("components"))
    for kind in ("spouts", "bolts"):
        entries = _entries(flux.get(kind))
        if entries:
            lines.append(f"{kind}:")
        for entry in entries:
            lines += _component(entry, _inputs(flux, entry.get("id")) if kind == "bolts" else [], named)
    return "\n".join(lines)


def _component(entry: dict[str, Any], inputs: list[str], named: dict[str, str]) -> list[str]:
    module, name = _reference(str(entry.get("className", "module.Name")))
    lines = [f"  {_name(entry.get('id', 'name'))}:", f"    class: {module}:{name}"]
    args = [_value(arg, named) for arg in _list(entry.get("constructorArgs"))]
    if args:
        written = ", ".join(f"arg{index}: {arg}" for index, arg in enumerate(args, 1))
        lines.append(f"    with: {{{written}}}  # name each after the constructor's parameter")
    for flux, ours in (("parallelism", "parallelism"), ("numTasks", "tasks")):
        if isinstance(entry.get(flux), int) and entry[flux] != 1:
            lines.append(f"    {ours}: {entry[flux]}")
    if inputs:
        lines += ["    inputs:", *(f"      - {line}" for line in inputs)]
    return lines


def _inputs(flux: dict[str, Any], bolt: Any) -> list[str]:
    lines = []
    for stream in _entries(flux.get("streams")):
        if stream.get("to") != bolt:
            continue
        grouping = stream.get("grouping")
        grouping = grouping if isinstance(grouping, dict) else {}
        kind = str(grouping.get("type", "SHUFFLE")).upper()
        fields = ", ".join(map(str, _list(grouping.get("args"))))
        source = _name(stream.get("from", "source"))
        if isinstance(grouping.get("streamId"), str) and grouping["streamId"] != "default":
            source += f".{_name(grouping['streamId'])}"
        if kind == "SHUFFLE":
            lines.append(source)
        elif kind in ("FIELDS", "PARTIAL_KEY"):
            lines.append(f"{{from: {source}, grouping: {{{kind.lower()}: [{fields}]}}}}")
        elif kind == "CUSTOM":
            custom = grouping.get("customClass")
            custom = custom.get("className", "") if isinstance(custom, dict) else ""
            module, name = _reference(custom or "module.Name")
            lines.append(f"{{from: {source}, grouping: {{custom: {module}:{name}}}}}")
        else:
            lines.append(f"{{from: {source}, grouping: {_GROUPINGS.get(kind, 'shuffle')}}}")
    return lines


def _components(value: Any) -> dict[str, str]:
    return {str(entry.get("id")): str(entry.get("className", "")).rpartition(".")[2] for entry in _entries(value)}


def _value(value: Any, named: dict[str, str]) -> str:
    if isinstance(value, dict) and isinstance(value.get("ref"), str):
        return plain_text(f"{named.get(value['ref'], value['ref'])}")
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item, named) for item in value) + "]"
    return "…" if isinstance(value, dict) or value is None else str(value)


def _reference(class_name: str) -> tuple[str, str]:
    """``org.acme.WordCountBolt`` → ``("word_count_bolt", "WordCountBolt")``; ``bolts.WordCount`` keeps its module."""
    package, _, name = class_name.rpartition(".")
    name = re.sub(r"\W", "", name) or "Name"
    if package and "." not in package and package.isidentifier():
        return package, name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(), name


def _name(value: Any) -> str:
    return re.sub(r"^[^A-Za-z]+", "", re.sub(r"[^A-Za-z0-9_-]+", "_", str(value)).strip("_-")) or "name"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]
