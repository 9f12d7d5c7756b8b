"""What the models refuse, in words that say what to write instead: the third step of loading.

``validate_model`` runs the models over the tree, reads ``${…}`` scalars as numbers or bools where one is wanted, and
turns every error of pydantic into a ``FileProblem``. The fix is made of the user's own names wherever they tell what
was meant.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from rainband.definition import words
from rainband.definition.model import GROUPING_KEYS, GROUPING_WORDS, TYPE_WORDS, TopologyFile
from rainband.definition.problem import Path, describe, did_you_mean, quote
from rainband.definition.scalars import plain_text, read_scalar

if TYPE_CHECKING:
    from rainband.definition.reader import Node, Source

_SCALAR_WANTED: Final = frozenset(("int_type", "float_type", "bool_type", "none_required", "int_parsing"))


def validate_model(source: Source, root: Node, config_keys: Iterable[str] = ()) -> TopologyFile | None:
    """The model of the file, or None with every mistake noted in ``source``.

    Args:
        source: collects the problems.
        root: the tree, with variables filled in.
        config_keys: known settings, to say that one stands outside of ``config:``.
    """
    while True:
        try:
            return TopologyFile.model_validate(root.plain())
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=True)
            # A list, because each of them has to be tried.
            if any(_read_whole(root, item["type"], true_path(root, item["loc"])) for item in found):
                continue
            for item in found:
                if not _meant_elsewhere(root, item, found):
                    _note(source, root, item, frozenset(config_keys))
            return None


def _meant_elsewhere(root: Node, item: Any, found: list[Any]) -> bool:
    """Whether a key is missing only because it is misspelt beside, which is said there."""
    if item["type"] != "missing":
        return False
    above, missing = true_path(root, item["loc"][:-1]), str(item["loc"][-1])
    others = [true_path(root, each["loc"]) for each in found if each["type"] == "extra_forbidden"]
    return any(other[:-1] == above and f'"{missing}"' in _unknown_key(other, None, frozenset())[1] for other in others)


def _read_whole(root: Node, kind: str, path: Path) -> bool:
    """Reads a ``${…}`` scalar as the number or bool that is wanted there; whether that changed anything."""
    node = root.find(path)
    if node is None or kind not in _SCALAR_WANTED or not node.whole or not isinstance(node.value, str):
        return False
    node.value = read_scalar(node.value)
    return not isinstance(node.value, str)


def true_path(root: Node, loc: tuple[str | int, ...]) -> Path:
    """The keys of an error's location, without the tags of unions and the like that pydantic puts between them."""
    path: list[str | int] = []
    node: Node | None = root
    for index, part in enumerate(loc):
        below = node.child(part) if node is not None else None
        if below is None:
            # What is missing is the last part; anything else that does not exist is pydantic's.
            if index == len(loc) - 1 and isinstance(part, str) and part[:1] not in "<[":
                path.append(part)
            continue
        path.append(part)
        node = below
    return tuple(path)


def _note(source: Source, root: Node, item: Any, config_keys: frozenset[str]) -> None:
    kind: str = item["type"]
    path = true_path(root, item["loc"])
    node = root.find(path)
    if node is not None and node.broken:
        return
    value = "***" if node is not None and node.secret else node.plain() if node is not None else None
    if kind == "extra_forbidden":
        what, fix = _unknown_key(path, value, config_keys)
        source.add(source.at(path, key=True), path, what, fix=fix, code="unknown_key")
    elif kind == "missing":
        what, fix = f'the key "{path[-1]}" is missing', _missing_fix(root, path)
        source.add(source.at(path[:-1], key=True), path[:-1], what, fix=fix, code="missing_key")
    elif item["loc"] and item["loc"][-1] == "[key]":
        _note_bad_key(source, path)
    else:
        expected, example = words.wanted(path)
        what = {"twice": f'the field "{(item.get("ctx") or {}).get("name")}" is named twice'}.get(kind, "")
        fix = ("remove one of them" if what else "") or _fix(path, value, node) or example
        expected = "" if what else expected
        got = expected and _got(node, value)
        source.add(source.at(path), path, what, expected=expected, got=got, fix=fix, code="bad_value")


def _missing_fix(root: Node, path: Path) -> str:
    """An example of a missing key, in the names of this file where they are known."""
    if words.kind_of(path) == "class":
        found = [node.value for at, node in root.scalars() if at[-1] == "class" and isinstance(node.value, str)]
        module = next((text.partition(":")[0] for text in found if ":" in text), "module")
        name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", str(path[1])))
        return f"write class: {module}:{name}"
    if words.kind_of(path) == "inputs":
        spouts = root.child("spouts")
        first = next(iter(spouts.items), None) if spouts is not None and isinstance(spouts.items, dict) else None
        if first is not None:
            return f"write inputs: [{first}], or inputs: [{{from: {first}, grouping: {{fields: [word]}}}}]"
    return words.wanted(path)[1]


def _got(node: Node | None, value: Any) -> str:
    if node is not None and node.value is None and node.items is None and node.raw not in ("", "~"):
        return node.raw
    return describe(value)


def _note_bad_key(source: Source, path: Path) -> None:
    name = str(path[-1])
    fields = "outputs" in path or "streams" in path[:-1]
    meant = _as_field(name) if fields else _as_name(name)
    fix = f"write {meant}" if meant else "write a name like count"
    expected = words.FIELD_NAME if fields else words.NAME
    source.add(source.at(path, key=True), path, expected=expected, got=quote(name), fix=fix, code="bad_name")


