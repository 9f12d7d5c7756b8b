"""What the codec refuses, each with its text; registered types; pickles."""

from __future__ import annotations

import datetime as dt
import sys
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import users_types as types
from users_types import Frozen, Money, Odd, Pair, Point, made

from rainband import CodecError, _core, codec
from rainband.sameness import same

if TYPE_CHECKING:
    from collections.abc import Iterator

codec.register(Money, encode=lambda money: money.cents, decode=Money)


def shown(value: Any) -> str:
    return type(value).__name__


# -- registering ---------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from rainband import codec_types  # noqa: PLC0415 - only what is put back

    monkeypatch.setattr(codec_types, "_by_class", dict(codec_types._by_class))
    monkeypatch.setattr(codec_types, "_by_name", dict(codec_types._by_name))
    yield
    monkeypatch.undo()
    _core._forget_types()


@pytest.mark.usefixtures("registry")
def test_a_registered_name_stands_for_the_class() -> None:
    with pytest.raises(CodecError):
        codec.encode(PurePosixPath("a"))
    codec.register(PurePosixPath, name="path", encode=str, decode=PurePosixPath)
    data = codec.encode(PurePosixPath("a/b"))
    assert data == b"\xc7\x1a\xa4path\xa3a/b"
    assert same(codec.decode(data), PurePosixPath("a/b"))
    codec.register(PurePosixPath, name="path 2", encode=str, decode=PurePosixPath)
    with pytest.raises(CodecError, match='no type is registered as "path"'):
        codec.decode(data)
    assert codec.decode(codec.encode(PurePosixPath("a"))) == PurePosixPath("a")


@pytest.mark.usefixtures("registry")
def test_what_was_registered_wins_over_what_travels_by_itself() -> None:
    codec.register(Point, encode=lambda point: point.x, decode=Point)
    assert vars(codec.decode(codec.encode(made(Point, 1, extra=2)))) == {"x": 1, "tags": []}


@pytest.mark.usefixtures("registry")
def test_mistakes_of_registering() -> None:
    with pytest.raises(TypeError, match=r"^register\(\) takes a class, got 3$"):
        codec.register(3, encode=str, decode=str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^register\(Plain, decode=…\) takes a function, got 'x'$"):
        codec.register(types.Plain, encode=str, decode="x")  # type: ignore[arg-type]
    for cls in (int, dict, Decimal, np.ndarray):
        with pytest.raises(ValueError, match=r'^type ".*" travels already and cannot be registered$'):
            codec.register(cls, encode=str, decode=str)
    codec.register(types.Plain, name="p", encode=lambda _: None, decode=lambda _: types.Plain())
    with pytest.raises(
        ValueError, match=r'^the name "p" is registered for type "users_types.Plain"; give type "users_types'
    ):
        codec.register(types.MyList, name="p", encode=list, decode=types.MyList)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("encode", "decode", "text"),
    [
        (lambda _: 1 / 0, repr, "encode of \"users_types:Plain\" raised ZeroDivisionError('division by zero')"),
        (
            lambda _: print,
            repr,
            ('.encode(): type "builtin_function_or_method" does not travel; register it with rainband.codec.register'),
        ),
        (lambda v: v, repr, "nested deeper than 256 levels, or holds itself"),
        (
            lambda _: 1,
            lambda _: 1 / 0,
            ("malformed value at byte 2: decode of \"users_types:Plain\" raised ZeroDivisionError('division by zero')"),
        ),
        (
            lambda _: 1,
            lambda n: n,
            ('malformed value at byte 2: decode of "users_types:Plain" returned type "int", not "users_types.Plain"'),
        ),
    ],
    ids=["raises", "refused", "itself", "decode raises", "decode of another type"],
)
def test_mistakes_in_registered_functions(encode: Any, decode: Any, text: str) -> None:
    codec.register(types.Plain, encode=encode, decode=decode)
    with pytest.raises(CodecError) as caught:
        codec.decode(codec.encode((types.Plain(),)))
    assert str(caught.value).removeprefix("[0]: ").removeprefix("[0]").endswith(text)
    assert isinstance(caught.value.__cause__, ZeroDivisionError) is ("raised" in text)


# -- refusals ------------------------------------------------------------------------------------------------------

REGISTER = "register it with rainband.codec.register"
LOST = f"and would lose what it adds; {REGISTER}"


