"""The vocabulary of errors: what may stand at each place of a file, an example of it, and what people write instead.

``kind_of`` names the place that a path leads to; the tables are keyed by that name. ``explain`` uses them, and the
tests hold them against the models, so that a key added there is not forgotten here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rainband.definition.model import (
    BoltEntry,
    GroupingEntry,
    InputEntry,
    SpoutEntry,
    StreamEntry,
    TestEntry,
    TopologyFile,
)

if TYPE_CHECKING:
    from rainband.definition.problem import Path

NAME: Final = 'a name: a letter, then letters, digits, "_" or "-"'
FIELD_NAME: Final = 'a field name: letters, digits and "_", no keyword of Python, not "tup"'

_WANTED: Final[dict[str, tuple[str, str]]] = {
    "file": ("a topology: a mapping with name, spouts and bolts", "begin with name: wordcount"),
    "name": (NAME, "write name: wordcount"),
    "config": ("a mapping of settings", "write config: {max_pending: 5000}"),
    "spouts": ("a mapping of names to spouts", "write spouts: {lines: {class: wordcount:Lines}}"),
    "bolts": ("a mapping of names to bolts", "write bolts: {count: {class: wordcount:Count, inputs: [lines]}}"),
    "spout": ("a mapping with the key class", "write class: module:Name below it"),
    "bolt": ("a mapping with the keys class and inputs", "write class: module:Name and inputs: [source] below it"),
    "class": ("module:Name of a class or marked function", "write class: wordcount:Count"),
    "with": ("a mapping of arguments", "write with: {path: book.txt}"),
    "count": ("a whole number from 1 to 10000", ""),
    "number": ("a whole number of at least 0", ""),
    "outputs": ("a list of field names, or a mapping of names to types", "write outputs: [word, count]"),
    "streams": ("a mapping of names to streams", "write streams: {late: [word, at]}"),
    "stream": (
        "a list of field names, a mapping of names to types, or {fields: …, direct: true}",
        "write it as [word, at]",
    ),
    "flag": ("true or false", ""),
    "field": (FIELD_NAME, "write a name like word"),
    "type": ("a type: any, str, int, float, bool, bytes, list, dict, tuple, set, date, datetime, …", "write str"),
    "inputs": (
        "a source or a list of sources",
        "write inputs: [lines] or inputs: [{from: lines, grouping: {fields: [word]}}]",
    ),
    "input": ("a source, or a mapping with from and grouping", "write {from: lines, grouping: shuffle}"),
    "from": ("a component, or component.stream", "write from: split, or from: split.late"),
    "grouping": (
        "one of shuffle, all, global, none, local_or_shuffle, direct, {fields: […]}, {partial_key: […]}, {custom: …}",
        "write grouping: shuffle, or grouping: {fields: [word]}",
    ),
    "keys": ("a list of field names", "write fields: [word]"),
    "tests": ("a list of tests", "write tests: [{name: …, given: …, expect: …}]"),
    "test": ("a mapping with name, given and expect", "write name, given and expect below the dash"),
    "test_name": ("a text", "write name: counts words"),
    "given": ("a mapping of spouts to lists of what they emit", 'write given: {lines: ["a b a"]}'),
    "given_values": ("a list of what the spout emits", "write [first, second]; a value of several fields is a list"),
    "expect": ("a mapping of components to lists of what they emit", "write expect: {count: [[a, 1], [b, 1]]}"),
    "expect_values": (
        "a list of what the component emits",
        "write [first, second]; a value of several fields is a list",
    ),
    "order": ("any or exact", "write order: exact if the order of values counts"),
    "params": ("a mapping of variables to values", "write params: {TEXT: book.txt}"),
    "param": ("a text, a number, true or false", "write a plain value"),
}

_SINGLE: Final = {
    "class": "class", "with": "with", "parallelism": "count", "tasks": "count", "outputs": "outputs",
    "streams": "streams", "config": "config", "inputs": "inputs",
}  # fmt: skip
_TEST: Final = {
    "name": "test_name", "given": "given", "expect": "expect", "order": "order", "params": "params",
    "dead_letters": "number",
}  # fmt: skip

_KEYS: Final[dict[str, tuple[str, ...]]] = {
    kind: tuple(field.alias or name for name, field in model.model_fields.items())
    for kind, model in (
        ("file", TopologyFile),
        ("spout", SpoutEntry),
        ("bolt", BoltEntry),
        ("input", InputEntry),
        ("grouping", GroupingEntry),
        ("stream", StreamEntry),
        ("test", TestEntry),
    )
}

_COMPONENT_SYNONYMS: Final = {
    "type": "class", "classname": "class", "component": "class", "function": "class", "impl": "class",
    "args": "with", "kwargs": "with", "arguments": "with", "constructorargs": "with", "params": "with",
    "parameters": "with", "executors": "parallelism", "threads": "parallelism", "workers": "parallelism",
    "parallelismhint": "parallelism", "numtasks": "tasks", "instances": "tasks", "output": "outputs",
    "fields": "outputs", "stream": "streams", "conf": "config", "settings": "config", "configuration": "config",
}  # fmt: skip
SYNONYMS: Final[dict[tuple[str, str], str]] = {
    **{("spout", word): meant for word, meant in _COMPONENT_SYNONYMS.items()},
    **{("bolt", word): meant for word, meant in _COMPONENT_SYNONYMS.items()},
    **{("bolt", word): "inputs" for word in ("input", "source", "sources", "from", "subscribe", "dependson")},
    ("bolt", "grouping"): "a grouping stands beside its source; write inputs: [{from: …, grouping: …}]",
    ("bolt", "groupings"): "a grouping stands beside its source; write inputs: [{from: …, grouping: …}]",
    ("spout", "inputs"): "a spout has no inputs; if it takes tuples, move it below bolts",
    **{("input", word): "from" for word in ("source", "component", "name", "id", "to")},
    **{("input", word): "grouping" for word in ("groupby", "by", "type", "group")},
    ("input", "fields"): "write grouping: {fields: […]}",
    ("input", "stream"): "the stream stands behind a dot; write from: component.stream",
    ("input", "streamid"): "the stream stands behind a dot; write from: component.stream",
    **{("file", word): "name" for word in ("topology", "id", "title")},
    **{("file", word): "spouts" for word in ("spout", "sources", "inputs")},
    **{("file", word): "bolts" for word in ("bolt", "steps", "components", "operators")},
    **{("file", word): "config" for word in ("conf", "settings", "configuration")},
    ("file", "test"): "tests",
    ("file", "streams"): "streams stand at their component, and who reads them at the bolt's inputs",
    **{("test", word): "given" for word in ("input", "inputs", "in", "when", "spouts")},
    **{("test", word): "expect" for word in ("output", "outputs", "out", "then", "expected", "expects")},
    ("test", "title"): "name",
    ("test", "with"): "params",
}
"""(Place, key in lower case without "_" and "-") → the key that was meant, or a sentence."""

TYPE_SYNONYMS: Final = {
    "string": "str", "text": "str", "integer": "int", "long": "int", "number": "float", "double": "float",
    "boolean": "bool", "array": "list", "map": "dict", "object": "dict", "mapping": "dict", "uuid": "UUID",
    "decimal": "Decimal", "time": "datetime", "timestamp": "datetime", "none": "any", "null": "any",
}  # fmt: skip


def kind_of(path: Path) -> str:  # noqa: PLR0911 - one line a level
    """The name of the place that ``path`` leads to, a key of the tables here; "" for what users fill freely."""
    match path:
        case ():
            return "file"
        case ("name" | "config" | "spouts" | "bolts" | "tests" as top,):
            return top
        case ("spouts", _):
            return "spout"
        case ("bolts", _):
            return "bolt"
        case ("spouts" | "bolts", _, str(key), *below):
            return _below_component(key, tuple(below))
        case ("tests", _):
            return "test"
        case ("tests", _, str(key)):
            return _TEST.get(key, "")
        case ("tests", _, "given" | "expect" as key, _):
            return f"{key}_values"
        case ("tests", _, "params", _):
            return "param"
    return ""


def _below_component(key: str, below: Path) -> str:  # noqa: C901, PLR0911 - a table in the shape of a match
    match key, *below:
        case [_]:
            return _SINGLE.get(key, "")
        case ["outputs", int()] | ["streams", _, int()] | ["streams", _, "fields", int()]:
            return "field"
        case ["outputs", str()] | ["streams", _, "fields", str()]:
            return "type"
        case ["streams", _]:
            return "stream"
        case ["streams", _, "fields"]:
            return "outputs"
        case ["streams", _, "direct" | "pickle"]:
            return "flag"
        case ["streams", _, str()]:
            return "type"
        case ["inputs", int()]:
            return "input"
        case ["inputs", int(), "from" | "grouping" as last]:
            return str(last)
        case ["inputs", int(), "grouping", "fields" | "partial_key"]:
            return "keys"
        case ["inputs", int(), "grouping", "custom"]:
            return "class"
        case ["inputs", int(), "grouping", "fields" | "partial_key", int()]:
            return "field"
    return ""


def wanted(path: Path) -> tuple[str, str]:
    """What may stand at ``path``, and an example of it."""
    expected, example = _WANTED.get(kind_of(path), ("another value", ""))
    if kind_of(path) in ("count", "number", "flag"):
        example = f"write {path[-1]}: {'true' if kind_of(path) == 'flag' else 2}"
    if path[-1:] == ("custom",):
        expected, example = "module:Class of a custom grouping", "write custom: wordcount:ByLength"
    if path[-1:] == ("partial_key",):
        example = "write partial_key: [word]"
    return expected, example


def keys_at(path: Path) -> tuple[str, ...]:
    """The keys that a mapping at ``path`` may have."""
    return _KEYS.get(kind_of(path), ())
