"""What a component emitted against what a test in a file expects."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest

from rainband.cli.comparing import compare, is_same, plain


class Colour(enum.Enum):
    RED = "red"


PLAIN: list[tuple[Any, Any]] = [
    (("a", 1), ["a", 1]),
    ([("a",), [2]], [["a"], [2]]),
    ({1: (2,)}, {"1": [2]}),
    ({"b", "a"}, ["a", "b"]),
    (Colour.RED, "red"),
    (dt.date(2024, 1, 2), "2024-01-02"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (PurePosixPath("a/b"), "a/b"),
    (Decimal("1.50"), "1.50"),
    (b"ab\xff", "ab\\xff"),
    (None, None),
    (True, True),
    (1.5, 1.5),
]


@pytest.mark.parametrize(("value", "expected"), PLAIN)
def test_values_are_brought_to_what_a_file_can_say(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (None, "", False),
        (float("nan"), float("nan"), True),
        ([1, ["a"]], [1.0, ["a"]], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_equality(first: Any, second: Any, same: bool) -> None:
    assert is_same(first, second) is same
    assert is_same(second, first) is same


def test_any_order_counts_how_often_a_value_comes() -> None:
    assert compare("c", [["a", 1], ["b", 1]], [("b", 1), ("a", 1)], "any") is None
    found = compare("c", ["a", "a", "b"], ["b", "b", "a"], "any")
    assert found is not None
    assert found.text() == ("c: expected 3 values in any order, got 3; - missing, + not expected\n  - a\n  + b")


def test_exact_order() -> None:
    assert compare("c", [1, 2], [1.0, 2], "exact") is None
    found = compare("c", [1, 2], [2, 1], "exact")
    assert found is not None
    assert sorted(line[0] for line in found.lines) == [" ", "+", "-"]


def test_values_that_are_written_alike_but_differ() -> None:
    found = compare("c", [None], ["null"], "exact")
    assert found is not None
    assert found.lines == ["- null", '+ "null"']


def test_nothing_expected_and_long_differences() -> None:
    assert compare("c", [], [], "any") is None
    found = compare("c.late", [], list(range(25)), "any")
    assert found is not None
    lines = found.text().splitlines()
    assert lines[0] == "c.late: expected 0 values in any order, got 25; - missing, + not expected"
    assert lines[-1] == "  … 5 more"
