"""How the parameters of `process` are bound to the fields of an input, by name, once per input when a plan is compiled.

`read` looks at a function once and gives its `Parameters`; `Parameters.bind` then makes a `Binding` for each stream:
where the core takes every argument from, so that a tuple costs one vectorcall and no lookup by name. Worked example,
fields (word, at, city):

    process(self, at, word, tup)            Binding((1, 0, -1), ())                   -1 is the whole Tuple
    process(self, word, rank=0, at=None)    Binding((0, 1), ("at",))                  the stream lacks rank; behind it,
    by name process(self, word, **rest)             Binding((0, 1, 2), ("at", "city"))

Annotations are resolved one at a time, so that one name that exists only for type checkers does not hide the others.
"""

from __future__ import annotations

import inspect
import sys
import typing
from dataclasses import dataclass
from functools import partial, partialmethod
from importlib import import_module
from inspect import Parameter
from types import FunctionType, NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Union, get_args, get_origin

from . import problems as say
from . import wiring_problems as wiring
from ._core import Tuple
from .component import TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .errors import Problem

WHOLE = -1
"""Source of an argument that takes the whole tuple."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where the arguments of one call of `process` come from.

    Attributes:
        args: for each argument the index of a field, or `WHOLE`; keyword arguments last.
        kwnames: names of the last `len(kwnames)` arguments.
    """

    args: tuple[int, ...]
    kwnames: tuple[str, ...] = ()


WHOLE_TUPLE = Binding((WHOLE,))
"""What a component is called with whose parameters are not known before it is built."""


class _Absent:
    """The type of `ABSENT`: no annotation, or one that cannot be resolved."""


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter that is bound by name."""

    name: str
    kind: Any
    optional: bool
    annotation: Any
    text: str
    """The annotation as it was written."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one `process`.

    Attributes:
        named: those bound by name, in order; without `**kw`.
        whole: the one that takes the whole tuple.
        context: the one that takes the TaskContext.
        takes_rest: whether there is a `**kw`.
        given: names that `self` or a partial has filled already; no field goes there.

    Example:
        >>> def process(word, tup, **rest): ...
        >>> parameters, problems = read(process, 'bolt "b"')
        >>> parameters.bind({"word": str, "at": float}, 'bolt "b"', "split")
        (Binding(args=(0, -1, 1), kwnames=('at',)), [])
    """

    named: tuple[Named, ...]
    whole: str | None = None
    context: str | None = None
    takes_rest: bool = False
    given: frozenset[str] = frozenset()

    def bind(self, fields: Mapping[str, Any], where: str, source: str) -> tuple[Binding, list[Problem]]:
        """The binding to a stream with these fields (name → declared type, None if not declared), and what is wrong."""
        found: list[Problem] = []
        index = {name: i for i, name in enumerate(fields)}
        plain: list[int] = []
        by_name: dict[str, int] = {}
        skipped = ""
        for p in self.named:
            taken = WHOLE if p.name == self.whole else index.get(p.name)
            if p.name == self.context or p.name in self.given or (taken is None and p.optional):
                skipped = skipped or p.name
            elif taken is None:
                found.append(wiring.unknown_parameter(where, p.name, source, list(fields), _tuple_hint(p)))
            else:
                if taken != WHOLE and contradicts(fields[p.name], p.annotation):
                    declared = say.shown(fields[p.name])
                    found.append(wiring.parameter_type(where, p.name, source, declared, p.text))
                if p.kind is Parameter.KEYWORD_ONLY or (skipped and p.kind is Parameter.POSITIONAL_OR_KEYWORD):
                    by_name[p.name] = taken
                elif skipped:
                    found.append(wiring.positional_gap(where, p.name, skipped, source))
                else:
                    plain.append(taken)
        if self.takes_rest:
            bound = {p.name for p in self.named} | self.given
            by_name |= {name: i for name, i in index.items() if name not in bound}
        return Binding((*plain, *by_name.values()), tuple(by_name)), found


def read(function: Callable[..., Any], where: str, *, owner: type | None = None) -> tuple[Parameters, list[Problem]]:
    """The parameters of a `process`, and what is wrong with them whatever the input is.

    Args:
        function: a function, a partial of one, or, with `owner`, the attribute `process` of that class.
        where: the component, as texts name it.
        owner: the class whose `self` is left out.

    Example:
        >>> def process(*words): ...
        >>> read(process, 'bolt "b"')[1][0].what
        'process() takes *words, but fields are bound by name'
    """
    args: tuple[Any, ...] = ()
    given: frozenset[str] = frozenset()
    if owner is not None:
        # The name of self is taken, too: a field of that name cannot come by keyword.
        given |= {*getattr(getattr(function, "__code__", None), "co_varnames", ())[:1]} if _takes_self(owner) else set()
        function = unbuilt(owner, "process")
    if isinstance(function, partial):
        args, given, function = function.args, given | set(function.keywords), function.func
    try:
        parameters = list(signature(function).parameters.values())
    except (TypeError, ValueError):
        return Parameters((), takes_rest=True), [wiring.unreadable_signature(where, say.shown(function))]
    drop = len(args)
    while drop and parameters and parameters[0].kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
        given |= {parameters.pop(0).name}
        drop -= 1
    scope = Scope.of(function, owner)
    stars = [p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL]
    named = tuple(
        Named(p.name, p.kind, p.default is not Parameter.empty, scope.resolve(p.annotation), _written(p.annotation))
        for p in parameters
        if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    )
    free = [p for p in named if p.name not in given]
    whole = [p.name for p in free if p.name == "tup" or _mentions(p.annotation, Tuple)]
    context = [p.name for p in free if _mentions(p.annotation, TaskContext)]
    found = [wiring.star_args(where, name) for name in stars]
    found += [wiring.two_tuples(where, whole)] if len(whole) > 1 else []
    found += [wiring.typing_tuple(where, p.name) for p in free if p.annotation is typing.Tuple]  # noqa: UP006
    found += [wiring.tup_annotation(where, p.text) for p in free if p.name == "tup" and not _may_be_tuple(p.annotation)]
    rest = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
    return Parameters(named, whole[0] if whole else None, context[0] if context else None, rest, given), found


def unbuilt(cls: type, name: str) -> Any:
    """A method of a class as an instance would give it, without building one: its signature has no self.

    Example:
        >>> class Step:
        ...     def process(self, word): ...
        >>> str(signature(unbuilt(Step, "process")))
        '(word)'
    """
    static = inspect.getattr_static(cls, name)
    if isinstance(static, FunctionType | staticmethod | classmethod | partialmethod):
        # These only remember the object; nothing of it is called.
        return static.__get__(object(), cls)
    return getattr(cls, name)


def _takes_self(owner: type) -> bool:
    return isinstance(inspect.getattr_static(owner, "process"), FunctionType)


def context_parameter(function: Callable[..., Any]) -> str | None:
    """The name of the parameter of a function that is annotated `TaskContext`.

    Example:
        >>> def rows(path: str, context: TaskContext): ...
        >>> context_parameter(rows), context_parameter(print)
        ('context', None)
    """
    if isinstance(function, partial):
        name = context_parameter(function.func)
        return None if name in function.keywords else name
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    scope = Scope.of(function, None)
    return next((p.name for p in parameters if _mentions(scope.resolve(p.annotation), TaskContext)), None)


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """`inspect.signature` that leaves annotations alone which cannot be evaluated (Python 3.14 evaluates them late).

    Raises:
        TypeError, ValueError: the signature cannot be read.
    """
    if sys.version_info >= (3, 14):
        lenient = import_module("annotationlib").Format.FORWARDREF
        return inspect.signature(function, annotation_format=lenient)
    return inspect.signature(function)


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that annotations of one function may use."""

    outer: dict[str, Any]
    inner: Mapping[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any], owner: type | None) -> Scope:
        """The globals of the function's module, and the namespace of its class."""
        return cls(getattr(inspect.unwrap(function), "__globals__", {}), dict(vars(owner)) if owner else {})

    def resolve(self, annotation: Any) -> Any:
        """The annotation as an object, `ABSENT` if there is none or it cannot be resolved."""
        if annotation is Parameter.empty:
            return ABSENT
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, self.outer, self.inner)
            except Exception:  # noqa: BLE001 - whatever it raises, it counts as absent
                return ABSENT
            if isinstance(annotation, str):
                return self.resolve(annotation)
        return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def contradicts(declared: Any, annotated: Any) -> bool:
    """Whether no value can be of both types, as far as plain classes tell.

    Example:
        >>> contradicts(int, str), contradicts(int, float), contradicts(str, str | None), contradicts(list[int], str)
        (True, False, False, False)
    """
    left, right = _classes(declared), _classes(annotated)
    return bool(left and right) and not any(_compatible(d, a) for d in left for a in right)


