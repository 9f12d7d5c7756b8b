"""Binding of parameters to fields: the rules of the contract one by one, and by property that calls get it right."""

from __future__ import annotations

import typing
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypedDict, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainband import Bolt, TaskContext, Tuple
from rainband.binding import Binding, context_parameter, contradicts, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rainband import Tuple as OnlyForTypeCheckers
    from rainband.errors import Problem

FIELDS: dict[str, Any] = {"word": None, "at": None, "city": None}


def bind(process: Callable[..., Any], fields: dict[str, Any] | None = None) -> Binding:
    parameters, found = read(process, "b")
    binding, more = parameters.bind(FIELDS if fields is None else fields, "b", "s")
    assert [*found, *more] == []
    return binding


def problems(process: Callable[..., Any], fields: dict[str, Any] | None = None) -> list[Problem]:
    parameters, found = read(process, "b")
    return [*found, *parameters.bind(FIELDS if fields is None else fields, "b", "s")[1]]


def call(process: Callable[..., Any], binding: Binding, values: Sequence[Any], whole: Any = "whole") -> Any:
    """What the core does with a binding."""
    taken = [whole if i < 0 else values[i] for i in binding.args]
    split = len(taken) - len(binding.kwnames)
    return process(*taken[:split], **dict(zip(binding.kwnames, taken[split:], strict=True)))


def test_by_name_in_any_order() -> None:
    def process(at: Any, word: Any) -> Any:
        return at, word

    assert bind(process) == Binding((1, 0), ())


def test_the_whole_tuple_by_name_or_annotation() -> None:
    def by_name(tup: Any) -> None: ...
    def by_annotation(t: Tuple, word: Any) -> None: ...
    def optional(t: Tuple | None) -> None: ...

    assert bind(by_name) == Binding((-1,))
    assert bind(by_annotation) == Binding((-1, 0))
    assert bind(optional) == Binding((-1,))


def test_a_parameter_annotated_tuple_wins_over_a_field_of_its_name() -> None:
    def process(word: Tuple, **rest: Any) -> Any:
        return word, rest

    assert call(process, bind(process), (1, 2, 3)) == ("whole", {"at": 2, "city": 3})


def test_keyword_only_and_rest() -> None:
    def process(word: Any, *, city: Any, **rest: Any) -> Any:
        return word, city, rest

    assert call(process, bind(process), (1, 2, 3)) == (1, 3, {"at": 2})


def test_no_parameters() -> None:
    assert bind(lambda: None) == Binding(())


def test_a_default_makes_a_field_optional() -> None:
    def process(rank: Any = "none", word: Any = "none", at: Any = "none") -> Any:
        return rank, word, at

    assert bind(process) == Binding((0, 1), ("word", "at"))
    assert call(process, bind(process), ("w", 5, "c")) == ("none", "w", 5)


def test_each_input_has_its_own_binding() -> None:
    def process(word: Any, at: Any = None) -> None: ...

    parameters, _ = read(process, "b")
    assert parameters.bind({"at": None, "word": None}, "b", "s")[0] == Binding((1, 0))
    assert parameters.bind({"word": None}, "b", "s")[0] == Binding((0,))


def test_methods_static_methods_and_class_methods() -> None:
    class Plain(Bolt):
        def process(self, word: Any) -> None: ...

    class Static(Bolt):
        @staticmethod
        def process(word: Any) -> None: ...

    class OfClass(Bolt):
        @classmethod
        def process(cls, word: Any) -> None: ...

    for cls in (Plain, Static, OfClass):
        parameters, found = read(cls.process, "b", owner=cls)
        assert found == []
        assert parameters.bind(FIELDS, "b", "s") == (Binding((0,)), [])


def test_a_decorated_process_is_seen_through() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @logged
    def process(city: Any) -> Any:
        return city

    assert call(process, bind(process), (1, 2, 3)) == 3


def test_a_partial_fills_parameters() -> None:
    def process(separator: Any, word: Any, at: Any, city: Any = None) -> Any:
        return separator, word, at, city

    filled = partial(process, ",", at="now")
    assert call(filled, bind(filled), (1, 2, 3)) == (",", 1, "now", 3)
    by_keyword = partial(process, separator=",")
    assert call(by_keyword, bind(by_keyword), (1, 2, 3)) == (",", 1, 2, 3)


def test_fields_that_are_filled_already_do_not_come_as_rest() -> None:
    def process(self: Any, word: Any, **rest: Any) -> Any:
        return self, word, rest

    filled = partial(process, "me", word="fixed")
    fields = {"self": None, "word": None, "at": None}
    assert call(filled, bind(filled, fields), (1, 2, 3)) == ("me", "fixed", {"at": 3})


