"""What can be seen of a topology without importing its classes: the fourth step of loading.

Sources that exist, streams and key fields where the file declares them, settings, a way from a spout to every bolt,
tests that name components. It looks at the tree, not at the models, and passes over whatever has the wrong shape, so
that it speaks in the same breath as they do. What needs the classes is said by ``Topology.check``, see ``resolve``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rainband.definition.model import NAME_PATTERN, SOURCE_PATTERN
from rainband.definition.problem import Path, describe, did_you_mean, quote
from rainband.definition.scalars import plain_text, read_scalar, values_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rainband.definition.reader import Node, Source

DEAD_LETTER: Final = "dead_letter"
"""The stream that every spout has without declaring it."""
_DEAD_LETTER_FIELDS: Final = ("component", "stream", "values", "id", "reason", "error", "attempts", "at")


@dataclass(slots=True)
class _Component:
    """A component as far as the file tells: ``streams`` is None for what only its class knows."""

    kind: str
    node: Node
    default: tuple[str, ...] | None = None
    streams: dict[str, tuple[str, ...]] | None = None
    inputs: list[tuple[Path, str, Node | None]] = field(default_factory=list)

    def fields_of(self, stream: str) -> tuple[str, ...] | None:
        """The fields of a stream if the file declares them."""
        if stream == "default":
            return self.default
        if stream == DEAD_LETTER and self.kind == "spouts":
            return _DEAD_LETTER_FIELDS
        return (self.streams or {}).get(stream)


def check_graph(source: Source, root: Node) -> None:
    """Notes every mistake of wiring, settings and tests in ``source``."""
    components = _components(source, root)
    spouts = root.child("spouts")
    wired = spouts is not None and isinstance(spouts.items, dict) and bool(spouts.items)
    for name, component in components.items():
        if component.kind == "bolts":
            # Without spouts every source would be unknown, which is one mistake and not many.
            for path, wanted, grouping in component.inputs if wired else ():
                _check_input(source, components, path, wanted, grouping)
            _check_twice(source, component)
        _check_settings(source, component.node, (component.kind, name))
        _check_tasks(source, component.node, (component.kind, name))
    _check_settings(source, root, ())
    if wired:
        _check_reach(source, components)
        _check_tests(source, root, components)


def _components(source: Source, root: Node) -> dict[str, _Component]:
    found: dict[str, _Component] = {}
    for kind in ("spouts", "bolts"):
        node = root.child(kind)
        for name, below in (node.items if node is not None and isinstance(node.items, dict) else {}).items():
            if name in found:
                fix = "give one of them another name"
                what = f'"{name}" is the name of a spout, at line {source.at(("spouts", name), key=True)[0]}'
                source.add(source.at((kind, name), key=True), (kind, name), what, fix=fix, code="duplicate_name")
                continue
            found[name] = _read_component(kind, name, below)
    return found


def _read_component(kind: str, name: str, node: Node) -> _Component:
    component = _Component(kind, node)
    component.default = _fields(node.child("outputs"))
    streams = node.child("streams")
    if streams is not None and isinstance(streams.items, dict):
        component.streams = {key: _fields(below) or () for key, below in streams.items.items()}
    if kind == "bolts":
        component.inputs = list(_inputs((kind, name, "inputs"), node.child("inputs")))
    return component


def _fields(node: Node | None) -> tuple[str, ...] | None:
    if node is None or node.items is None:
        return None
    full = node.child("fields")
    if full is not None and full.items is not None:
        node = full
    if isinstance(node.items, dict):
        return tuple(node.items)
    return tuple(below.value for below in node.items or () if isinstance(below.value, str))


def _inputs(path: Path, node: Node | None) -> Iterator[tuple[Path, str, Node | None]]:
    if node is None:
        return
    if isinstance(node.value, str):
        yield path, node.value, None
    for index, below in enumerate(node.items if isinstance(node.items, list) else ()):
        if isinstance(below.value, str):
            yield (*path, index), below.value, None
        elif (named := below.child("from")) is not None and isinstance(named.value, str):
            yield (*path, index, "from"), named.value, below.child("grouping")


def _check_input(
    source: Source, components: dict[str, _Component], path: Path, wanted: str, grouping: Node | None
) -> None:
    name, _, stream = wanted.partition(".")
    stream = stream or "default"
    if re.fullmatch(SOURCE_PATTERN, wanted) is None or any(_is_meant(name, each) for each in components):
        return
    if name not in components:
        listed = ", ".join(components)
        fix = did_you_mean(name, components)
        fix = fix if "mean" in fix else f"known here: {listed}"
        source.add(source.at(path), path, f'no component is named "{name}"', fix=fix, code="unknown_component")
        return
    sender = components[name]
    if stream not in ("default", DEAD_LETTER) and sender.streams is not None and stream not in sender.streams:
        fix = did_you_mean(stream, ("default", *sender.streams))
        source.add(source.at(path), path, f'"{name}" has no stream "{stream}"', fix=fix, code="unknown_stream")
        return
    known = sender.fields_of(stream)
    if known is None or grouping is None:
        return
    for key in ("fields", "partial_key"):
        keys = grouping.child(key)
        for index, below in enumerate(keys.items if keys is not None and isinstance(keys.items, list) else ()):
            if isinstance(below.value, str) and below.value.isidentifier() and below.value not in known:
                at = (*path[:-1], "grouping", key, index)
                what = f'"{wanted}" has no field "{below.value}"'
                fix = did_you_mean(below.value, known)
                source.add(below, at, what, fix=fix, code="unknown_field")


def _is_meant(name: str, component: str) -> bool:
    """Whether a component has a name that is wrong, said elsewhere, and would be this one if mended."""
    return re.fullmatch(NAME_PATTERN, component) is None and re.sub(r"\W|^\d+", "", component) == name


def _check_twice(source: Source, component: _Component) -> None:
    seen: dict[str, Path] = {}
    for path, wanted, _ in component.inputs:
        stream = wanted.removesuffix(".default")
        if stream in seen:
            first = source.at(seen[stream])
            what = f'the input "{wanted}" is here for the second time; the first is at {first[0]}:{first[1]}'
            source.add(source.at(path), path, what, fix="remove one of them", code="duplicate_source")
        seen.setdefault(stream, path)


def _check_tasks(source: Source, node: Node, path: Path) -> None:
    tasks, parallelism = node.child("tasks"), node.child("parallelism")
    counts = [_number(tasks), _number(parallelism)]
    if counts[0] is not None and 0 < counts[0] < (counts[1] or 1):
        tasks_text = f"{counts[0]} task" + ("" if counts[0] == 1 else "s")
        what = f"{tasks_text} for {counts[1]} executors: some would have nothing to do"
        fix = f"write tasks: {counts[1]} or more, or parallelism: {counts[0]}"
        source.add(tasks, (*path, "tasks"), what, fix=fix, code="bad_tasks")


def _number(node: Node | None) -> int | None:
    value = node.value if node is not None else None
    if node is not None and node.whole and isinstance(value, str):
        value = read_scalar(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _check_settings(source: Source, node: Node, path: Path) -> None:
    config = node.child("config")
    if config is None or not isinstance(config.items, dict):
        return
    from rainband.config import COMPONENT_KEYS, KEYS, TOPOLOGY_KEYS, Config, expected  # noqa: PLC0415 - slow

    for name, below in config.items.items():
        at = (*path, "config", name)
        known = COMPONENT_KEYS if path else KEYS
        if name not in KEYS:
            what, fix = f'unknown setting "{name}"', did_you_mean(name, known)
            fix = fix or "see the configuration reference for all of them"
            source.add(source.at(at, key=True), at, what, fix=fix, code="unknown_setting")
        elif path and name in TOPOLOGY_KEYS:
            fix = "write it below config at the top of the file"
            what = f'the setting "{name}" belongs to the whole topology'
            source.add(source.at(at, key=True), at, what, fix=fix, code="misplaced_setting")
        elif not _fits(Config, name, below):
            texts = expected(name).replace("True or False", "true or false")
            fix = _setting_fix(name, below) or f"the default is {values_text(Config.model_fields[name].default)}"
            got = "***" if below.secret else describe(below.plain())
            source.add(source.at(at), at, expected=texts, got=got, fix=fix, code="bad_setting")


def _fits(config: type, name: str, node: Node) -> bool:
    """Whether the setting takes the value; reads a ``${…}`` scalar as the number or bool that is wanted."""
    value = node.plain()
    tries = [value]
    if node.whole and isinstance(value, str):
        tries.append(read_scalar(value))
    for attempt in tries:
        try:
            config.model_validate({name: attempt})  # type: ignore[attr-defined]
        except ValueError:
            continue
        if node.items is None:
            node.value = attempt
        return True
    return False


def _setting_fix(name: str, node: Node) -> str:
    if not isinstance(node.value, str):
        return ""
    words = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
    value = read_scalar(node.value.strip())
    if node.value.lower() in words:
        return f"write {name}: {words[node.value.lower()]}"
    seconds = node.value.strip().lower().removesuffix("seconds").removesuffix("sec").removesuffix("s").strip()
    if name.endswith("_s") and isinstance(read_scalar(seconds), int | float) and seconds != node.value:
        return f"write {name}: {seconds}, a number of seconds"
    if isinstance(value, int | float) and node.quoted:
        return f"write {name}: {plain_text(node.value) if isinstance(value, str) else node.value}, without quotes"
    return ""


def _check_reach(source: Source, components: dict[str, _Component]) -> None:
    """Every bolt must get tuples from a spout, perhaps through others; silent where inputs are broken already."""
    reached = {
        name for name, component in components.items() if component.kind == "spouts" or _broken(component, components)
    }
    before = -1
    while len(reached) != before:
        before = len(reached)
        for name, component in components.items():
            if any(wanted.partition(".")[0] in reached for _, wanted, _ in component.inputs):
                reached.add(name)
    for name, component in components.items():
        if name not in reached:
            senders = ", ".join(dict.fromkeys(wanted.partition(".")[0] for _, wanted, _ in component.inputs))
            what = f'no spout reaches "{name}": its inputs come from {senders} alone'
            at = ("bolts", name, "inputs")
            source.add(source.at(at), at, what, fix="add an input that comes from a spout", code="unreachable")


def _broken(component: _Component, components: dict[str, _Component]) -> bool:
    return not component.inputs or any(wanted.partition(".")[0] not in components for _, wanted, _ in component.inputs)


def _check_tests(source: Source, root: Node, components: dict[str, _Component]) -> None:
    tests = root.child("tests")
    names: dict[str, int] = {}
    for index, test in enumerate(tests.items if tests is not None and isinstance(tests.items, list) else ()):
        name = test.child("name")
        if name is not None and isinstance(name.value, str):
            if name.value in names:
                what = f"a test is named {quote(name.value)} already, at line {names[name.value]}"
                source.add(name, ("tests", index, "name"), what, fix="give it another name", code="duplicate_name")
            names.setdefault(name.value, name.line)
        for key in ("given", "expect"):
            _check_test_names(source, ("tests", index, key), test.child(key), components)


def _check_test_names(source: Source, path: Path, node: Node | None, components: dict[str, _Component]) -> None:
    for wanted in node.items if node is not None and isinstance(node.items, dict) else ():
        at = (*path, wanted)
        place = source.at(at, key=True)
        name, _, stream = wanted.partition(".")
        component = components.get(name)
        if component is None:
            known = [key for key, each in components.items() if path[-1] != "given" or each.kind == "spouts"]
            what = f'no component is named "{name}"'
            source.add(place, at, what, fix=did_you_mean(name, known), code="unknown_component")
        elif path[-1] == "given" and component.kind != "spouts":
            fix = "write what its spouts emit; a test of one bolt alone is written in Python, with BoltHarness"
            source.add(place, at, f'"{name}" is a bolt; given replaces spouts', fix=fix, code="not_a_spout")
        elif stream and stream != DEAD_LETTER and component.streams is not None and stream not in component.streams:
            fix = did_you_mean(stream, component.streams)
            source.add(place, at, f'"{name}" has no stream "{stream}"', fix=fix, code="unknown_stream")
