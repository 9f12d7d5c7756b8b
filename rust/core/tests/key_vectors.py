# ruff: noqa: C901, D101, D103, F401, INP001, PLR0911
"""Prints `key_vectors.json`: canonical bytes of keys and where they go, computed without the core.

    python rust/core/tests/key_vectors.py > rust/core/tests/key_vectors.json

The rules are those of `key.rs`, written a second time; the hash is that of the package `xxhash`. The vectors are
published: a key that moves to another task in a new version breaks whoever relies on it, so the file only grows.
"""

import json
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from uuid import UUID

import xxhash


class Color(Enum):
    RED = 1


def tagged(tag: int, data: bytes) -> bytes:
    return struct.pack(">BI", tag, len(data)) + data


def integer(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return struct.pack(">Bq", 0x10, value)
    magnitude = abs(value).to_bytes((abs(value).bit_length() + 7) // 8, "big")
    return struct.pack(">BBI", 0x11, value < 0, len(magnitude)) + magnitude


def canonical(value: object) -> bytes:
    match value:
        case None:
            return b"\x00"
        case int():
            return integer(value)
        case float():
            return integer(int(value)) if value.is_integer() else struct.pack(">Bd", 0x12, value)
        case str():
            return tagged(0x20, value.encode("utf-8", "surrogatepass"))
        case bytes():
            return tagged(0x21, value)
        case datetime() if value.tzinfo is None:
            return struct.pack(">Bq", 0x31, (value - datetime.min) // timedelta(microseconds=1))
        case datetime():
            return struct.pack(">Bq", 0x32, (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        case date():
            return struct.pack(">Bi", 0x30, value.toordinal())
        case timedelta():
            return struct.pack(">BiII", 0x33, value.days, value.seconds, value.microseconds)
        case UUID():
            return b"\x34" + value.bytes
        case Enum():
            return tagged(0x35, f"{type(value).__qualname__}.{value.name}".encode())
        case tuple():
            return struct.pack(">BI", 0x40, len(value)) + b"".join(map(canonical, value))
    raise TypeError(f"{type(value).__name__} is no key")


# Literals, each evaluated with the names imported above.
KEYS = """
None
True
False
0
1
1.0
-0.0
-1
127
1234567890123
2**53
float(2**53)
2**63 - 1
-(2**63)
2**63
2.0**63
-(2**63) - 1
2**64
10**30
-(10**30)
1e300
-1e300
0.5
-0.1
5e-324
1.7976931348623157e308
float('inf')
float('-inf')
''
'a'
'word'
'the'
'é'
'日本'
'\\ud800'
'a\\x00b'
b''
b'a'
b'\\x00\\xff'
date(1, 1, 1)
date(2024, 2, 29)
date(9999, 12, 31)
datetime(1, 1, 1)
datetime(2024, 2, 29, 12, 30, 15, 250)
datetime(1970, 1, 1, tzinfo=UTC)
datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
datetime(2024, 2, 29, 14, 30, tzinfo=timezone(timedelta(hours=2)))
datetime(1900, 1, 1, tzinfo=UTC)
timedelta(0)
timedelta(days=1, seconds=2, microseconds=3)
timedelta(microseconds=-1)
UUID('12345678-1234-5678-1234-567812345678')
Color.RED
()
('a',)
('a', 1)
(('a', 'b'), 'c')
('a', ('b', 'c'))
(None, 1.5, b'x')
""".strip().splitlines()


def vector(literal: str) -> dict[str, object]:
    data = canonical(eval(literal))
    digest = xxhash.xxh3_64_intdigest(data)
    group = digest % 4096
    tasks = {str(n): group * n // 4096 for n in (2, 3, 7)}
    return {"key": literal, "bytes": data.hex(), "hash": f"{digest:016x}", "group": group, "tasks": tasks}


if __name__ == "__main__":
    print("[\n" + ",\n".join(json.dumps(vector(literal), ensure_ascii=False) for literal in KEYS) + "\n]")
