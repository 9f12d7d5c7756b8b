"""Bytes that nobody of ours wrote: a `CodecError`, no call, no import, no memory by the length they claim."""

from __future__ import annotations

import datetime as dt
import resource
import subprocess
import sys
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import users_types as types
from hypothesis import example, given, settings
from hypothesis import strategies as st
from users_types import Colour, Frozen, Model, Money, Pair, Point, Rights

from rainband import CodecError, _core, codec

codec.register(Money, encode=lambda money: money.cents, decode=Money)

EXT = b"\xc7"
AT_0, AT_2 = "malformed value at byte 0: ", "malformed value at byte 2: "
KINDS = {"member": 17, "flag": 18, "dataclass": 19, "model": 20, "namedtuple": 21, "registered": 26}
SEEDS = [
    codec.encode(value)
    for value in [
        *(("word", 1), {"a": [1.5, None, True], (1, 2): {3}}, 2**70, "a\udc80", bytearray(b"x"), range(3), 1j),
        *(dt.datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")), dt.time(1, tzinfo=dt.timezone(dt.timedelta(1) / 2))),
        *(dt.timedelta(1), Decimal("1.5"), uuid.UUID(int=5), Colour.RED, Rights.READ | Rights.RUN, Frozen("a", [1])),
        *(Pair(1), Model(a=1), Money(3), np.arange(6).reshape(2, 3), np.float32(1), np.str_("a"), "x" * 300),
        *(np.zeros(2, [("a", "i4"), ("b", "f8", (2,))]), [list(range(300))], {i: i for i in range(40)}),
    ]
]


def read(data: bytes) -> None:
    """Reads, and lets only the right error pass."""
    with suppress(CodecError):
        _core._decode_parts(data, [])


@settings(max_examples=1000)
@given(st.binary(max_size=60))
@example(b"")
@example(EXT)
def test_random_bytes(data: bytes) -> None:
    read(data)


@settings(max_examples=1000)
@given(st.integers(0, 28), st.binary(max_size=40))
def test_random_bytes_behind_every_extension(kind: int, data: bytes) -> None:
    read(EXT + bytes([kind]) + data)


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_every_truncation(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(CodecError, match=r"^malformed value at byte \d+: |^\".*\" is not found|^no type is"):
            codec.decode(data[:length])
    with pytest.raises(CodecError, match=rf"^malformed value at byte {len(data)}: 1 bytes follow the value$"):
        codec.decode(data + b"\0")


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_every_flipped_bit(data: bytes) -> None:
    types.TOUCHED.clear()
    for at in range(len(data)):
        for bit in range(8):
            read(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
    assert types.TOUCHED == []


@settings(max_examples=500)
@given(st.lists(st.sampled_from(SEEDS), min_size=2, max_size=4), st.data())
def test_pieces_put_together(seeds: list[bytes], data: st.DataObject) -> None:
    cut = [seed[data.draw(st.integers(0, len(seed))) :] for seed in seeds]
    read(b"\x94" + b"".join(cut))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "malformed value at byte 0: it ends in the middle"),
        (b"\x01\x02", "malformed value at byte 1: 1 bytes follow the value"),
        (b"\xc1", "malformed value at byte 0: no value begins with 0xc1"),
        (b"\x91\xc7\x63", "malformed value at byte 1: no extension has the number 99"),
        (
            b"\xa2\xff\xff",
            (
                "malformed value at byte 0: decoding UTF-8 raised UnicodeDecodeError('utf-8', b'\\xff\\xff', "
                "0, 1, 'invalid start byte')"
            ),
        ),
        (b"\x81\x90\x01", "malformed value at byte 1: setting a key raised TypeError(\"unhashable type: 'list'\")"),
        (b"\x82\x01\x01\x01\x02", "malformed value at byte 5: a dict with the same key twice"),
        (b"\xc7\x04\0\0\0\x02\x01\x01", "malformed value at byte 0: a set with the same element twice"),
        (b"\xc7\x08\0\0\x01\x01", "malformed value at byte 0: date() raised ValueError('year 0 is out of range')"),
        (b"\xc7\x09\0\0\0\xff\xff\xff\xff\0\xc0", "malformed value at byte 10: a time out of its bounds"),
        (b"\xc7\x0b\0\0\0\0\xff\xff\xff\xff\0\0\0\0", "malformed value at byte 0: a timedelta out of its bounds"),
        (b"\xc7\x09\0\0\0\0\0\0\0\0\x01", "malformed value at byte 10: no time zone"),
        (b"\xc7\x0e\xa1.", 'there is no time zone "." on this machine ('),
        (b"\xc7\x0e\xa6Europe", 'there is no time zone "Europe" on this machine ('),
        (b"\xc7\x0e\xa4Nope", 'there is no time zone "Nope" on this machine ('),
        (b"\xc7\x0e\xa9/etc/hos.", 'there is no time zone "/etc/hos." on this machine ('),
        (b"\xc7\x0f\xa1x", "malformed value at byte 0: Decimal() raised InvalidOperation("),
        (b"\xc7\x0f\x01", "malformed value at byte 0: a Decimal that is no text"),
        (b"\xc7\x10" + b"\0" * 16 + b"\x03", AT_0 + "a UUID that is neither safe nor unsafe nor unknown"),
        (b"\xc7\x07\x01\x01\0", AT_0 + "range() raised ValueError('range() arg 3 must not be zero')"),
        (b"\xc7\x16", "malformed value at byte 0: no extension has the number 22"),
        (b"\xc7\x17\0\0\0\x04\xa3|O8C\0", AT_2 + "reading a dtype raised ValueError(\"no dtype: '|O8'\")"),
        (b"\xc7\x17\0\0\0\x04\xa3<i2Z\0", AT_0 + "an array of no known order or of too many dimensions"),
        (b"\xc7\x17\0\0\0\x04\xa3<i2C\0\x01", "malformed value at byte 0: an array without memory"),
        (
            b"\xc7\x17\0\0\0\x04\xa3<i2C\x01\xff\xff\xff\xff\xff\xff\xff\xff\xc4\0",
            "malformed value at byte 0: an array whose memory is not as long as its shape",
        ),
        (b"\xc7\x18\0\0\0\x04\xa3<i2\0\0\0\0", "malformed value at byte 0: a scalar that is not as long as its dtype"),
        (b"\xc7\x19\x01", "malformed value at byte 0: a text of numpy that is none"),
        (b"\xc7\x13\x01", "malformed value at byte 2: no name where one belongs"),
        (b"\xc7\x13\xa1\xff", "malformed value at byte 2: a name that is not UTF-8"),
        (b"\xc7\x1c\0\0\0\0", "malformed value at byte 2: blob 0 is not there"),
    ],
)
def test_texts(data: bytes, text: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec.decode(data)
    assert str(caught.value).startswith(text)


def test_lengths_that_are_claimed_reserve_nothing() -> None:
    """Each claims 4 GiB of something, in values in values; the process may not grow by a part of that."""
    most = b"\xff\xff\xff\xff"
    claims = [
        b"\xdd",
        b"\xdf",
        b"\xd5",
        b"\xc6",
        b"\xdb",
        b"\xc7\x04",
        b"\xc7\x05",
        b"\xc7\x01",
        b"\xc7\x03",
        b"\xc7\x17",
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for claim in claims:
        for data in (claim + most, (claim + most) * 200, claim + b"\0\x0f\xff\xff" + (claim + b"\0\x0f\0\0") * 200):
            with pytest.raises(CodecError):
                codec.decode(data + b"\x01" * 2**20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


# -- names ---------------------------------------------------------------------------------------------------------


def named(kind: str, name: str) -> bytes:
    raw = name.encode()
    return EXT + bytes([KINDS[kind], 0xD9, len(raw)]) + raw + b"\x80" * 8


HOSTILE = [
    *("os:system", "subprocess:Popen", "subprocess:Popen(args)", "builtins:eval", "builtins:dict()", "builtins:type"),
    *("users_types:Dangerous", "users_types:Dangerous()", "users_types:function()", "users_types:WithMeta.attribute()"),
    *("users_types:missing()", "users_types:Point.double()", "users_types:alias(x,tags,size)", "users_types:TOUCHED()"),
    *(
        "users_types:Plain()",
        "users_types:MyList()",
        "users_types:OfDict(x)",
        "users_types:Odd",
        "users_types:Colour:no",
    ),
    *("antigravity:x", "this:x", "rainband.__main__:x", "rainband.no_such:x", "users_types.more:x", "..x:y", "os.:x"),
    *("", ":", "::", "(", "a(b", "__main__:", "__main__:x.y.z", "users_types:", "users_types:Colour.RED", "\0:\0"),
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_no_name_leads_to_a_call_or_an_import(kind: str, name: str) -> None:
    types.TOUCHED.clear()
    loaded = set(sys.modules)
    with pytest.raises(CodecError):
        codec.decode(named(kind, name))
    assert types.TOUCHED == []
    assert set(sys.modules) == loaded


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("dataclass", "os:system()", '"os:system" is not found; import its module in every process'),
        ("dataclass", "subprocess:Popen()", '"subprocess:Popen" is no dataclass; nothing else is made of a name'),
        ("dataclass", "users_types:Colour()", '"users_types:Colour" is no dataclass; nothing else is made of a name'),
        ("model", "users_types:Point(x)", '"users_types:Point" is no pydantic model; nothing else is made of a name'),
        ("namedtuple", "users_types:Point(x)", '"users_types:Point" is no NamedTuple; nothing else is made of a name'),
        ("member", "users_types:Point:x", '"users_types:Point" is no Enum; nothing else is made of a name'),
        ("member", "users_types:Colour:x", '"users_types:Colour" has no member "x"'),
        ("flag", "users_types:Colour", '"users_types:Colour" has no members without a name'),
        ("flag", "users_types:Odd", '"users_types:Odd" has no members without a name'),
        ("registered", "x", 'no type is registered as "x"; import the module that registers it in every process'),
        (
            "dataclass",
            "users_types:Money(cents)",
            '"users_types:Money" is no dataclass; nothing else is made of a name',
        ),
    ],
)
def test_texts_of_names(kind: str, name: str, text: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec.decode(named(kind, name))
    assert str(caught.value) == text


def test_a_registered_class_is_not_made_behind_its_decode() -> None:
    assert codec.encode(Money(1)).startswith(EXT + b"\x1a")
    with pytest.raises(CodecError, match="is no dataclass"):
        codec.decode(named("dataclass", "users_types:Money()"))


def test_instances_get_no_more_than_they_have_room_for() -> None:
    frozen = codec.encode(Frozen("a", 1))
    with pytest.raises(CodecError, match=r"attributes for a class that has no place for them$"):
        codec.decode(frozen[:-1] + b"\x81\xa1a\x01")
    point = codec.encode(Point(1))
    with pytest.raises(CodecError, match=r"an attribute whose name is no str$"):
        codec.decode(point[:-1] + b"\x81\x01\x01")
    for value in (Frozen("a", 1), Pair(1, 2)):
        with pytest.raises(CodecError, match=r"no dict where one belongs$"):
            codec.decode(codec.encode(value)[:-1] + b"\x01")


def test_a_flag_is_asked_for_by_an_int() -> None:
    data = codec.encode(Rights.READ | Rights.RUN)
    for value in (b"\xa1x", b"\xc3", b"\xcd\xff\xff"):
        with pytest.raises(CodecError, match=r"^malformed value at byte 0: the Flag raised "):
            codec.decode(data[:-1] + value)


def test_a_module_is_imported_only_below_a_package_that_is_loaded(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has imported `shop` may be sent an order of `shop.orders` before it has imported that."""
    for package in ("known_shop", "unknown_shop"):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "__main__.py").write_text("raise SystemExit(3)")
        (folder / "broken.py").write_text("1 / 0")
        (folder / "orders.py").write_text(
            "import dataclasses\nfrom rainband import codec\n\n@dataclasses.dataclass\nclass Order:\n    n: int\n\n"
            "class Bill:\n    n = 7\n\ncodec.register(Bill, encode=lambda b: b.n, decode=lambda n: Bill())\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    program = """if True:
        import sys, known_shop
        from rainband import CodecError, codec
        def named(kind, name, rest):
            return bytes([0xC7, kind, 0xD9, len(name)]) + name.encode() + rest
        def refused(kind, name):
            try:
                codec.decode(named(kind, name, b"\\x07\\x80"))
            except CodecError as error:
                return str(error)
        assert codec.decode(named(19, "known_shop.orders:Order(n)", b"\\x07\\x80")).n == 7
        assert codec.decode(named(26, "known_shop.orders:Bill", b"\\x07")).n == 7
        print(refused(19, "unknown_shop.orders:Order(n)"))
        print(refused(26, "unknown_shop.orders:Bill"))
        print(refused(19, "known_shop.__main__:Order(n)"))
        print(refused(19, "known_shop.broken:Order(n)"))
        assert not any(name.startswith("unknown_shop") for name in sys.modules)
    """
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=50, check=False)
    assert done.stdout.splitlines() == [
        '"unknown_shop.orders:Order" is not found; import its module in every process',
        '"unknown_shop.orders:Bill" is not found; import its module in every process',
        '"known_shop.__main__:Order" is not found; import its module in every process',
        (
            '"known_shop.broken:Order" is not found: importing "known_shop.broken" raised '
            "ZeroDivisionError('division by zero')"
        ),
    ], done.stderr
