"""Nanoseconds to write and read one record: our codec on many records a call, msgspec called for each.

What is compared is what a worker would do: the engine writes and reads records in a loop in Rust, so ours gets a list
of a thousand records in one call; with a library every record costs a call from Python, here in the fastest loop that
Python has. "called" is `msgspec.msgpack.encode` and `decode`, which give a list for a tuple; "prepared" is an `Encoder`
and a `Decoder` with the type of the records, which is the best that msgspec can do, and the only way in which it gives
tuples, dates, Enum members and classes back. Ours needs no types. All keep the thousand results until the call is over,
the texts of the records differ, and the collector of cycles is off.
"""

from __future__ import annotations

import datetime as dt
import enum
import gc
import time
from dataclasses import dataclass

import msgspec
from measure import Figure, check, main

from rainband.codec import decode as read
from rainband.codec import encode as write
from rainband.sameness import same

RECORDS = 1000
CALLS = 200
BAR = 2.0


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Order:
    number: int
    customer: str
    total: float


@dataclass
class Row:
    """What a bench measures: a name, the records, and the type that msgspec reads them as."""

    name: str
    records: list
    schema: object
    bar: float | None = None


START = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
ROWS = [
    Row('("word", 1)', [(f"word{i}", i % 100) for i in range(RECORDS)], tuple, BAR),
    Row(
        "5 fields: str, int, float, bool, str",
        [(f"name{i}", i * 1000, i / 3, i % 2 == 0, f"some longer text {i}") for i in range(RECORDS)],
        tuple,
        BAR,
    ),
    Row("dict of 3", [{"id": i, "name": f"name{i}", "price": i / 3} for i in range(RECORDS)], dict, BAR),
    Row("dataclass of 3", [Order(i, f"name{i}", i / 3) for i in range(RECORDS)], Order),
    Row(
        "(datetime, Enum)",
        [(START + dt.timedelta(seconds=i), [*Colour][i % 2]) for i in range(RECORDS)],
        tuple[dt.datetime, Colour],
    ),
]


def nanoseconds(call, calls):
    """Of one record."""
    gc.collect()
    gc.disable()
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    took = time.perf_counter_ns() - start
    gc.enable()
    return took / calls / RECORDS


def body(options):
    calls = options.size(CALLS)
    figures = []
    for row in ROWS:
        arms = arms_of(row)
        took = {name: Figure(f"{row.name}: {name}", unit="ns", digits=0) for name in arms}
        ratios = {
            "called": Figure(f"{row.name}, msgspec called ÷ ours", at_least=row.bar),
            "prepared": Figure(f"{row.name}, msgspec prepared ÷ ours"),
        }
        for _ in range(options.rounds):
            last = {name: nanoseconds(call, calls) for name, call in arms.items()}
            for name, figure in took.items():
                figure.add(last[name])
            for name, ratio in ratios.items():
                if f"read, {name}" in last:
                    theirs = last[f"write, {name}"] + last[f"read, {name}"]
                    ratio.add(theirs / (last["write, ours"] + last["read, ours"]))
        figures += [figure for figure in [*ratios.values(), *took.values()] if figure.rounds]
    return figures


def arms_of(row):
    """What is timed for a row, after a look at whether it is right."""
    records, written = row.records, write(row.records)
    check(same(read(written), records), f"{row.name}: ours gave something else")
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(row.schema).decode
    each = [encode(record) for record in records]
    check([decode(one) for one in each] == records, f"{row.name}: msgspec gave something else")
    arms = {
        "write, ours": lambda: write(records),
        "write, prepared": lambda: [encode(record) for record in records],
        "read, ours": lambda: read(written),
        "read, prepared": lambda: [decode(one) for one in each],
    }
    if row.bar is None:
        return arms
    return arms | {
        "write, called": lambda: [msgspec.msgpack.encode(record) for record in records],
        "read, called": lambda: [msgspec.msgpack.decode(one) for one in each],
    }


if __name__ == "__main__":
    main(__doc__.splitlines()[0], body)
