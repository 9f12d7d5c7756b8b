"""Checked mode: declared types at emit, and changes of what was emitted, each with its text."""

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, Protocol

import pytest

from rainband import EmitError, Stream, bolt, codec
from rainband.checked import Checker, fingerprint, matches
from rainband.plan import compile_component


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


class Slotted:
    __slots__ = ("__weakref__", "x")

    def __init__(self) -> None:
        self.x = 1


class Array:
    """What the check needs to see of numpy's."""

    dtype, shape = "int64", (2,)

    def __init__(self) -> None:
        self.content = bytearray(2)

    def tobytes(self) -> bytes:
        return bytes(self.content)


class HasLength(Protocol):
    def __len__(self) -> int: ...


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("value", "declared", "fits"),
    [
        (1, int, True),
        (True, int, True),
        (1, float, True),
        (1.5, int, False),
        (1.5, complex, True),
        ("a", str, True),
        (b"a", str, False),
        (None, str, False),
        (None, str | None, True),
        (1, str | None, False),
        (None, None, True),
        ([1], list[str], True),
        ((1,), list[int], False),
        ([1], Sequence[int], True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (True, Literal[1], False),
        (1, Annotated[int, "unit"], True),
        ("a", Annotated[int, "unit"], False),
        (1, UserId, True),
        ("a", UserId, False),
        (5, HasLength, True),
        (5, Any, True),
        (5, object, True),
        (5, "Forward", True),
    ],
)
def test_declared_types(value: Any, declared: Any, fits: bool) -> None:
    assert matches(value, declared) is fits


CHANGES: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (lambda: [1, 2], lambda v: v.append(3)),
    (lambda: [1, 2], lambda v: v.__setitem__(0, 1.0)),
    (lambda: [[1], 2], lambda v: v[0].append(3)),
    (lambda: ([1], 2), lambda v: v[0].append(3)),
    (lambda: {"a": 1}, lambda v: v.update(b=2)),
    (lambda: {"a": [1]}, lambda v: v["a"].clear()),
    (lambda: OrderedDict(a=1, b=2), lambda v: v.move_to_end("a")),
    (lambda: {1, 2}, lambda v: v.add(3)),
    (lambda: deque([1]), lambda v: v.append(2)),
    (lambda: bytearray(b"ab"), lambda v: v.reverse()),
    (lambda: array("i", [1, 2]), lambda v: v.reverse()),
    (Array, lambda v: v.content.append(1)),
    (lambda: Point(1), lambda v: setattr(v, "x", 2)),
    (lambda: Point(1), lambda v: v.tags.append("a")),
    (Slotted, lambda v: setattr(v, "x", 2)),
]


@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_every_change_is_seen_and_nothing_else(make: Callable[[], Any], change: Callable[[Any], object]) -> None:
    value = make()
    before = fingerprint(value)
    assert fingerprint(value) == before
    change(value)
    assert fingerprint(value) != before


def test_cycles_and_large_values_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert fingerprint(endless) == fingerprint(endless)
    large = [[i] for i in range(100_000)]
    assert fingerprint(large) == fingerprint(large)


@bolt(outputs={"word": str, "rows": list}, streams={"late": ["any"]})
def split(line: str) -> None: ...


def checker() -> Checker:
    return Checker([compile_component("bolt", split, name="split"), compile_component("bolt", split, name="count")])


def test_a_wrong_type_names_component_stream_field_and_value() -> None:
    with pytest.raises(EmitError) as caught:
        checker().emit(0, "default", (5, []))
    assert str(caught.value) == 'bolt "split" stream "default": field "word" is declared str, got int (5)'
    assert checker().emit(0, "late", (5,)) is None


def test_values_that_cannot_change_need_no_token() -> None:
    assert checker().emit(0, "late", ("a",)) is None
    assert checker().emit(0, "late", (("a", 1),)) is not None  # a tuple may hold a list


def test_a_change_by_the_sender() -> None:
    rows = [1]
    check = checker()
    token = check.emit(0, "default", ("a", rows))
    assert token is not None
    check.receive(1, token, ("a", rows), "before")
    rows.append(2)
    with pytest.raises(EmitError) as caught:
        check.receive(1, token, ("a", rows), "before")
    assert str(caught.value) == (
        'bolt "split" stream "default": field "rows" was changed after it was emitted: '
        "it was [1] and is [1, 2]; emit a copy, or do not change it"
    )


def test_a_change_by_the_receiver() -> None:
    rows = list(range(1000))
    check = checker()
    token = check.emit(0, "default", ("a", rows))
    assert token is not None
    rows[500] = -1
    with pytest.raises(EmitError) as caught:
        check.receive(1, token, ("a", rows), "after")
    text = str(caught.value)
    assert text.startswith(
        'bolt "count" changed field "rows" of a tuple of bolt "split" stream "default": it is [0, 1, 2'
    )
    assert text.endswith("and something inside differs; work on a copy, or do not change it")


class Lossy:
    """Its codec forgets half of it."""

    def __init__(self, x: int, y: int = 0) -> None:
        self.x, self.y = x, y

    def __repr__(self) -> str:
        return f"Lossy({self.x}, {self.y})"


codec.register(Lossy, encode=lambda lossy: lossy.x, decode=Lossy)


@bolt(outputs=["word", "row"], streams={"unsafe": Stream(["any"], pickle=True)})
def cut(line: str) -> None: ...


def sending(*, must_travel: bool = True) -> Checker:
    return Checker([compile_component("bolt", cut, name="cut")], must_travel=must_travel)


def test_with_workers_every_value_goes_through_the_codec() -> None:
    check = sending()
    assert check.emit(0, "default", ("a", 1.5)) is None
    assert check.emit(0, "default", (["a"], Point(1))) is not None
    assert check.emit(0, "default", (Lossy(1), [Lossy(2)])) is not None
    with pytest.raises(EmitError) as caught:
        check.emit(0, "default", ("a", [1, {"at": OrderedDict()}]))
    assert str(caught.value) == (
        'bolt "cut" stream "default": field "row" cannot travel to another worker: [1]["at"]: type '
        '"collections.OrderedDict" does not travel: it is a subclass of dict and would lose what it adds; '
        "register it with rainband.codec.register"
    )
    with pytest.raises(EmitError) as caught:
        check.emit(0, "default", ("a", (Lossy(1, 2),)))
    assert str(caught.value) == (
        'bolt "cut" stream "default": field "row" comes from another worker as something else: it was (Lossy(1, 2),) '
        "and is (Lossy(1, 0),); correct the encode or decode of its type"
    )


def test_without_workers_nothing_has_to_travel() -> None:
    assert sending(must_travel=False).emit(0, "default", (OrderedDict(), Lossy(1, 2))) is not None


def test_pickles_where_the_stream_allows_them() -> None:
    check = sending()
    assert check.emit(0, "unsafe", (OrderedDict(a=1),)) is not None
    with pytest.raises(
        EmitError, match=r'stream "unsafe": field "any" cannot travel to another worker: .*; pickle raised'
    ):
        check.emit(0, "unsafe", (lambda: 1,))
