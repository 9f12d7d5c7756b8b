"""From a checked file to a ``Topology``: the fifth and last step of loading, and the first that imports the user's code.

Every class is imported and held against its ``with:`` before anything of it is called; then the topology is wired and
``Topology.check`` runs. What that finds is put back to where it stands in the file, in the file's words.
"""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rainband import grouping as groupings
from rainband.component import Stream
from rainband.definition.arguments import check_arguments
from rainband.definition.imports import ReferenceProblem, check_component, find_object
from rainband.definition.model import BoltEntry, GroupingEntry, InputEntry, SpoutEntry, StreamEntry, TopologyFile
from rainband.errors import Problem, TopologyError
from rainband.topology import Origin, Topology

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from rainband.definition.problem import Path
    from rainband.definition.reader import Node, Source

_TYPES: Final[dict[str, Any]] = {
    "any": Any, "str": str, "int": int, "float": float, "bool": bool, "bytes": bytes, "list": list, "dict": dict,
    "tuple": tuple, "set": set, "date": datetime.date, "datetime": datetime.datetime, "timedelta": datetime.timedelta,
    "UUID": uuid.UUID, "Decimal": decimal.Decimal,
}  # fmt: skip


def build(source: Source, root: Node, model: TopologyFile, file: FilePath) -> Topology | None:
    """The topology of a file, wired but not yet checked; None with every mistake noted in ``source``."""
    before = len(source.problems)
    topology = Topology(model.name, config=dict(_config(root)) or None)
    topology.origin = Origin("", str(file.resolve()), None)
    failed: set[str] = set()
    for kind, entries in (("spouts", model.spouts), ("bolts", model.bolts)):
        for name, entry in entries.items():
            _wire(source, root, topology, (kind, name), entry, file.parent, failed)
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
            source.add(source.at(path), path, what, expected=expected, got=got, fix=fix, code=problem.code)


def _config(node: Node | None) -> dict[str, Any]:
    """Settings from the tree and not from the model: they were read as numbers there, see ``graph_check``."""
    config = node.child("config") if node is not None else None
    found = config.plain() if config is not None else None
    return found if isinstance(found, dict) else {}


def _wire(
    source: Source,
    root: Node,
    topology: Topology,
    path: Path,
    entry: SpoutEntry | BoltEntry,
    folder: FilePath,
    failed: set[str],
) -> None:
    node = root.find(path)
    assert node is not None
    found = _find(source, (*path, "class"), entry.class_, folder, failed)
    if found is not None:
        try:
            check_component(found, entry.class_, "spout" if path[0] == "spouts" else "bolt")
        except ReferenceProblem as problem:
            _note(source, (*path, "class"), problem)
            found = None
    component: Any = None
    if found is not None:
        arguments = check_arguments(source, path, node, found)
        component = partial(found, **arguments) if arguments else found
    more: dict[str, Any] = {"parallelism": entry.parallelism, "tasks": entry.tasks, "config": _config(node) or None}
    more["outputs"] = None if entry.outputs is None else _fields(entry.outputs)
    more["streams"] = None if entry.streams is None else {key: _stream(each) for key, each in entry.streams.items()}
    if isinstance(entry, BoltEntry):
        inputs = _inputs(source, path, entry, folder, failed)
        topology.bolt(str(path[1]), component, inputs=inputs, **more)
    else:
        topology.spout(str(path[1]), component, **more)


def _find(source: Source, path: Path, reference: str, folder: FilePath, failed: set[str]) -> Any:
    module = reference.partition(":")[0]
    if module in failed:
        return None
    try:
        return find_object(reference, folder)
    except ReferenceProblem as problem:
        if problem.code == "import_failed":
            # The same traceback for every class of the module would bury the others.
            failed.add(module)
        _note(source, path, problem)
        return None


def _note(source: Source, path: Path, problem: ReferenceProblem) -> None:
    source.add(source.at(path), path, problem.what, fix=problem.fix, details=problem.details, code=problem.code)


def _fields(fields: list[str] | dict[str, Any]) -> list[str] | dict[str, Any]:
    return fields if isinstance(fields, list) else {name: _TYPES[word] for name, word in fields.items()}


def _stream(entry: Any) -> Stream:
    if isinstance(entry, StreamEntry):
        return Stream(_fields(entry.fields), direct=entry.direct)
    return Stream(_fields(entry))


def _inputs(
    source: Source, path: Path, entry: BoltEntry, folder: FilePath, failed: set[str]
) -> dict[str, groupings.Grouping]:
    listed = [entry.inputs] if isinstance(entry.inputs, str) else entry.inputs
    found: dict[str, groupings.Grouping] = {}
    for index, each in enumerate(listed):
        if isinstance(each, InputEntry):
            at = (*path, "inputs", index, "grouping")
            found[each.from_] = _grouping(source, at, each.grouping, folder, failed)
        else:
            found[each] = groupings.shuffle()
    return found


def _grouping(
    source: Source, path: Path, entry: str | GroupingEntry, folder: FilePath, failed: set[str]
) -> groupings.Grouping:
    if isinstance(entry, str):
        make = {"global": groupings.global_}.get(entry) or getattr(groupings, entry)
        made: groupings.Grouping = make()
        return made
    if entry.fields is not None:
        return groupings.fields(*entry.fields)
    if entry.partial_key is not None:
        return groupings.partial_key(*entry.partial_key)
    return _custom(source, (*path, "custom"), entry.custom or "", folder, failed)


def _custom(source: Source, path: Path, reference: str, folder: FilePath, failed: set[str]) -> groupings.Grouping:
    found = _find(source, path, reference, folder, failed)
    if found is None:
        return groupings.shuffle()
    chooses = isinstance(found, type) and all(callable(getattr(found, name, None)) for name in ("prepare", "choose"))
    if not chooses:
        what = f'"{reference}" is no custom grouping'
        fix = "name a class with prepare(self, context, tasks) and choose(self, values)"
        _note(source, path, ReferenceProblem("bad_chooser", what, fix))
        return groupings.shuffle()
    try:
        return groupings.custom(found())
    except Exception as error:
        from rainband.definition.imports import user_traceback

        what = f'"{reference}" cannot be made without arguments: {type(error).__name__}: {error}'
        _note(
            source, path, ReferenceProblem("bad_chooser", what, "give its parameters defaults", user_traceback(error))
        )
        return groupings.shuffle()


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
        setting = re.search(r'setting "([^"]*)"', problem.what)
        if setting is not None and node.find(("config", setting[1])) is not None:
            return (*path, "config", setting[1])
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
