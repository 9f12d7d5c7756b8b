"""Gives each fault test a run of its own, and sees that nothing is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos_run import Chaos

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    made = Chaos(tmp_path / "chaos")
    yield made
    left = made.close()
    assert not left, "processes outlived their run"
    assert made.may_leave_files or not list(made.temporary.iterdir())
