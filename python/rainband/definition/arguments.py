"""``with:`` against the signature it is for: part of the fifth step of loading.

Names are held against the parameters of the constructor (or of the spout function), values against their annotations,
by pydantic in strict mode as JSON would be read: a ``Path`` takes a text, a ``tuple`` a list, an ``int`` no text. A
``${…}`` scalar is read as a number or bool where the annotation wants one. An annotation that cannot be resolved, or
that pydantic does not know, counts as absent.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from rainband.component import TaskContext
from rainband.definition.problem import Path, describe, did_you_mean
from rainband.definition.reader import Node, Source
from rainband.definition.scalars import read_scalar
from rainband.function import mark_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAID: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
}
"""What pydantic expects, in the words of a file."""
_NO_VALUE: Final = object()
_STRICT: Final = ConfigDict(strict=True)


def check_arguments(source: Source, path: Path, entry: Node, component: Any) -> dict[str, Any]:
    """The keyword arguments for a component, converted; what is wrong with them is noted in ``source``.

    Args:
        source: collects the problems.
        path: of the component, as ``("bolts", "count")``.
        entry: the node of the component.
        component: a class, a marked function, or a partial of one.
    """
    given = entry.child("with")
    nodes = given.items if given is not None and isinstance(given.items, dict) else {}
    name = getattr(component, "__name__", None) or getattr(getattr(component, "func", None), "__name__", "it")
    mark = mark_of(component)
    if mark is not None and mark.kind == "bolt":
        if nodes:
            fix = "its parameters are fields of its input; write a class to give it arguments"
            at = (*path, "with")
            source.add(source.at(at, key=True), at, f"{name} is a bolt function", fix=fix, code="unknown_argument")
        return {}
    parameters = _parameters(component)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    named = {
        key: each for key, each in parameters.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    values: dict[str, Any] = {}
    for key, node in nodes.items():
        at = (*path, "with", key)
        if key not in named and not takes_any:
            fix = did_you_mean(key, named) or f"{name} takes no arguments"
            source.add(
                source.at(at, key=True), at, f'{name} has no parameter "{key}"', fix=fix, code="unknown_argument"
            )
            continue
        annotation = _annotation(named[key], component) if key in named else _NO_VALUE
        values[key] = _value(source, at, node, annotation)
    # An argument is not missing if it is there misspelt, which has been said.
    meant = {did_you_mean(key, named) for key in nodes if key not in named}
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in nodes and f'did you mean "{key}"?' not in meant:
            at = (*path, "with")
            wanted = (
                "" if parameter.annotation is parameter.empty else f" ({_shown(_annotation(parameter, component))})"
            )
            what = f'{name} needs the argument "{key}"{wanted}'
            fix = f"write with: {{{key}: …}}"
            source.add(
                source.at(at, key=True), at if given is not None else path, what, fix=fix, code="missing_argument"
            )
    return values


def arguments_from_texts(function: Any, texts: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Keyword arguments for a function from the command line, converted by annotation, and what is wrong with them."""
    nodes = {key: Node(text, 1, 1, raw=text, whole=True) for key, text in texts.items()}
    entry = Node(None, 1, 1, items={"with": Node(None, 1, 1, items=nodes)} if nodes else {})
    source = Source("--param")
    source.root = entry
    values = check_arguments(source, (), entry, function)
    wrong = []
    for problem in source.problems:
        if problem.code == "missing_argument":
            wrong.append(f"{problem.what}; write --param {problem.what.split(chr(34))[1]}=…")
        else:
            wrong.append(f"--param {problem.path.removeprefix('with.')}: {problem.message}")
    return values, wrong


def _parameters(component: Any) -> dict[str, inspect.Parameter]:
    """The parameters that ``with:`` can fill; those that a partial or the engine fills are left out."""
    inner = component.func if isinstance(component, partial) else component
    if isinstance(inner, type):
        init = inner.__init__  # type: ignore[misc]
        if init is object.__init__:
            return {}
        found = list(inspect.signature(init).parameters.values())[1:]
    else:
        found = list(inspect.signature(inner).parameters.values())
        found = [each for each in found if not _is_context(each, inner)]
    if isinstance(component, partial):
        found = found[len(component.args) :]
        found = [each if each.name not in component.keywords else each.replace(default=None) for each in found]
    return {each.name: each for each in found}


