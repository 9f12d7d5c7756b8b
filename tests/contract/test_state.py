"""ENGINE 2.5 and 3.1 on the real engine: positions across runs, dead letters before their root is resolved."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import is_caused_by

from rainband import At, Bolt, Reject, RunError, Spout, StateError, TaskContext, Topology, Tuple, bolt, spout


class Numbers(Spout):
    """Emits start..stop with positions; goes on where an earlier run ended."""

    outputs = ["n"]

    def __init__(self, stop: int, resolved: list[tuple[str, int]]) -> None:
        self.stop = stop
        self.resolved = resolved

    def open(self, context: TaskContext) -> None:
        self.n = context.position or 0

    def next_tuple(self) -> None:
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        self.emit(self.n, id=self.n, position=self.n)

    def ack(self, id: int) -> None:  # noqa: A002
        self.resolved.append(("ack", id))

    def dead(self, id: int, failure: Any) -> None:  # noqa: A002
        self.resolved.append(("dead", id))


def topology(component: Any, resolved: list[tuple[str, int]], state: Path, stop: int = 20, **config: Any) -> Topology:
    made = Topology("t", config={"state_dir": str(state), "retry_backoff_s": 0.001, **config})
    made.spout("numbers", lambda: Numbers(stop, resolved), outputs=["n"])
    made.bolt("work", component, inputs="numbers")
    return made


@bolt
def take(n: int) -> None: ...


def test_the_next_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    resolved: list[tuple[str, int]] = []
    topology(take, resolved, tmp_path, stop=20).run()
    topology(take, resolved, tmp_path, stop=30).run()
    assert sorted(resolved) == [("ack", n) for n in range(1, 31)]


def test_a_position_does_not_move_past_what_is_pending(tmp_path: Path) -> None:
    class Holds(Bolt):
        """Never acks 7."""

        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            self.held: list[Tuple] = []

        def process(self, n: int, tup: Tuple) -> None:
            if n == 7:
                self.held.append(tup)
            else:
                self.ack(tup)

    resolved: list[tuple[str, int]] = []
    running = topology(Holds, resolved, tmp_path).start()
    while len(resolved) < 19:
        assert running.wait(0.01) is None
    report = running.stop(now=True)
    assert [root.id for root in report.pending_roots] == [7]
    assert report.balances
    stored = json.loads((tmp_path / "positions.json").read_text())
    assert [entry["position"] for entry in stored["positions"]] == [6]
    again: list[tuple[str, int]] = []
    topology(take, again, tmp_path).run()
    assert sorted(again) == [("ack", n) for n in range(7, 21)]


def test_positions_of_a_spout_function(tmp_path: Path) -> None:
    seen: list[int] = []

    @spout(outputs=["n"])
    def numbers(context: TaskContext) -> Iterator[At]:
        for n in range((context.position or 0) + 1, (context.position or 0) + 4):
            yield At(n, n)

    @bolt
    def note(n: int) -> None:
        seen.append(n)

    made = Topology("t", config={"state_dir": str(tmp_path)})
    made.spout("numbers", numbers)
    made.bolt("note", note, inputs="numbers")
    made.run()
    made.run()
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]


def test_a_position_that_cannot_be_stored_stops_the_run(tmp_path: Path) -> None:
    class Odd(Numbers):
        def next_tuple(self) -> None:
            self.emit(1, id=1, position=object())
            self.end()

    made = Topology("t", config={"state_dir": str(tmp_path)})
    made.spout("odd", lambda: Odd(1, []), outputs=["n"])
    made.bolt("take", take, inputs="odd")
    with pytest.raises(RunError, match=r'spout "odd" task index 0: position cannot be stored: type "object" does not'):
        made.run()


def test_a_dead_letter_is_on_disk_before_its_root_is_resolved(tmp_path: Path) -> None:
    resolved: list[tuple[str, int]] = []
    written_at_dead: list[bool] = []

    class Looks(Numbers):
        def dead(self, id: int, failure: Any) -> None:  # noqa: A002
            super().dead(id, failure)
            rows = map(json.loads, (tmp_path / "dead_letters.jsonl").read_text().splitlines())
            written_at_dead.append(id in {row["id"] for row in rows})

    @bolt
    def refuse(n: int) -> None:
        if n % 2:
            raise Reject(f"odd {n}")
        if n == 4:
            raise ValueError(n)

    made = Topology("t", config={"state_dir": str(tmp_path), "retry_backoff_s": 0.001, "max_attempts": 3})
    made.spout("numbers", lambda: Looks(5, resolved), outputs=["n"])
    made.bolt("refuse", refuse, inputs="numbers")
    report = made.run()
    assert sorted(resolved) == [("ack", 2), ("dead", 1), ("dead", 3), ("dead", 4), ("dead", 5)]
    assert written_at_dead == [True] * 4
    letters = {row["id"]: row for row in map(json.loads, (tmp_path / "dead_letters.jsonl").read_text().splitlines())}
    assert {n: (letter["reason"], letter["attempts"]) for n, letter in letters.items()} == {
        1: ("rejected", 1),
        3: ("rejected", 1),
        4: ("error", 3),
        5: ("rejected", 1),
    }
    assert "odd 1" in letters[1]["error"]
    assert report.dead_letters == 4
    assert report.dead_letter_file == str(tmp_path / "dead_letters.jsonl")
    assert report.balances


def test_a_dead_letter_that_cannot_be_written_stops_the_run_and_its_root_stays_pending(tmp_path: Path) -> None:
    (tmp_path / "dead_letters.jsonl").mkdir()

    @bolt
    def refuse(n: int) -> None:
        raise Reject("no")

    resolved: list[tuple[str, int]] = []
    with pytest.raises(RunError, match=r"a dead letter cannot be written to .*: Is a directory") as caught:
        topology(refuse, resolved, tmp_path, stop=1).run()
    assert is_caused_by(caught.value, StateError)
    assert resolved == []
    report = caught.value.report
    assert report is not None
    assert (report.pending, report.dead_letters, report.balances) == (1, 0, True)
    (tmp_path / "dead_letters.jsonl").rmdir()
    topology(take, resolved, tmp_path, stop=1).run()
    assert resolved == [("ack", 1)]


def test_two_runs_with_one_folder_are_refused(tmp_path: Path) -> None:
    class Endless(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None: ...

    made = Topology("t", config={"state_dir": str(tmp_path)})
    made.spout("endless", Endless)
    made.bolt("take", take, inputs="endless")
    running = made.start()
    with pytest.raises(StateError, match="is in use by another run"):
        made.start()
    running.stop()
