"""Deaths at awkward moments on two worker processes, and calls that only seem to be stuck."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mortals
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from rainband import Report, Topology

DEADLINE_S = 40


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(mortals.MARK, str(tmp_path / "mark"))
    return {"state_dir": str(tmp_path / "state")}


def ended(topology: Topology, config: dict[str, str]) -> Report:
    running = topology.start(workers=2, config=config)
    report = running.wait(DEADLINE_S)
    if report is None:
        raise AssertionError(f"the run did not end: {running.stop(now=True)}")
    assert (report.state, report.pending, report.balances, report.counters["lost"]) == ("ended", 0, True, 0)
    return report


def letters(config: dict[str, str]) -> list[dict[str, Any]]:
    from pathlib import Path  # noqa: PLC0415

    files = Path(config["state_dir"]).rglob("dead_letters.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_spout_that_ended_beside_a_bolt_that_dies(config: dict[str, str]) -> None:
    """ENGINE 5.4 for tasks of one worker: no link brings the end again."""
    report = ended(mortals.ended_spout, config)
    assert len(report.notes) == 1
    assert report.components["long"].roots.acked == 120


def test_a_bolt_that_ended_beside_one_that_dies_in_finish(config: dict[str, str]) -> None:
    report = ended(mortals.ended_bolt, config)
    assert report.components["dies"].counters["finished"] == 1


def test_replays_of_more_than_a_frame_holds(config: dict[str, str]) -> None:
    """24 MB fail at once and come again at once; a frame holds 16 MiB."""
    report = ended(mortals.large_replays, config)
    assert report.components["fails"].counters["seen"] == 1200
    assert report.components["large"].roots.acked == 600


@pytest.mark.parametrize("name", ["poison_beside_a_sibling", "poison_among_thousands", "poison_with_its_spout"])
def test_a_poison_is_found_and_nobody_else_pays(name: str, config: dict[str, str]) -> None:
    """ENGINE 2.4: what was in hand is known, whoever was beside it and however long it was in flight."""
    report = ended(getattr(mortals, name), config)
    assert [(letter["id"], letter["reason"]) for letter in letters(config)] == [(mortals.POISON, "crashed")]
    assert len(report.notes) in {2, 3}  # suspected beside others, then alone
    assert report.components["numbers"].roots.dead == 1


def test_a_spout_without_positions_leaves_no_gap_in_the_account(config: dict[str, str]) -> None:
    """ENGINE 1.1, 7.5: what a process emitted right before it died is counted, as acked or as gone."""
    report = ended(mortals.volatile, config)
    roots = report.components["numbers"].roots
    assert roots.emitted == 100 + 150
    assert roots.acked + roots.gone == roots.emitted
    assert report.components["sees"].executed >= roots.acked >= 150


def test_waiting_for_room_is_no_hung_call(config: dict[str, str]) -> None:
    """ENGINE 2.2: a call that emits more than its consumer takes in `execute_timeout_s` is not the user's to blame."""
    report = ended(mortals.waits_for_room, config)
    assert report.notes == ()
    assert report.components["numbers"].roots.acked == 1


def test_a_full_queue_holds_up_nobody_else(config: dict[str, str]) -> None:
    """ENGINE 4.6: what goes to another worker does not wait for room in a queue of this one."""
    report = ended(mortals.one_full_queue, config)
    counters = report.components["late"].counters
    assert (counters["seen"], counters.get("late", 0)) == (100, 0)