def _is_context(parameter: inspect.Parameter, function: Any) -> bool:
    return _annotation(parameter, function) is TaskContext


def _annotation(parameter: inspect.Parameter, component: Any) -> Any:
    """The annotation, or ``_NO_VALUE`` if there is none or it cannot be resolved."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return _NO_VALUE
    if not isinstance(annotation, str):
        return annotation
    inner = component.func if isinstance(component, partial) else component
    inner = inner.__init__ if isinstance(inner, type) else inner  # type: ignore[misc]
    scope = getattr(inner, "__globals__", None) or vars(sys.modules.get(getattr(inner, "__module__", ""), sys))
    try:
        return eval(annotation, dict(scope))
    except Exception:  # noqa: BLE001 - whatever it is, the annotation cannot be resolved
        return _NO_VALUE


def _value(source: Source, path: Path, node: Node, annotation: Any) -> Any:
    if annotation is _NO_VALUE or annotation is Any:
        return node.plain()
    adapter = _adapter(annotation)
    if adapter is None:
        return node.plain()
    while True:
        try:
            return adapter.validate_json(json.dumps(node.plain()))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            if any(_read_whole(node, item["loc"]) for item in found):
                continue
            for item in _plainest(found):
                _note(source, path, node, annotation, item)
            return None


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    own_config = isinstance(annotation, type) and (
        issubclass(annotation, BaseModel)
        or hasattr(annotation, "__dataclass_fields__")
        or hasattr(annotation, "__total__")
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TypeAdapter(annotation) if own_config else TypeAdapter(annotation, config=_STRICT)
    except (PydanticUserError, TypeError, NameError, AttributeError):
        return None


def _read_whole(node: Node, loc: tuple[str | int, ...]) -> bool:
    """Reads the ``${…}`` scalar that an error is about as a number, bool or null; whether that changed anything."""
    target = node
    for part in loc:
        below = target.child(part)
        target = below if below is not None else target
    if not target.whole or not isinstance(target.value, str):
        return False
    target.value = read_scalar(target.value)
    return not isinstance(target.value, str)


def _plainest(found: list[Any]) -> list[Any]:
    """One error a place: a union reports each of its members."""
    seen: dict[tuple[str | int, ...], Any] = {}
    for item in found:
        place = tuple(part for part in item["loc"] if isinstance(part, int))
        seen.setdefault(place, item)
    return list(seen.values())


def _note(source: Source, path: Path, node: Node, annotation: Any, item: Any) -> None:
    at, target = path, node
    for part in item["loc"]:
        below = target.child(part)
        if below is not None:
            at, target = (*at, part), below
    deep = at != path
    expected = _SAID.get(item["type"], item["msg"].removeprefix("Input should be ").replace("'", '"'))
    expected = expected if deep or item["type"] == "literal_error" else _shown(annotation)
    value = target.plain()
    got = "***" if target.secret else describe(value)
    source.add(
        source.at(at),
        at,
        expected=expected,
        got=got,
        fix=_fix(str(path[-1]), target, annotation, deep=deep),
        code="bad_argument",
    )


def _fix(key: str, node: Node, annotation: Any, *, deep: bool) -> str:
    if node.secret:
        return ""
    if annotation is str and node.items is None and node.raw and not deep:
        return f'write {key}: "{node.raw}", in quotes'
    if isinstance(node.value, str) and annotation in (int, float) and not deep:
        number = read_scalar(node.value.strip().replace("_", ""))
        if isinstance(number, int | float) and not isinstance(number, bool):
            return f"write {key}: {number}" + (", without quotes" if node.quoted else "")
    if isinstance(node.value, str) and annotation is bool:
        return f"write {key}: {'true' if node.value.lower() in ('yes', 'on', 'y', 'true', '1') else 'false'}"
    if isinstance(node.value, str) and getattr(annotation, "__origin__", annotation) in (list, tuple, set) and not deep:
        return f"write {key}: [{node.value}]"
    return ""


def _shown(annotation: Any) -> str:
    """An annotation in the words of a file."""
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "nothing"}
    words |= {list: "a list", dict: "a mapping"}
    if annotation in words:
        return words[annotation]
    if getattr(annotation, "__origin__", None) in (list, tuple, set, dict):
        return f"{words.get(annotation.__origin__, 'a list')} ({annotation})"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")
