"""The tree of errors: complete in its drawing, exported, and with the texts that it composes."""

from __future__ import annotations

import inspect
import re

import pytest

import rainband
from rainband import errors
from rainband.errors import Problem, TopologyError

CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, Exception) and cls.__module__ == errors.__name__
}


def test_the_drawing_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(  |$)", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    actual = {name: cls.__bases__[0].__name__ for name, cls in CLASSES.items() if name != "Reject"}
    assert drawn == actual


@pytest.mark.parametrize("name", CLASSES)
def test_errors_are_documented(name: str) -> None:
    assert "Example:" in (CLASSES[name].__doc__ or "")


def test_reject_is_not_an_error_of_the_engine() -> None:
    assert not issubclass(rainband.Reject, rainband.RainbandError)
    assert rainband.Reject("why").reason == "why"
    assert str(rainband.Reject()) == "rejected"


def test_texts_of_problems() -> None:
    assert str(Problem("x", "here", "wrong")) == "here: wrong"
    assert str(Problem("x", "here", "wrong", "a", "b", "do c")) == "here: wrong; expected a, got b; do c"
    assert str(Problem("x", "here", "wrong", got="b")) == "here: wrong; got b"


def test_listing() -> None:
    one, two = Problem("x", "here", "wrong"), Problem("y", "there", "worse")
    assert str(TopologyError.listing("it", [one])) == "it has 1 mistake:\n  here: wrong"
    error = errors.DefinitionError.listing("it", [one, two])
    assert type(error) is errors.DefinitionError
    assert str(error) == "it has 2 mistakes:\n  here: wrong\n  there: worse"
    assert error.problems == (one, two)
