"""Workers that are killed from outside, at random moments: nothing is lost."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from chaos_check import check, read
from chaos_run import Chaos

if TYPE_CHECKING:
    from pathlib import Path

MAX_PENDING = 200


def run_with_kills(folder: Path, kills: int, seed: int) -> Chaos:
    chaos = Chaos(folder)
    try:
        chaos.start(pace=1500)
        chaos.wait_for_acks(100)
        chaos.kill_at_random(kills, random.Random(seed), bursts=seed % 2 == 1)
        chaos.wait_for_acks(100)
        chaos.enough()
        code = chaos.finish()
        assert code == 0, chaos.stderr[-3000:]
        check(read(chaos.tracks, chaos.state), chaos.reports, deaths=kills, max_pending=MAX_PENDING)
        assert not list(chaos.temporary.iterdir())
    finally:
        left = chaos.close()
    assert not left
    return chaos


@pytest.mark.timeout(120)
def test_workers_killed_at_random(tmp_path: Path) -> None:
    """50 kills; five runs, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_with_kills, tmp_path / f"run-{seed}", 10, seed) for seed in range(5)]
        done = [run.result() for run in runs]
    assert sum(len(chaos.kills) for chaos in done) == 50
