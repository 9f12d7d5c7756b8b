"""The supervisor: killed, stopped and continued, interrupted; and workers that are stopped and continued."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from chaos_check import check, check_account, read
from chaos_run import (
    Chaos,
    chaos_fixture,  # noqa: F401 - pytest finds it here
    wait_until,
)

MAX_PENDING = 200
IMPORTED_MS = 400  # the command has come far enough to handle an interrupt itself


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 5))])
def test_the_next_run_goes_on_where_a_killed_one_was(chaos: Chaos, seed: int) -> None:
    """No process is left, the state folder is all that the next run needs, and it cleans up."""
    chaos.start(pace=1500)
    chaos.wait_for_acks(100 + random.Random(seed).randrange(500))
    assert chaos.process is not None
    chaos.process.kill()
    chaos.process.wait()
    wait_until(lambda: not chaos.processes(), "the end of all workers")
    before = read(chaos.tracks, chaos.state)
    chaos.start(pace=1500)
    chaos.wait_for_acks(500)
    chaos.enough()
    assert chaos.finish() == 0, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    assert found.end is not None
    assert found.end > max(before.acked)
    check(found, chaos.reports, deaths=1, max_pending=MAX_PENDING)
    # Positions are stored at most 100 ms behind; half a second is for a busy machine.
    assert found.read_again <= 1500 * 0.5 + MAX_PENDING


@pytest.mark.parametrize("worker", [1, *(pytest.param(worker, marks=pytest.mark.chaos) for worker in (0, 2, None))])
def test_a_process_that_is_stopped_and_continued(chaos: Chaos, worker: int | None) -> None:
    """Nobody takes it for dead, and what waited does not time out."""
    chaos.settings |= {"ack_timeout_s": 1}
    chaos.start(pace=1500)
    chaos.wait_for_acks(200)
    pid = chaos.pid if worker is None else chaos.worker(worker)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    resume_at = time.monotonic() + 4  # longer than heartbeats of the links wait for each other
    wait_until(lambda: time.monotonic() >= resume_at, "the end of the stop")
    os.kill(pid, signal.SIGCONT)
    chaos.wait_for_acks(500)
    chaos.enough()
    assert chaos.finish() == 0, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    check(found, chaos.reports, deaths=0, max_pending=MAX_PENDING)
    assert chaos.reports[-1]["notes"] == []
    assert found.duplicates == 0


@pytest.mark.parametrize("signals", [1, 2, 30])
def test_interrupts(chaos: Chaos, signals: int) -> None:
    """The first drains; with more of them the run is stopped, and nothing is left either way."""
    chaos.start(pace=1500)
    chaos.wait_for_acks(200)
    for _ in range(signals):
        os.killpg(chaos.pid, signal.SIGINT)
    code = chaos.finish()
    assert "Traceback" not in chaos.stderr
    found = read(chaos.tracks, chaos.state)
    assert not found.early
    assert not found.damaged
    assert not found.lost
    if code == 0:
        check_account(chaos.reports[-1])
        assert found.emitted == found.acked
    else:
        assert code == 130
    assert code == 0 or signals > 1


@pytest.mark.parametrize("delay_ms", [400, *(pytest.param(ms, marks=pytest.mark.chaos) for ms in (100, 600, 800))])
def test_interrupts_at_the_start(chaos: Chaos, delay_ms: int) -> None:
    chaos.start(pace=1500)
    begin_at = time.monotonic() + delay_ms / 1000
    wait_until(lambda: time.monotonic() >= begin_at, "the moment")
    while not chaos.is_over:
        os.killpg(chaos.pid, signal.SIGINT)
        time.sleep(0.001)  # between two of them; nothing is waited for
    code = chaos.finish()
    if delay_ms >= IMPORTED_MS:
        assert code in {0, 130}
        assert "Traceback" not in chaos.stderr
