"""Workers that tell nothing: of whom the user is warned, and who counts as frozen."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

from test_cluster_state import plan

from rainband.cluster import silence
from rainband.cluster.silence import Silence, Silent, limit_s

if TYPE_CHECKING:
    from pathlib import Path


def looked(found: Silence, *times: int) -> list[Silent]:
    return [each for now in times for each in found.look(float(now))]


def test_who_is_frozen() -> None:
    assert doctest.testmod(silence).failed == 0
    found = Silence(30.0)
    for worker in (0, 1, 2):
        found.hear(worker, 0.0)
    found.ready(0)
    found.ready(2)
    seconds = range(36)
    for now in seconds:
        found.hear(2, float(now))
        told = looked(found, now)
        assert [each.worker for each in told if each.is_frozen] == ([0] if now >= 30 else [])
        # Worker 1 is not ready: it may import for an hour.
        assert (Silent(1, float(now), is_frozen=False) in told) == (now in {10, 20, 30})
    found.forget(0)
    assert looked(found, 36) == []
    # Its successor begins anew.
    found.hear(0, 36.0)
    assert looked(found, *range(37, 72, 5))[-1].is_frozen is False


def test_a_supervisor_that_did_not_run_blames_nobody() -> None:
    found = Silence(30.0)
    found.hear(0, 0.0)
    found.ready(0)
    assert looked(found, 0, 3, 3600, 3605, 3609) == []
    assert looked(found, 3610) == [Silent(0, 10.0, is_frozen=False)]
    assert looked(found, *range(3611, 3631))[-1] == Silent(0, 30.0, is_frozen=True)


def test_the_limit_is_above_that_of_one_call(tmp_path: Path) -> None:
    assert limit_s(plan(tmp_path)) == 310.0
    assert limit_s(plan(tmp_path, execute_timeout_s=2)) == 30.0
