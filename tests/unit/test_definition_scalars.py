"""Scalars: YAML 1.2's core schema and nothing of 1.1."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rainband.definition.scalars import MAX_DIGITS, plain_text, read_scalar, values_text

NUMBERS = [
    ("0", 0),
    ("-1", -1),
    ("+12", 12),
    ("012", 12),
    ("0o14", 12),
    ("0xC", 12),
    ("1.5", 1.5),
    (".5", 0.5),
    ("5.", 5.0),
    ("-1e3", -1000.0),
    ("1E-2", 0.01),
    (".inf", math.inf),
    ("-.Inf", -math.inf),
]
TEXTS = [
    *(
        "on",
        "off",
        "yes",
        "no",
        "y",
        "n",
        "Yes",
        "12:30",
        "1:2:3",
        "1_000",
        "0b11",
        "0o8",
        "0x",
        "1e",
        "-",
        ".",
        "..",
        "+",
    ),
    *("2024-01-01", "nul", "tRue", "1.2.3", "e5", "inf", "NaN", "=", "<<", "1,000"),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_numbers(text: str, value: float) -> None:
    read = read_scalar(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", TEXTS)
def test_what_yaml_1_1_would_have_changed_stays_text(text: str) -> None:
    assert read_scalar(text) == text


def test_words() -> None:
    assert [read_scalar(word) for word in ("true", "True", "TRUE")] == [True, True, True]
    assert [read_scalar(word) for word in ("false", "False", "FALSE")] == [False, False, False]
    assert [read_scalar(word) for word in ("", "~", "null", "Null", "NULL")] == [None] * 5
    assert math.isnan(read_scalar(".nan"))  # type: ignore[arg-type]


def test_absurd_numbers_are_refused() -> None:
    assert read_scalar("9" * MAX_DIGITS) == int("9" * MAX_DIGITS)
    with pytest.raises(ValueError, match="a whole number of 401 digits"):
        read_scalar("9" * (MAX_DIGITS + 1))


@given(st.text(max_size=20))
def test_plain_text_is_read_back_as_the_same_text(text: str) -> None:
    class Loader(yaml.SafeLoader):
        """Reads every plain scalar with our rules."""

    Loader.yaml_implicit_resolvers = {}
    read = yaml.load(f"- {plain_text(text)}\n", Loader)[0]
    quoted = plain_text(text).startswith('"')
    assert (read if quoted else read_scalar(read)) == text


def test_values_text() -> None:
    assert values_text([1, "a b", None, True, {"k": [1.5, "yes"]}, "1"]) == '[1, a b, null, true, {k: [1.5, yes]}, "1"]'
