"""The codec: what travels comes back exactly, what does not is refused with its text, and bytes can do no harm."""

from __future__ import annotations

import datetime as dt
import gc
import math
import sys
import threading
import uuid
import weakref
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
import users_types as types
from hypothesis import given, settings
from hypothesis import strategies as st
from users_types import (
    Bits,
    Colour,
    Frozen,
    Labelled,
    Level,
    Model,
    Money,
    Numbers,
    Odd,
    Old,
    Pair,
    Point,
    Rights,
    Word,
    made,
    without,
)

from rainband import CodecError, _core, codec
from rainband.sameness import same

codec.register(Money, encode=lambda money: money.cents, decode=Money)


BERLIN = ZoneInfo("Europe/Berlin")
NOTED: Any = Model.model_validate({"a": 1, "b": [2], "extra": "e"})
NOTED._note = "other"
STRUCTURED = np.array([(1, [2.0, 3.0], b"x")], dtype=[("a", "<i4"), ("b", ">f8", (2,)), (("title", "c"), "S3")])

VALUES = [
    *(None, True, False, 0, 127, 128, -1, -32, -33, -128, -129, 255, 256, 65535, 65536, -32768, -32769),
    *(2**31 - 1, 2**32 - 1, 2**32, -(2**31), -(2**31) - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1),
    *(10**400, -(10**400), 0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308),
    *("", "a", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65536, "ü€😀", "\0", "a\udc80\ud800b"),
    *(b"", b"\0\xff", b"x" * 255, b"x" * 256, b"x" * 65536, bytearray(), bytearray(b"ab")),
    *([], [1, [2, []]], list(range(15)), list(range(16)), [0] * 65536, (), (1, (2, ())), (0,) * 255, (0,) * 256),
    *({}, {"b": 1, "a": 2}, {1: "a", (1, "x"): [None], None: b""}, {i: -i for i in range(70_000)}),
    *(set(), {1, "a", (2,)}, frozenset(), frozenset({math.nan}), {frozenset({1}), frozenset()}),
    *(1j, complex(-0.0, math.nan), range(0), range(5, -3, -2), range(10**30)),
    *(dt.date.min, dt.date.max, dt.datetime.min, dt.datetime.max, dt.time.min, dt.time.max),
    *(dt.timedelta.min, dt.timedelta.max, dt.timedelta(-1, 3, 7), dt.UTC, dt.timezone(dt.timedelta(hours=-3))),
    *(dt.timezone(dt.timedelta(0), "zero"), dt.timezone(dt.timedelta(seconds=1), "one"), BERLIN),
    *(dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    *(dt.time(1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST"), fold=1),),
    *(Decimal("1.10"), Decimal("-0"), Decimal("sNaN12"), Decimal("-Infinity"), Decimal("1E+999")),
    *(uuid.UUID(int=0), uuid.uuid4(), uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)),
    *(uuid.UUID(int=1, is_safe=uuid.SafeUUID.unsafe),),
    *(Colour.RED, Colour.BLUE, Colour.CRIMSON, Level.HIGH, Word.YES, Rights.READ, Rights.READ | Rights.RUN),
    *(Rights(0), Bits(9), Bits.ONE | Bits.TWO, Odd.ONE),
    *(made(Point, 1, size=2.5), Point(1, [Point(2)]), made(Point, 1, extra="e"), types.Point3(7)),
    *(without(Point), without(Frozen, name="n"), Frozen("a", Frozen("b")), without(types.Shadowed)),
    *(Pair(1), Pair(Pair(1, 2), [3]), Old(1, 2), made(Labelled, 1, 2, label="l"), Labelled(1, 2)),
    *(NOTED, Model.model_construct(a="no int"), Numbers([1, 2]), Money(5), [Money(1), {Money(2): Money(3)}]),
    *(np.arange(6).reshape(2, 3), np.arange(3, dtype=">u2"), np.array(5), np.zeros((0, 3)), np.zeros((2, 0, 1), "U3")),
    *(np.array(["a", "bb\0"]), np.array([b"a"]), np.array([True]), np.array([1j], "c8"), np.zeros(2, "V5")),
    *(np.array(["2026-01-01", "NaT"], "M8[D]"), np.array([1], "m8[25us]"), np.zeros(1, np.longlong), STRUCTURED),
    *(np.float64(1.5), np.float64("nan"), np.float32(2), np.float16(1), np.longdouble(1) / 3, np.int8(-3)),
    *(np.longlong(3), np.uint64(2**64 - 1), np.bool_(True), np.complex64(1j), np.str_("a\0"), np.str_("")),
    *(np.bytes_(b"a\0"), np.datetime64("NaT"), np.datetime64("2026-01-01", "s"), np.timedelta64(3, "us")),
    *(np.void(b"abc"), STRUCTURED[0]),
]


def shown(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("value", VALUES, ids=shown)
def test_type_and_value_come_back_exactly(value: Any) -> None:
    types.TOUCHED.clear()
    again = codec.decode(codec.encode(value))
    assert types.TOUCHED == []
    assert same(again, value)
    nested = {"a": [(value,)]}
    assert same(_core._decode_parts(*_core._encode_parts(nested)), nested)


def test_sameness_is_stricter_than_equality() -> None:
    """Else the tests here would prove little."""
    pairs: list[tuple[Any, Any]] = [
        *((1, True), (1, 1.0), (0.0, -0.0), ("a", Word.YES), ("yes", Word.YES), ([1], (1,)), ({1}, {1.0}), ({1}, {2})),
        *(({"a": 1, "b": 2}, {"b": 2, "a": 1}), (b"a", bytearray(b"a")), (Pair(1, 2), (1, 2)), (1j, 1.0)),
        *((Decimal("1.0"), Decimal("1.00")), (dt.UTC, dt.timezone(dt.timedelta(0), "UTC+0")), (Point(1), Point(2))),
        *((dt.time(1), dt.time(1, fold=1)), (dt.datetime.min, dt.datetime.min.replace(tzinfo=dt.UTC))),
        *((np.zeros(2), np.zeros(2, "f4")), (np.zeros((1, 2)), np.zeros((2, 1))), (np.int8(1), np.int16(1))),
        *((made(Point, 1, more=1), Point(1)), (Frozen("a"), Frozen("b")), (Frozen("a"), without(Frozen, name="a"))),
        *((Labelled(1), made(Labelled, 1, label=2)), (Colour.RED, Colour.BLUE), (Money(1), Money(2))),
        *((Model(a=1), Model(a=1, b=[])), (Numbers([1]), Numbers([2])), (types.Plain(), made(types.Plain, a=1))),
    ]
    assert [pair for pair in pairs if same(*pair) or same(*reversed(pair)) or not all(map(same, pair, pair))] == []


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.complex_numbers()),
    *(st.text(st.characters(exclude_categories=[])), st.binary(), st.decimals(), st.uuids(), st.dates()),
    *(st.times(timezones=st.none() | st.just(dt.UTC)), st.timedeltas(), st.sampled_from([*Colour, *Level, *Rights])),
    *(st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=True), st.builds(Money, st.integers())),
)
KEYS = st.recursive(
    SCALARS.filter(lambda value: not (type(value) is Decimal and value.is_snan())),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
NESTED = st.recursive(
    SCALARS | st.binary().map(bytearray) | st.sets(KEYS, max_size=4),
    lambda inner: st.one_of(
        *(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(KEYS, inner, max_size=5),
        ),
        *(st.builds(Frozen, st.text(), inner), st.builds(Pair, inner, inner), st.builds(Point, inner, st.lists(inner))),
    ),
    max_leaves=20,
)


@given(NESTED)
def test_any_value_comes_back_exactly(value: Any) -> None:
    assert same(codec.decode(codec.encode(value)), value)


MSGPACK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(MSGPACK)
def test_where_msgpack_has_a_form_it_is_that_form(value: Any) -> None:
    assert same(msgspec.msgpack.decode(codec.encode(value)), value)
    assert same(codec.decode(msgspec.msgpack.encode(value)), value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (("word", 1), "d4 02 a4 77 6f 72 64 01"),
        ({1}, "c7 04 00 00 00 01 01"),
        (2**64, "c7 01 00 00 00 09 00 00 00 00 00 00 00 00 01"),
        (dt.datetime(2026, 11, 21, 9, 30, 15, 7, tzinfo=dt.UTC), "c7 0a 07 ea 0b 15 09 1e 0f 00 00 00 07 00 c7 0d"),
        (Level.HIGH, "c7 11 b6 75 73 65 72 73 5f 74 79 70 65 73 3a 4c 65 76 65 6c 3a 48 49 47 48"),
        (Old(1, 2), "c7 15 b4 75 73 65 72 73 5f 74 79 70 65 73 3a 4f 6c 64 28 61 2c 62 29 01 02 80"),
        (np.array([1, 2], "<i2"), "c7 17 00 00 00 04 a3 3c 69 32 43 01 00 00 00 00 00 00 00 02 c4 04 01 00 02 00"),
    ],
    ids=shown,
)
def test_bytes_on_the_wire(value: Any, written: str) -> None:
    """Positions and dead letters are read by later versions."""
    assert codec.encode(value).hex(" ") == written


