"""Processes that die at a chosen point: between any two steps of a record's life, at the beginning and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos_check import Tracks, check, read
from chaos_run import chaos_fixture  # noqa: F401 - pytest finds it here

if TYPE_CHECKING:
    from chaos_run import Chaos

MAX_PENDING = 200
STOP = 900

SOURCE = ["open", "emit", "emitted", "acked"]
HALVES = ["halves-prepare", "halves", "encode", "between", "behind", "halves-flush", "halves-finish"]
SINK = ["sink-prepare", "before-write", "after-write", "sink-flush", "sink-finish", "sink-close"]
WITHOUT_RECORD = {"open", "close", "prepare", "flush", "finish"}


def fault(point: str, do: str, n: int, times: int = 1) -> dict[str, object]:
    n = 0 if point.rpartition("-")[2] in WITHOUT_RECORD else n
    return {"at": point, "do": do, "n": n, "times": times}


def run(chaos: Chaos, *faults: dict[str, object], deaths: int | None = None) -> Tracks:
    """Run to the end with these faults; each must have happened."""
    chaos.start(stop=STOP, faults=faults)
    code = chaos.finish()
    assert code == 0, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    assert len(list(chaos.tracks.glob("fault-*"))) == sum(int(str(each["times"])) for each in faults)
    expected = len(faults) if deaths is None else deaths
    assert len(chaos.reports[-1]["notes"]) == expected, chaos.reports[-1]["notes"]
    check(found, chaos.reports, deaths=expected, max_pending=MAX_PENDING)
    assert found.end == STOP
    return found


@pytest.mark.chaos
@pytest.mark.parametrize("point", [*SOURCE, *HALVES, *SINK])
def test_killed(chaos: Chaos, point: str) -> None:
    run(chaos, fault(point, "kill", 300))


@pytest.mark.parametrize(
    "points",
    [
        ("emit", "between", "after-write"),
        ("emitted", "behind", "before-write"),
        ("acked", "encode", "sink-flush"),
        ("open", "halves-prepare", "sink-finish"),
        ("halves-finish", "sink-close"),
    ],
    ids="+".join,
)
def test_several_killed(chaos: Chaos, points: tuple[str, ...]) -> None:
    run(chaos, *(fault(point, "kill", 300) for point in points))


@pytest.mark.parametrize("do", ["segfault", "exit", "memory"])
def test_other_ways_to_die(chaos: Chaos, do: str) -> None:
    run(chaos, fault("between", do, 300), fault("before-write", do, 500))
