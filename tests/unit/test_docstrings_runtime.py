"""Every example in the docstrings of the modules that run topologies runs."""

import doctest
import importlib

import pytest

MODULES = [
    "aio",
    "batching",
    "checked",
    "durable",
    "exact",
    "harness",
    "progress",
    "recorder",
    "run",
    "runtime",
    "signals",
    "spout_harness",
    "testing",
    "yielded",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"rainband.{name}"))
    assert result.failed == 0