# -- classes -------------------------------------------------------------------------------------------------------


def test_no_code_of_the_class_runs() -> None:
    shadowed = without(types.Shadowed)
    vars(shadowed)["value"] = 3
    values = [Point(1), shadowed, Model(a=1), Frozen("a")]
    types.TOUCHED.clear()
    again = codec.decode(codec.encode(values))
    assert types.TOUCHED == []
    assert same(again, values)


def test_what_an_instance_holds_beside_its_fields_comes_too() -> None:
    point = made(Point, 4, size=1.0, note="n")
    assert point.double == 8
    assert vars(codec.decode(codec.encode(point))) == {"x": 4, "tags": [], "size": 1.0, "note": "n", "double": 8}
    again = codec.decode(codec.encode(NOTED))
    assert (again._note, again.extra, again.model_fields_set) == ("other", "e", {"a", "b", "extra"})


def test_types_of_the_program_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """multiprocessing calls the program's module "__mp_main__", with classes that name it so."""

    @dataclass
    class Order:
        number: int

    Order.__module__, Order.__qualname__ = "__mp_main__", "Order"
    module = type(sys)("__mp_main__")
    module.__dict__["Order"] = Order
    monkeypatch.setitem(sys.modules, "__mp_main__", module)
    data = codec.encode(Order(7))
    assert b"__main__:Order(number)" in data
    assert b"__mp_main__" not in data
    assert codec.decode(data) == Order(7)