def _unknown_key(path: Path, value: Any, config_keys: frozenset[str]) -> tuple[str, str]:
    name, above = str(path[-1]), path[:-1]
    what = f'unknown key "{name}"'
    known = words.keys_at(above)
    meant = words.SYNONYMS.get((words.kind_of(above), name.lower().replace("_", "").replace("-", "")))
    if meant is not None:
        return what, f'write "{meant}"' if meant in known else meant
    if words.kind_of(above) == "grouping":
        if name in GROUPING_WORDS:
            return what, f"write grouping: {name}"
        return what, did_you_mean(name, GROUPING_KEYS)
    if name in config_keys and "config" in known:
        written = plain_text(value) if isinstance(value, str) else value
        return what, f"settings stand below config; write config: {{{name}: {written}}}"
    return what, did_you_mean(name, known)


def _fix(path: Path, value: Any, node: Node | None) -> str:  # noqa: C901, PLR0911 - one line a kind of place
    """What to write, made of what stands there; empty if that does not tell."""
    kind, last = words.kind_of(path), str(path[-1]) if path else ""
    if kind == "class" and isinstance(value, str):
        return _class_fix(last, value)
    if kind == "grouping":
        return _grouping_fix(value)
    if kind in ("inputs", "input"):
        return _inputs_fix(kind, value)
    if kind == "type" and isinstance(value, str):
        meant = words.TYPE_SYNONYMS.get(value.lower(), "")
        return f"write {meant}" if meant else _near(value, TYPE_WORDS)
    if kind in ("outputs", "stream", "keys") and isinstance(value, str) and value:
        return f"write {last}: [{', '.join(_listed(value))}]"
    if kind in ("count", "number") and value is not None:
        return _number_fix(last, value, node)
    if kind == "flag" and isinstance(value, str):
        return f"write {last}: {'true' if value.lower() in ('yes', 'on', 'y', 'true', '1') else 'false'}"
    if kind == "order" and isinstance(value, str):
        return _near(value, ("any", "exact"))
    if kind in ("name", "field") and isinstance(value, str | int | float):
        meant = _as_name(str(value)) if kind == "name" else _as_field(str(value))
        return f"write {f'{last}: {meant}' if last == 'name' else meant}" if meant else ""
    if kind in ("given_values", "expect_values") and value is not None and not isinstance(value, dict):
        return f"write {last}: [{plain_text(value) if isinstance(value, str) else value}]"
    return ""


def _class_fix(key: str, value: str) -> str:
    if value.count(":") == 1 and (".py:" in value or "/" in value):
        module, name = value.removeprefix("./").replace(".py:", ":").replace("/", ".").split(":")
        return f"write {key}: {module}:{name}"
    if "." in value and ":" not in value:
        module, _, name = value.rpartition(".")
        return f"write {key}: {module}:{name}" if name != "py" else f"write {key}: {module}:Name"
    if value.isidentifier():
        return f"write {key}: module:{value}, with the file that defines it (without .py) as the module"
    return ""


def _grouping_fix(value: Any) -> str:  # noqa: PLR0911 - one line a shape
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return f"write grouping: {{fields: [{', '.join(value)}]}}"
    if isinstance(value, dict) and value:
        only = next(iter(value))
        return f"write one of them, as grouping: {{{only}: {_flow(value[only])}}}" if only in GROUPING_KEYS else ""
    if not isinstance(value, str):
        return ""
    folded = value.lower().replace("_", "").replace("-", "").replace(" ", "").removesuffix("grouping")
    for word in GROUPING_WORDS:
        if folded == word.replace("_", ""):
            return f"write grouping: {word}"
    if folded in ("fields", "field", "key", "groupby"):
        return "write grouping: {fields: [word]}, with the names of the key fields"
    if folded in ("partialkey", "partial"):
        return "write grouping: {partial_key: [word]}, with the names of the key fields"
    if folded == "custom":
        return "write grouping: {custom: module:Class}"
    return _near(value, (*GROUPING_WORDS, *GROUPING_KEYS))


def _inputs_fix(kind: str, value: Any) -> str:
    if isinstance(value, str) and ("," in value or " " in value.strip()):
        return f"write {'inputs: ' if kind == 'inputs' else ''}[{', '.join(_listed(value))}]"
    if kind == "inputs" and isinstance(value, dict) and value:
        if "from" in value:
            return f"a list holds them; write inputs: [{_flow(value)}]"
        entries = ", ".join(f"{{from: {key}, grouping: {_flow(below)}}}" for key, below in value.items())
        return f"a list holds them; write inputs: [{entries}]"
    return ""


def _number_fix(last: str, value: Any, node: Node | None) -> str:
    if isinstance(value, str):
        number = read_scalar(value.strip().replace("_", "").replace(",", ""))
        if isinstance(number, int | float) and not isinstance(number, bool) and int(number) == number:
            return f"write {last}: {int(number)}" + (", without quotes" if node is not None and node.quoted else "")
        return ""
    if isinstance(value, float) and value >= 1 and value == int(value):
        return f"write {last}: {int(value)}"
    return ""


def _listed(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text)


def _near(word: str, known: Iterable[str]) -> str:
    """The nearest known word; without one nothing, because ``expected`` lists them."""
    fix = did_you_mean(word, known)
    return fix if fix.startswith("did you mean") else ""


def _as_field(text: str) -> str:
    name = _as_name(text).replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) or name == "tup" else name


def _as_name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")
    return re.sub(r"^[^A-Za-z]+", "", name)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return plain_text(value) if isinstance(value, str) else "true" if value is True else str(value)
