"""Every example in the docstrings of the API runs, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import rainband
from rainband import _core

MODULES = [
    "anatomy",
    "binding",
    "check",
    "codec",
    "codec_arrays",
    "codec_types",
    "component",
    "config",
    "errors",
    "function",
    "grouping",
    "plan",
    "problems",
    "report",
    "sameness",
    "topology",
    "wiring_problems",
]
DOCUMENTED_ELSEWHERE = {
    "testing",  # a module; its names have examples in their own tests
    "codec",  # a module; its functions are in MODULES
    "Run",  # test_run
    "grouping",  # a module; its functions are looked at below
    "IDLE",  # a value, documented where it stands
    "DEAD_LETTER",
    "DROP",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"rainband.{name}"))
    assert result.failed == 0


def test_examples_of_the_core() -> None:
    """The finder of doctest passes over what is not written in Python."""
    finder, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    examples = 0
    for name in _core.__all__:
        test = finder.get_doctest(getattr(_core, name).__doc__ or "", {}, name, None, None)
        examples += len(test.examples)
        assert runner.run(test, clear_globs=False).failed == 0, name
    assert examples > 5


@pytest.mark.parametrize("name", sorted(set(rainband.__all__) - DOCUMENTED_ELSEWHERE))
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(rainband, name)
    doc = inspect.getdoc(thing) or ""
    assert doc, f"{name} has no docstring"
    assert ">>> " in doc, f"{name} has no example"


def test_groupings_are_documented() -> None:
    for name, function in inspect.getmembers(rainband.grouping, inspect.isfunction):
        if function.__module__ == "rainband.grouping":
            assert "Example:" in (function.__doc__ or ""), name