def test_the_context_parameter_is_left_to_the_adaptor() -> None:
    def process(context: TaskContext, word: Any, **rest: Any) -> Any:
        return context, word, rest

    the_context: Any = "the context"
    given_context = partial(process, context=the_context)
    assert call(given_context, bind(process), (1, 2, 3)) == ("the context", 1, {"at": 2, "city": 3})
    assert context_parameter(process) == "context"
    assert context_parameter(given_context) is None
    assert context_parameter(max) is None


def test_annotations_are_resolved_one_at_a_time() -> None:
    def process(row: NotThere, word: str, tup: Tuple) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    parameters, found = read(process, "b")
    assert found == []
    assert [p.annotation is str for p in parameters.named] == [False, True, False]
    assert parameters.whole == "tup"


def test_unresolvable_tuple_gets_a_hint() -> None:
    def process(row: OnlyForTypeCheckers) -> None: ...
    def qualified(row: rainband.Tuple) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert problems(process)[0].code == "unknown_parameter"
    hint = "its annotation exists only for type checkers: import Tuple at run time, or name the parameter tup"
    assert problems(qualified)[0].fix == hint


def test_annotated_and_nested_strings() -> None:
    def process(word: Annotated[int, "unit"], at: "str") -> None: ...  # noqa: UP037

    assert [p.code for p in problems(process, {"word": str, "at": str})] == ["parameter_type"]


def test_local_classes_count_as_absent_and_class_names_resolve() -> None:
    class Step(Bolt):
        class Row: ...

        def process(self, word: Row) -> None: ...

    parameters, found = read(Step.process, "b", owner=Step)
    assert found == []
    assert [p.code for p in parameters.bind({"word": str}, "b", "s")[1]] == ["parameter_type"]


class Named(Protocol):
    name: str


class Row(TypedDict):
    word: str


class Base: ...


class Derived(Base): ...


@pytest.mark.parametrize(
    ("declared", "annotated", "expected"),
    [
        (str, str, False),
        (str, int, True),
        (int, float, False),
        (bool, float, False),
        (float, int, True),
        (bool, int, False),
        (Derived, Base, False),
        (Base, Derived, False),
        (str, object, False),
        (str, Any, False),
        (Any, str, False),
        (None, str, False),
        ("str", int, False),
        (str | None, int | None, True),
        (str | int, int, False),
        (Union[str, int], float | bytes, False),  # noqa: UP007
        (Union[str, bytes], float | int, True),  # noqa: UP007
        (str | list[int], int, False),
        (list[int], str, False),
        (list, typing.Sequence, False),
        (type(None), str, False),
        (str, Named, False),
        (dict, Row, False),
        (str, typing.TypeVar("T"), False),
    ],
)
def test_contradictions(declared: Any, annotated: Any, expected: bool) -> None:
    assert contradicts(declared, annotated) is expected


NAMES = ["a", "b", "c", "d", "e"]


@given(
    parameters=st.lists(st.tuples(st.sampled_from(NAMES), st.booleans(), st.booleans()), unique_by=lambda p: p[0]),
    fields=st.lists(st.sampled_from(NAMES), unique=True),
    rest=st.booleans(),
)
def test_every_call_gets_the_values_of_its_names(
    parameters: list[tuple[str, bool, bool]], fields: list[str], rest: bool
) -> None:
    """Against a call by keywords alone: (name, has default, keyword-only)."""
    ordered = sorted(parameters, key=lambda p: (p[2], p[1]))
    before = [f"{name}='default'" if default else name for name, default, keyword in ordered if not keyword]
    behind = [f"{name}='default'" if default else name for name, default, keyword in ordered if keyword]
    header = ", ".join([*before, *(["*"] if behind else []), *behind, *(["**rest"] if rest else [])])
    space: dict[str, Any] = {}
    exec(f"def process({header}): return dict(locals())", space)
    process = space["process"]
    bound, found = read(process, "b")[0].bind(dict.fromkeys(fields), "b", "s")
    missing = [name for name, default, _ in parameters if not default and name not in fields]
    assert sorted(problem.what.split('"')[1] for problem in found) == sorted(missing)
    if not missing:
        names = {name for name, _, _ in parameters}
        expected = process(**{field: i for i, field in enumerate(fields) if rest or field in names})
        assert call(process, bound, list(range(len(fields)))) == expected
