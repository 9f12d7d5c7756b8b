"""Calls of user code that never come back, and tuples that kill whoever takes them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from chaos_check import check, read
from chaos_run import chaos_fixture  # noqa: F401 - pytest finds it here
from test_points import fault, run

if TYPE_CHECKING:
    from chaos_run import Chaos

MAX_ATTEMPTS = 3
LIMIT_S = 1.0


@pytest.mark.parametrize("do", ["hang", "hang-in-c"])
def test_a_call_that_does_not_come_back(chaos: Chaos, do: str) -> None:
    """Its worker tells where it hangs, and is replaced; also while C code holds the interpreter."""
    chaos.settings |= {"halves.execute_timeout_s": LIMIT_S}
    began = time.monotonic()
    run(chaos, fault("between", do, 300))
    assert LIMIT_S < time.monotonic() - began < LIMIT_S + 20
    assert 'bolt "halves" task 1: one call of user code has lasted longer than execute_timeout_s (1 s)' in chaos.stderr
    function = {"hang": "_hang", "hang-in-c": "_hang_in_c"}[do]
    assert f"in {function}" in chaos.stderr, "the stack of the call"


def test_a_tuple_that_kills_whoever_takes_it(chaos: Chaos) -> None:
    """It ends in the dead letters; everything else arrives."""
    chaos.settings |= {"max_attempts": MAX_ATTEMPTS}
    chaos.start(stop=900, faults=[fault("halves", "kill", 300, times=MAX_ATTEMPTS)])
    code = chaos.finish()
    assert code == 6, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    assert found.letters == {300: "crashed"}
    check(found, chaos.reports, deaths=MAX_ATTEMPTS, max_pending=200)
    assert len(chaos.reports[-1]["notes"]) >= MAX_ATTEMPTS
    assert 'in hand: bolt "halves" task 1, a tuple of spout "numbers"' in chaos.stderr


@pytest.mark.parametrize("kind", ["batches", "async"])
def test_one_that_kills_among_others_in_hand(chaos: Chaos, kind: str) -> None:
    """What stood in the batch with it, or was in flight, is suspected once; from then on each is tried alone."""
    chaos.settings |= {"max_attempts": MAX_ATTEMPTS}
    poison = fault("between", "kill", 300, times=MAX_ATTEMPTS)
    chaos.start(stop=900, faults=[poison], CHAOS_KIND=kind)
    code = chaos.finish()
    assert code == 6, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    assert found.letters == {300: "crashed"}
    check(found, chaos.reports, deaths=MAX_ATTEMPTS, max_pending=200)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["batches", "async"])
@pytest.mark.parametrize("point", ["emitted", "between", "before-write"])
def test_other_kinds_of_bolts_killed(chaos: Chaos, point: str, kind: str) -> None:
    chaos.environment["CHAOS_KIND"] = kind
    run(chaos, fault(point, "kill", 300))


def test_several_that_kill(chaos: Chaos) -> None:
    """In two bolts; each is found out although innocents stand beside them."""
    chaos.settings |= {"max_attempts": MAX_ATTEMPTS}
    poison = [
        fault("halves", "segfault", 100, times=MAX_ATTEMPTS),
        fault("before-write", "kill", 200, times=MAX_ATTEMPTS),
    ]
    chaos.start(stop=900, faults=poison)
    code = chaos.finish()
    assert code == 6, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    assert found.letters == {100: "crashed", 200: "crashed"}
    check(found, chaos.reports, deaths=2 * MAX_ATTEMPTS, max_pending=200)
