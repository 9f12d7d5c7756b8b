"""Every example in the docstrings of the connectors runs, and every name they export has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import TYPE_CHECKING

import pytest

from rainband import connectors

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = sorted(found.name for found in pkgutil.iter_modules(connectors.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"rainband.connectors.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
    assert module.__doc__ is not None


def undocumented() -> Iterator[str]:
    for name in connectors.__all__:
        if ">>>" not in (getattr(connectors, name).__doc__ or ""):
            yield name


def test_every_exported_name_has_an_example() -> None:
    assert list(undocumented()) == []