def local_class() -> Any:
    @dataclass
    class Local:
        x: int

    return Local(1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (print, f'type "builtin_function_or_method" does not travel; {REGISTER}'),
        (types.Plain(), f'type "users_types.Plain" does not travel; {REGISTER}'),
        (memoryview(b""), f'type "memoryview" does not travel; {REGISTER}'),
        (int, f'type "type" does not travel; {REGISTER}'),
        (types.MyList(), f'type "users_types.MyList" does not travel: it is a subclass of list {LOST}'),
        (types.MyInt(), f'type "users_types.MyInt" does not travel: it is a subclass of int {LOST}'),
        (OrderedDict(), f'type "collections.OrderedDict" does not travel: it is a subclass of dict {LOST}'),
        (types.OfDict(), f'type "users_types.OfDict" does not travel: it is a subclass of dict {LOST}'),
        (
            np.zeros(2).view(np.recarray),
            (f'type "numpy.rec.recarray" does not travel: it is a subclass of numpy.ndarray {LOST}'),
        ),
        (
            local_class(),
            (
                'type "test_codec_refusals.local_class.<locals>.Local" does not travel: no other process finds '
                f'"test_codec_refusals:local_class.<locals>.Local"; define it at the top of a module, or {REGISTER}'
            ),
        ),
        (Odd.ONE | Odd.TWO, 'type "users_types.Odd" does not travel: this is none of its members; emit one of them'),
        (
            tuple.__new__(Pair, (1,)),
            ('type "users_types.Pair" does not travel: it has 2 fields and this one 1 values; make it with as many'),
        ),
        (
            np.array([None]),
            (
                'type "numpy.ndarray" does not travel: its dtype "object" holds Python objects; '
                "emit a list, or an array of another dtype"
            ),
        ),
        (
            np.zeros(1, np.dtype((np.record, [("a", "<i4")]))),
            (
                'type "numpy.ndarray" does not travel: its dtype '
                "\"(numpy.record, [('a', '<i4')])\" "
                "would come back as another; emit an array of a plain dtype"
            ),
        ),
        (
            {"a": [1, {2: {"x" * 41: print}}]},
            '["a"][1][2][entry 0]: type "builtin_function_or_method" does not travel; ' + REGISTER,
        ),
        ({"a": 1, print: 2}, f'(key 1): type "builtin_function_or_method" does not travel; {REGISTER}'),
        ([{print}], f'[0]{{element}}: type "builtin_function_or_method" does not travel; {REGISTER}'),
        (Frozen("a", Pair(1, print)), f'.inner[1]: type "builtin_function_or_method" does not travel; {REGISTER}'),
        (made(Point, 1, note=print), f'["note"]: type "builtin_function_or_method" does not travel; {REGISTER}'),
    ],
    ids=shown,
)
def test_refusals(value: Any, text: str) -> None:
    for give in (codec.encode, _core._encode_parts):
        with pytest.raises(CodecError) as caught:
            give(value)
        assert str(caught.value) == text


def test_a_zone_without_a_key_is_refused() -> None:
    from importlib import resources  # noqa: PLC0415 - here alone

    data = resources.files("tzdata.zoneinfo.Europe").joinpath("Berlin").open("rb") if "tzdata" in sys.modules else None
    with data or open("/usr/share/zoneinfo/Europe/Berlin", "rb") as file:  # noqa: PTH123
        zone = ZoneInfo.from_file(file)
    with pytest.raises(CodecError) as caught:
        codec.encode(dt.datetime(2026, 1, 1, tzinfo=zone))
    assert str(caught.value) == (
        '.tzinfo: type "zoneinfo.ZoneInfo" does not travel: this one was made from a file and has no key; '
        "make it by its key"
    )


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "frozen", "pair"])
def test_depth_is_bounded(kind: str) -> None:
    wrap: Any = {
        "list": lambda v: [v],
        "tuple": lambda v: (v,),
        "dict": lambda v: {"k": v},
        "frozen": lambda v: Frozen("a", v),
        "pair": Pair,
    }[kind]
    value: Any = 1
    for _ in range(256):
        value = wrap(value)
    data = codec.encode(value)
    if kind != "pair":  # its second field is as deep as nothing
        assert same(codec.decode(data), value)
    with pytest.raises(CodecError, match=r"nested deeper than 256 levels, or holds itself$"):
        codec.encode(wrap(value))
    with pytest.raises(CodecError, match=r"^malformed value at byte \d+: nested deeper than 256 levels$"):
        codec.decode(b"\x91" * 257 + b"\x01")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append({"a": value})
    with pytest.raises(CodecError) as caught:
        codec.encode(value)
    start = '[0]["a"][0]["a"]'
    assert str(caught.value).startswith(start)
    assert len(str(caught.value)) < 250


def test_a_container_that_changes_meanwhile_is_refused() -> None:
    kept = Money(1)
    for container, change in (
        ([kept, 1], lambda c: c.append(2)),
        ([kept, 1], lambda c: c.clear()),
        ({kept: 1, 2: 3}, lambda c: c.pop(2)),
        ({1: kept}, lambda c: c.update(a=1)),
        ({kept, 2}, lambda c: c.discard(2)),
    ):
        codec.register(Money, encode=lambda m, c=container, f=change: f(c) or m.cents, decode=Money)  # type: ignore[misc]
        try:
            with pytest.raises(CodecError, match=r"^a (list|dict|set) was changed while it was written$"):
                codec.encode(container)
        finally:
            codec.register(Money, encode=lambda money: money.cents, decode=Money)


# -- pickles -------------------------------------------------------------------------------------------------------


def test_only_what_is_refused_is_pickled_and_only_if_allowed() -> None:
    value = {"list": types.MyList([1]), "point": Point(1)}
    data = codec.encode(value, pickle=True)
    assert same(codec.decode(data, pickle=True), value)
    assert data.count(b"\xc7\x1b") == 1
    with pytest.raises(CodecError) as caught:
        codec.decode(data)
    assert str(caught.value) == (
        "malformed value at byte 6: a pickled value, which is read only where pickle=True allows it"
    )
    assert codec.encode(Point(1), pickle=True) == codec.encode(Point(1))
    array = np.array([{1}, None], dtype=object)
    assert codec.decode(codec.encode([array], pickle=True), pickle=True)[0].tolist() == [{1}, None]


def test_what_pickle_refuses_is_refused() -> None:
    with pytest.raises(CodecError) as caught:
        codec.encode([lambda: 1], pickle=True)
    assert str(caught.value).startswith(f'[0]: type "function" does not travel; {REGISTER}; pickle raised ')
    assert caught.value.__cause__ is not None
