"""A disk that is full, a state folder that is in use, a wall clock that jumps, an address that is not ours."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from chaos_check import check, read
from chaos_run import (
    Chaos,
    chaos_fixture,  # noqa: F401 - pytest finds it here
    wait_until,
)
from test_points import fault

if TYPE_CHECKING:
    from pathlib import Path

MAX_PENDING = 200
FULL = "/dev/full"  # takes no byte: no space left on device


def fill(chaos: Chaos) -> Path:
    """From now on positions find no space; the link in place of their new file."""
    new = chaos.state / "positions.json.new"

    def is_filled() -> bool:
        os.kill(chaos.pid, signal.SIGSTOP)  # else the link might become the file of positions itself
        try:
            if new.exists():
                return False
            new.symlink_to(FULL)
            return True
        finally:
            os.kill(chaos.pid, signal.SIGCONT)

    chaos.wait_for(is_filled, "a moment between two positions")
    return new


def test_no_space_for_positions(chaos: Chaos) -> None:
    """The run fails with the reason, and the next goes on at what had been stored."""
    chaos.start(pace=1500)
    chaos.wait_for_acks(300)
    link = fill(chaos)
    assert chaos.finish() == 1
    assert "positions cannot be written" in chaos.stderr
    assert "no space left on device" in chaos.stderr.lower()
    before = read(chaos.tracks, chaos.state)
    assert not before.lost
    assert not before.early
    link.unlink()
    chaos.start(pace=1500)
    chaos.wait_for_acks(300)
    chaos.enough()
    assert chaos.finish() == 0, chaos.state_of_things()
    check(read(chaos.tracks, chaos.state), chaos.reports[-1:], deaths=1, max_pending=MAX_PENDING)


def test_no_space_for_dead_letters(chaos: Chaos) -> None:
    """What cannot be buried stays pending, and the position before it."""
    chaos.state.mkdir(parents=True)
    link = chaos.state / "dead_letters.jsonl"
    link.symlink_to(FULL)
    rejected = [fault("halves", "reject", 300, times=2)]
    chaos.start(stop=900, faults=rejected)
    assert chaos.finish() == 1
    assert "a dead letter cannot be written" in chaos.stderr
    link.unlink()
    chaos.start(stop=900, faults=rejected)
    assert chaos.finish() == 6, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    assert found.lives[1].position < 300
    assert found.letters == {300: "rejected"}
    check(found, chaos.reports[-1:], deaths=1, max_pending=MAX_PENDING)


def test_a_folder_in_use_and_a_lock_that_was_left(chaos: Chaos) -> None:
    chaos.state.mkdir(parents=True)
    (chaos.state / "lock").write_text("1\n")  # of a process that does not hold it
    chaos.start(pace=1500)
    chaos.wait_for_acks(100)
    second = Chaos(chaos.folder / "second", settings={"state_dir": chaos.state})
    second.start(stop=10)
    assert second.finish() == 1
    assert f"is in use by another run (process {chaos.pid})" in second.stderr
    assert not second.close()
    chaos.wait_for_acks(100)
    chaos.enough()
    assert chaos.finish() == 0, chaos.state_of_things()
    check(read(chaos.tracks, chaos.state), chaos.reports, deaths=0, max_pending=0)


def test_a_clock_that_jumps(chaos: Chaos) -> None:
    """Nothing in the engine takes its time from the wall clock, neither in workers nor in the supervisor."""
    chaos.settings |= {"ack_timeout_s": 5}
    chaos.start(stop=2000, CHAOS_CLOCK="1", faults=[fault("between", "kill", 300)])
    assert chaos.finish() == 0, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    check(found, chaos.reports, deaths=1, max_pending=MAX_PENDING)
    assert all(set(life.failed) <= {"worker-lost", "crashed"} for life in found.lives)


def test_an_address_of_another_machine(chaos: Chaos) -> None:
    chaos.settings |= {"transport": "tcp", "bind": "192.0.2.1"}
    chaos.start(stop=10)
    assert chaos.finish() == 2
    assert 'bind "192.0.2.1": sockets cannot be bound there' in chaos.stderr
    wait_until(lambda: not chaos.processes(), "the end of all processes")