def test_a_class_that_was_made_anew_takes_the_place_of_the_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cell of a notebook that is run again."""

    def cell() -> Any:
        @dataclass
        class Row:
            a: int

        Row.__module__, Row.__qualname__ = "users_types", "Row"
        monkeypatch.setattr(types, "Row", Row, raising=False)
        return Row

    for _ in range(2):
        row = cell()
        assert type(codec.decode(codec.encode(row(1)))) is row


def test_fields_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Row:
        a: int

    Row.__module__, Row.__qualname__ = "users_types", "Row"
    monkeypatch.setattr(types, "Row", Row, raising=False)
    data = codec.encode(Row(1)).replace(b"Row(a)", b"Row(b)")
    with pytest.raises(CodecError) as caught:
        codec.decode(data)
    assert str(caught.value) == (
        '"users_types:Row(b)" was written, but here it is "users_types:Row(a)": the fields differ'
    )


# -- large buffers -------------------------------------------------------------------------------------------------


def test_from_64_kib_on_buffers_travel_beside() -> None:
    small, large = b"x" * (2**16 - 1), b"y" * 2**16
    data, parts = _core._encode_parts([small, large, "z" * 2**17, np.zeros(2**13), np.zeros(2**13 - 1)])
    assert [len(part) for part in parts] == [2**16, 2**16]
    assert [type(value) for value in _core._decode_parts(data, parts)] == [bytes, bytes, str, np.ndarray, np.ndarray]
    assert codec.decode(codec.encode([small, large])) == [small, large]
    assert _core._decode_parts(data, [bytes(part) for part in parts])[1] == large


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_not_copied(order: Any) -> None:
    array = np.asarray(np.arange(2**14, dtype="f8").reshape(2, 2**6, 2**7), order=order)
    data, [part] = _core._encode_parts(array)
    assert np.shares_memory(np.asarray(memoryview(part)), array)
    assert len(data) < 100
    again = _core._decode_parts(data, [part])
    assert np.shares_memory(again, array)
    assert same(again, array)
    assert again.flags.f_contiguous == array.flags.f_contiguous
    assert not again.flags.writeable


def test_small_arrays_are_read_only_too() -> None:
    for array in (np.zeros(2), np.zeros(0), np.zeros((2, 0))):
        with pytest.raises(ValueError, match="read-only"):
            codec.decode(codec.encode(array))[...] = 1


def test_arrays_in_no_order_are_copied_into_that_of_c() -> None:
    array = np.arange(2**16).reshape(2**8, 2**8)[::2, ::-1]
    again = _core._decode_parts(*_core._encode_parts(array))
    assert same(again, array)
    assert again.flags.c_contiguous


def test_a_blob_keeps_its_owner_and_lets_go_of_it() -> None:
    class Owner(bytearray):
        pass

    owner = Owner(2**17)
    array = np.frombuffer(owner)
    gone = weakref.ref(owner)
    data, parts = _core._encode_parts(array)
    del owner, array
    again = _core._decode_parts(data, parts)
    del parts
    gc.collect()
    assert gone() is not None
    assert again.sum() == 0
    del again
    gc.collect()
    assert gone() is None


def test_a_part_is_read_only_memory() -> None:
    _, [part] = _core._encode_parts(b"x" * 2**16)
    assert memoryview(part).readonly
    with pytest.raises(TypeError, match="read-only"):
        memoryview(part)[0] = 1


def test_a_refused_value_leaves_nothing_beside() -> None:
    with pytest.raises(CodecError):
        _core._encode_parts([b"x" * 2**16, print])
    data, parts = _core._encode_parts([types.MyList([1]), (b"x" * 2**16, types.MyInt(3))], pickle=True)
    assert len(parts) == 1
    assert _core._decode_parts(data, parts, pickle=True)[1] == (b"x" * 2**16, 3)


def test_a_blob_is_read_once() -> None:
    data, parts = _core._encode_parts([b"x" * 2**16])
    for wrong in (b"\x92" + data[1:] + data[1:], data[:-1] + b"\x01"):
        with pytest.raises(CodecError, match=r"^malformed value at byte \d+: blob \d is not there$"):
            _core._decode_parts(wrong, parts)
    with pytest.raises(CodecError, match=r"blob 0 is not there$"):
        codec.decode(data)


def test_threads_may_use_it_at_once() -> None:
    value = [{"name": i, "point": Point(i), "at": dt.datetime(2026, 1, 1, tzinfo=BERLIN)} for i in range(50)]
    wrong: list[Any] = []

    def work() -> None:
        wrong.extend(each for each in [value] * 50 if not same(codec.decode(codec.encode(each)), each))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=40), st.integers(), max_size=50))
def test_keys_that_are_kept_are_the_right_ones(value: dict[str, int]) -> None:
    assert codec.decode(codec.encode([value, value])) == [value, value]


def test_short_texts_come_back_right_whether_they_are_kept_or_not() -> None:
    once = [f"{n:x}" for n in range(40_000)]  # more than the table waits for before it rests, and than it has places
    for texts in (once, ["word", "other"] * 4000, once[::-1], ["word"] * 40_000):
        for text in texts:
            assert codec.decode(codec.encode(text)) == text
