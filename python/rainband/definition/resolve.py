"""From a checked file to a ``Topology``: the fifth and last step of loading, the first that imports the user's code.

Every class is imported and held against its ``with:`` before anything of it is called; then the topology is wired and
``Topology.check`` runs. What that finds is put back to where it stands in the file, in the file's words.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rainband import grouping as groupings
from rainband.component import Stream
from rainband.definition.arguments import check_arguments
from rainband.definition.imports import ReferenceProblem, check_component, find_object, user_traceback
from rainband.definition.model import BoltEntry, GroupingEntry, InputEntry, SpoutEntry, StreamEntry, TopologyFile
from rainband.errors import Problem, TopologyError
from rainband.topology import Origin, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from rainband.definition.problem import Path
    from rainband.definition.reader import Node, Source

_TYPES: Final[dict[str, Any]] = {
    "any": Any, "str": str, "int": int, "float": float, "bool": bool, "bytes": bytes, "list": list, "dict": dict,
    "tuple": tuple, "set": set, "date": dt.date, "datetime": dt.datetime, "timedelta": dt.timedelta,
    "UUID": uuid.UUID, "Decimal": decimal.Decimal,
}  # fmt: skip


def build(
    source: Source, root: Node, model: TopologyFile, file: FilePath, params: Mapping[str, str]
) -> Topology | None:
    """The topology of a file, wired but not yet checked; None with every mistake noted in ``source``."""
    before = len(source.problems)
    topology = Topology(model.name, config=_config(root) or None)
    topology.origin = Origin("", str(file.resolve()), None, params=dict(params))
    builder = _Builder(source, root, topology, file.parent)
    for name, spout in model.spouts.items():
        builder.wire(("spouts", name), spout)
    for name, bolt in model.bolts.items():
        builder.wire(("bolts", name), bolt)
    return topology if len(source.problems) == before else None


def check(source: Source, topology: Topology) -> None:
    """Runs ``Topology.check`` and notes what it finds where it stands in the file."""
    try:
        topology.check()
    except TopologyError as error:
        for problem in error.problems:
            path = _path_of(source, problem)
            texts = (problem.what, problem.expected, problem.got, problem.fix)
            what, expected, got, fix = (_in_file_words(text) for text in texts)
            fix = _FIXES.get(problem.code, fix)
            expected = "" if problem.code in _SAID_BY_FIX else expected
            source.add(source.at(path), path, what, expected=expected, got=got, fix=fix, code=problem.code)


def _config(node: Node | None) -> dict[str, Any]:
    """Settings from the tree and not from the model: they were read as numbers there, see ``graph_check``."""
    config = node.child("config") if node is not None else None
    found = config.plain() if config is not None else None
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class _Builder:
    """What wiring needs at hand; ``failed`` has the modules whose import raised, which is told once."""

    source: Source
    root: Node
    topology: Topology
    folder: FilePath
    failed: set[str] = field(default_factory=set)

    def wire(self, path: Path, entry: SpoutEntry | BoltEntry) -> None:
        node = self.root.find(path)
        assert node is not None  # the model was made of it
        name, found = str(path[1]), self._component(path, entry.class_)
        if found is not None:
            arguments = check_arguments(self.source, path, node, found)
            found = partial(found, **arguments) if arguments else found
        more: dict[str, Any] = {"parallelism": entry.parallelism, "tasks": entry.tasks, "config": _config(node) or None}
        more["outputs"] = None if entry.outputs is None else _fields(entry.outputs)
        more["streams"] = None if entry.streams is None else {key: _stream(each) for key, each in entry.streams.items()}
        if isinstance(entry, BoltEntry):
            self.topology.bolt(name, found, inputs=self._inputs((*path, "inputs"), entry), **more)
        else:
            self.topology.spout(name, found, **more)

    def _component(self, path: Path, reference: str) -> Any:
        at = (*path, "class")
        found = self._find(at, reference)
        if found is None:
            return None
        try:
            check_component(found, reference, "spout" if path[0] == "spouts" else "bolt")
        except ReferenceProblem as problem:
            return self._note(at, problem)
        return found

    def _find(self, path: Path, reference: str) -> Any:
        module = reference.partition(":")[0]
        if module in self.failed:
            return None
        try:
            return find_object(reference, self.folder)
        except ReferenceProblem as problem:
            if problem.code == "import_failed":
                # The same traceback for every class of the module would bury the others.
                self.failed.add(module)
            return self._note(path, problem)

    def _note(self, path: Path, problem: ReferenceProblem) -> None:
        texts = {"fix": problem.fix, "details": problem.details, "code": problem.code}
        self.source.add(self.source.at(path), path, problem.what, **texts)

    def _inputs(self, path: Path, entry: BoltEntry) -> dict[str, groupings.Grouping]:
        found: dict[str, groupings.Grouping] = {}
        for index, each in enumerate([entry.inputs] if isinstance(entry.inputs, str) else entry.inputs):
            if isinstance(each, InputEntry):
                found[each.from_] = self._grouping((*path, index, "grouping"), each.grouping)
            else:
                found[each] = groupings.shuffle()
        return found

    def _grouping(self, path: Path, entry: str | GroupingEntry) -> groupings.Grouping:
        if isinstance(entry, str):
            made: groupings.Grouping = getattr(groupings, {"global": "global_"}.get(entry, entry))()
            return made
        if entry.fields is not None:
            return groupings.fields(*entry.fields)
        if entry.partial_key is not None:
            return groupings.partial_key(*entry.partial_key)
        return self._custom((*path, "custom"), entry.custom or "")

    def _custom(self, path: Path, reference: str) -> groupings.Grouping:
        found = self._find(path, reference)
        if found is None:
            return groupings.shuffle()
        try:
            if not isinstance(found, type) or not all(callable(getattr(found, name, None)) for name in _CHOOSER):
                fix = "name a class with prepare(self, context, tasks) and choose(self, values)"
                raise ReferenceProblem("bad_chooser", f'"{reference}" is no custom grouping', fix)  # noqa: TRY301
            return groupings.custom(found())
        except ReferenceProblem as problem:
            self._note(path, problem)
        except Exception as error:  # noqa: BLE001 - the user's constructor may raise anything
            what = f'"{reference}" cannot be made without arguments: {type(error).__name__}: {error}'
            fix = "give its parameters defaults"
            self._note(path, ReferenceProblem("bad_chooser", what, fix, user_traceback(error)))
        return groupings.shuffle()


def _fields(fields: list[str] | Mapping[str, Any]) -> list[str] | dict[str, Any]:
    return fields if isinstance(fields, list) else {name: _TYPES[word] for name, word in fields.items()}


def _stream(entry: Any) -> Stream:
    if isinstance(entry, StreamEntry):
        return Stream(_fields(entry.fields), direct=entry.direct, pickle=entry.pickle)
    return Stream(_fields(entry))


_CHOOSER: Final = ("prepare", "choose")
_WHERE: Final = re.compile(r'(spout|bolt) "([^"]*)"')
_INPUT: Final = re.compile(r'(?:input|input source|grouping of input) "([^"]*)"')
_KEYS_OF: Final = {
    "setting": "config",
    "config": "config",
    "stream": "streams",
    "field": "outputs",
    "outputs": "outputs",
    "parallelism": "parallelism",
    "tasks": "tasks",
}
_SAID_BY_FIX: Final = frozenset(("not_direct", "no_outputs", "tick_without_interval"))
"""Mistakes whose ``expected`` is Python, and no more than the fix says."""
_FIXES: Final = {
    "not_direct": "declare it at its component: streams: {name: {fields: […], direct: true}}",
    "only_direct": "write grouping: direct",
    "tick_without_interval": "write config: {tick_interval_s: 1.0}, or tick_interval_s = 1.0 in the class",
    "no_outputs": 'write outputs: [field, …], or outputs = ["field", …] in the class',
    "misplaced_setting": "write it below config at the top of the file",
}


def _path_of(source: Source, problem: Problem) -> Path:
    """Where a problem of ``Topology.check`` stands in the file: its component, and there the part it speaks of."""
    match = _WHERE.search(problem.where)
    if match is None:
        return ()
    path: tuple[str | int, ...] = (f"{match[1]}s", match[2])
    node = source.root.find(path) if source.root is not None else None
    inputs = node.child("inputs") if node is not None else None
    if inputs is not None:
        quoted = _INPUT.search(problem.what)
        below = _input_path(inputs, quoted[1] if quoted else "", problem)
        if below is not None:
            return (*path, "inputs", *below)
    if node is not None:
        config = node.child("config")
        for name in config.items if config is not None and isinstance(config.items, dict) else ():
            if re.search(rf"\b{name}\b", f"{problem.what} {problem.expected} {problem.got}"):
                return (*path, "config", name)
        for word, key in _KEYS_OF.items():
            if word in problem.code and node.child(key) is not None:
                return (*path, key)
        if node.child("class") is not None:
            return (*path, "class")
    return path


def _input_path(inputs: Node, quoted: str, problem: Problem) -> tuple[str | int, ...] | None:
    """The input that a problem names, or the key field within it."""
    named = re.findall(r'"([^"]*)"', problem.what)
    wanted = {quoted, quoted.removesuffix(".default")}
    if problem.code in ("unknown_component", "unknown_stream"):
        wanted = {named[0], f"{named[0]}.{named[-1]}"} if named else set()
    for index, below in enumerate(inputs.items if isinstance(inputs.items, list) else ()):
        start = below.child("from") or below
        if not isinstance(start.value, str) or start.value.removesuffix(".default") not in wanted:
            continue
        for key in ("fields", "partial_key"):
            keys = below.find(("grouping", key))
            for place, each in enumerate(keys.items if keys is not None and isinstance(keys.items, list) else ()):
                if (
                    problem.code in ("unknown_key", "duplicate_key")
                    and isinstance(each.value, str)
                    and each.value
                    in re.findall(r"\w+", problem.what.partition(" to group by")[0].rpartition("field ")[2])
                ):
                    return (index, "grouping", key, place)
        if problem.code in ("not_direct", "only_direct", "no_key") and below.child("grouping") is not None:
            return (index, "grouping")
        return (index, "from") if start is not below else (index,)
    return () if inputs.value in wanted and inputs.value else None


def _in_file_words(text: str) -> str:
    """Python's spelling of a thing as a file spells it."""
    text = re.sub(r"grouping\.global_\(\)", "global", text)
    text = re.sub(r"grouping\.(\w+)\(([^()]+)\)", lambda match: f"{match[1]}: [{match[2].replace(chr(34), '')}]", text)
    text = re.sub(r"grouping\.(\w+)\(\)", r"\1", text)
    return text.replace("True or False", "true or false")