def _compatible(declared: type, annotated: type) -> bool:
    try:
        related = issubclass(declared, annotated) or issubclass(annotated, declared)
        return related or (annotated is float and issubclass(declared, int))
    except TypeError:  # protocols and typed dicts cannot be asked
        return True


def _classes(annotation: Any) -> Sequence[type]:
    """The plain classes of a union without None; empty if there is anything else in it."""
    if get_origin(annotation) in (Union, UnionType):
        parts = [_classes(part) for part in get_args(annotation) if part is not NoneType]
        return [cls for part in parts for cls in part] if all(parts) else []
    if annotation is Any or annotation is NoneType or not isinstance(annotation, type):
        return []
    return [annotation]


def _mentions(annotation: Any, cls: type) -> bool:
    return annotation is cls or (get_origin(annotation) in (Union, UnionType) and cls in get_args(annotation))


def _may_be_tuple(annotation: Any) -> bool:
    anything = (ABSENT, Any, object, typing.Tuple)  # noqa: UP006
    return any(annotation is special for special in anything) or _mentions(annotation, Tuple)


def _written(annotation: Any) -> str:
    return annotation.strip("\"'") if isinstance(annotation, str) else say.shown(annotation)


def _tuple_hint(parameter: Named) -> str:
    """What to say about a parameter that was probably meant to take the whole tuple."""
    if parameter.annotation is tuple or get_origin(parameter.annotation) is tuple:
        return "write from rainband import Tuple if it is to take the whole tuple"
    if parameter.annotation is ABSENT and parameter.text.split(".")[-1] == "Tuple":
        return "its annotation exists only for type checkers: import Tuple at run time, or name the parameter tup"
    return ""
