"""Dead letters: ENGINE 2.5, on the real engine. What cannot be written and when a letter is durable: test_state.py."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from rig import Notes, Numbers, Quiet

from rainband import DEAD_LETTER, DROP, Bolt, Failure, Reject, Spout, TaskContext, Tuple, codec, retry, spout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig import Rig

FIELDS = ["component", "stream", "values", "id", "reason", "error", "attempts", "at"]


def letters(rig: Rig) -> list[dict[str, Any]]:
    path = rig.state / "dead_letters.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Fails(Bolt):
    def process(self, n: Any) -> None:
        raise ValueError(n)


def test_without_a_subscriber_letters_go_to_the_file(rig: Rig) -> None:
    """ENGINE 2.5: a JSON line with component, stream, values, id, reason, error, attempts and time."""
    notes = Notes()
    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Numbers, 3, notes=notes))
    topology.bolt("fails", Fails, inputs="numbers")
    report = rig.run(topology)
    rows = sorted(letters(rig), key=lambda row: int(row["id"]))
    assert [sorted(row) for row in rows] == [sorted([*FIELDS, "replayable"])] * 3
    assert [(row["component"], row["stream"], row["values"], row["id"]) for row in rows] == [
        ("numbers", "default", [n], n) for n in (1, 2, 3)
    ]
    assert {(row["reason"], row["attempts"], row["replayable"]) for row in rows} == {("error", 2, True)}
    assert rows[0]["error"] == "fails task 1: ValueError(1)"
    assert sorted(n for n, _ in notes.dead) == [1, 2, 3]
    assert report.dead_letter_file == str(rig.state / "dead_letters.jsonl")


class Takes(Bolt):
    """Subscribed to `dead_letter`; fails the letters of the ids in `refused`."""

    def __init__(self, taken: list[dict[str, Any]], refused: set[int]) -> None:
        self.taken = taken
        self.refused = refused

    def process(
        self,
        component: str,
        stream: str,
        values: tuple[Any, ...],
        id: Any,  # noqa: A002
        reason: str,
        error: str,
        attempts: int,
        at: Any,
    ) -> None:
        if id in self.refused:
            raise RuntimeError(id)
        row = (component, stream, values, id, reason, error, attempts, at)
        self.taken.append(dict(zip(FIELDS, row, strict=True)))


def test_a_subscriber_of_dead_letter_gets_them_before_they_are_resolved(rig: Rig) -> None:
    """ENGINE 2.5: the stream `dead_letter` of the spout carries it; the root is dead when the letter is acked."""
    taken: list[dict[str, Any]] = []
    taken_at_dead: list[bool] = []
    notes = Notes()

    class Watched(Numbers):
        def dead(self, id: int, failure: Failure) -> None:  # noqa: A002
            super().dead(id, failure)
            taken_at_dead.append(id in [row["id"] for row in taken])

    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Watched, 3, notes=notes))
    topology.bolt("fails", Fails, inputs="numbers")
    topology.bolt("takes", partial(Takes, taken, set()), inputs="numbers.dead_letter")
    report = rig.run(topology)
    assert letters(rig) == []
    assert taken_at_dead == [True, True, True]
    assert [(row["component"], row["stream"], row["reason"]) for row in taken] == [("numbers", "default", "error")] * 3
    assert sorted((row["id"], row["values"]) for row in taken) == [(1, (1,)), (2, (2,)), (3, (3,))]
    assert {row["attempts"] for row in taken} == {2}
    assert {failure.reason for _, failure in notes.dead} == {"error"}
    roots = report.components["numbers"].roots
    assert (roots.dead, roots.acked, report.dead_letters) == (3, 0, 3)


def test_a_letter_that_its_subscriber_fails_goes_to_the_file(rig: Rig) -> None:
    """ENGINE 2.5: a letter that fails for good is written with the values and the reason of the tuple that died."""
    taken: list[dict[str, Any]] = []
    notes = Notes()
    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Numbers, 3, notes=notes))
    topology.bolt("fails", Fails, inputs="numbers")
    topology.bolt("takes", partial(Takes, taken, {2}), inputs="numbers.dead_letter")
    report = rig.run(topology)
    assert sorted(row["id"] for row in taken) == [1, 3]
    [row] = letters(rig)
    assert (row["id"], row["stream"], row["values"], row["reason"]) == (2, "default", [2], "error")
    assert row["error"] == "fails task 1: ValueError(2)"
    assert report.components["numbers"].roots.dead == 3
    assert sorted((n, failure.error) for n, failure in notes.dead) == [(n, f"ValueError({n})") for n in (1, 2, 3)]


@pytest.mark.parametrize("verdict", [retry(after_s=0.0), DROP, DEAD_LETTER, None])
def test_fail_is_not_asked_about_a_letter(rig: Rig, verdict: Any) -> None:
    """ENGINE 2.5: its root was given up already; a letter that its subscriber fails goes to the file, unasked."""
    notes = Notes()
    attempts: list[int] = []

    class Says(Numbers):
        def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
            super().fail(id, failure)
            return DEAD_LETTER if failure.component == "refuses" else verdict

    class Refuses(Bolt):
        def process(self, tup: Tuple) -> None:
            attempts.append(tup.attempt)
            if tup.attempt == 1:
                raise Reject("no")

    topology = rig.topology()
    topology.spout("numbers", partial(Says, 1, notes=notes))
    topology.bolt("refuses", Refuses, inputs="numbers")
    topology.bolt("takes", partial(Takes, [], {1}), inputs="numbers.dead_letter")
    report = rig.run(topology)
    assert attempts == [1]
    assert [failure.component for _, failure in notes.failed] == ["refuses"]
    assert [(n, failure.reason) for n, failure in notes.dead] == [(1, "rejected")]
    found = [(row["id"], row["values"], row["reason"], row["attempts"]) for row in letters(rig)]
    assert found == [(1, [1], "rejected", 1)]  # the letter's own delivery is no attempt at the tuple
    assert [failure.attempt for _, failure in notes.dead] == [1]
    assert report.components["numbers"].roots.dead == 1


def test_spout_functions_have_dead_letters_too(rig: Rig) -> None:
    """ENGINE 2.5: every spout has the stream `dead_letter`, also one that is a generator; ids are its numbers."""
    taken: list[dict[str, Any]] = []

    @spout(outputs=["n"])
    def numbers() -> Iterator[str]:
        yield from ("a", "b", "c")

    class Picky(Bolt):
        def process(self, n: str) -> None:
            if n == "b":
                raise Reject("no b")

    topology = rig.topology()
    topology.spout("numbers", numbers)
    topology.bolt("picky", Picky, inputs="numbers")
    topology.bolt("takes", partial(Takes, taken, set()), inputs="numbers.dead_letter")
    report = rig.run(topology)
    assert [(row["values"], row["id"], row["reason"], row["attempts"]) for row in taken] == [(("b",), 1, "rejected", 1)]
    assert (report.components["numbers"].roots.acked, report.dead_letters) == (2, 1)


def test_roots_of_bolts_go_to_the_file(rig: Rig) -> None:
    """ENGINE 2.5: what `tick`, `flush` and `finish` emitted and nobody could process is in the file, without an id."""

    class Speaks(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.002

        def prepare(self, context: TaskContext) -> None:
            self.has_ticked = False

        def process(self, n: int) -> None: ...

        def tick(self) -> None:
            if not self.has_ticked:
                self.has_ticked = True
                ticked.append(1)
                self.emit("tick")

        def flush(self) -> None:
            self.emit("flush")

        def finish(self) -> None:
            self.emit("finish")

    class Slow(Numbers):
        def next_tuple(self) -> None:
            if ticked:
                super().next_tuple()

    ticked: list[int] = []
    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Slow, 1))
    topology.bolt("speaks", Speaks, inputs="numbers")
    topology.bolt("fails", Fails, inputs="speaks")
    report = rig.run(topology)
    rows = letters(rig)
    assert {row["values"][0] for row in rows} == {"tick", "flush", "finish"}
    assert {(row["component"], row["id"], row["attempts"]) for row in rows} == {("speaks", None, 2)}
    assert report.components["speaks"].roots.dead == len(rows)


def test_an_untracked_tuple_is_no_root(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """ENGINE 2.5: emitted without id, it fails once: counted and logged, never replayed, in no letter."""
    notes = Notes()
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 4, notes=notes, tracked=False))
    topology.bolt("fails", Fails, inputs="numbers")
    report = rig.run(topology)
    assert report.components["fails"].failed == {"error": 4}
    assert report.components["fails"].roots.untracked_failed == 4
    assert report.components["numbers"].roots.emitted == 0
    assert "the tuple is untracked and gone" in caplog.text
    assert letters(rig) == []
    assert (notes.acked, notes.failed, notes.dead) == ([], [], [])


def test_dead_calls_ack_by_default(rig: Rig) -> None:
    """ENGINE 2.5: a spout that does not override `dead` is told by `ack`, once per root."""
    acked: list[int] = []

    class Plain(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            self.emit(1, id=1)
            self.emit(2, id=2)
            self.end()

        def ack(self, id: int) -> None:  # noqa: A002
            acked.append(id)

    class Picky(Bolt):
        def process(self, n: int) -> None:
            if n == 1:
                raise Reject("no")

    topology = rig.topology()
    topology.spout("plain", Plain)
    topology.bolt("picky", Picky, inputs="plain")
    report = rig.run(topology)
    assert sorted(acked) == [1, 2]
    assert (report.components["plain"].roots.acked, report.components["plain"].roots.dead) == (1, 1)


def test_values_that_json_cannot_say_are_written_as_their_repr(rig: Rig) -> None:
    """ENGINE 2.5: beside it the bytes of the codec; what that refuses says `replayable: false`; ids likewise."""

    class Odd(Spout):
        outputs = ["n", "m"]

        def next_tuple(self) -> None:
            self.emit({1, 2}, "text", id=object)
            self.emit({1, 2}, "text", id=b"encoded")
            self.emit([1, None, {"a": 2.5}], "text", id="plain")
            self.end()

    class Refuses(Bolt):
        def process(self, n: Any, m: str) -> None:
            raise Reject("no")

    topology = rig.topology()
    topology.spout("odd", Odd)
    topology.bolt("refuses", Refuses, inputs="odd")
    rig.run(topology)
    rows = {row["id"]: row for row in letters(rig)}
    assert rows["plain"]["values"] == [[1, None, {"a": 2.5}], "text"]
    assert rows["plain"]["replayable"] is True
    assert "encoded" not in rows["plain"]
    assert rows["<class 'object'>"]["values"] == ["{1, 2}", "text"]
    assert rows["<class 'object'>"]["replayable"] is False
    encoded = rows["b'encoded'"]
    assert (encoded["values"], encoded["replayable"]) == (["{1, 2}", "text"], True)
    assert codec.decode(base64.b64decode(encoded["encoded"])) == ({1, 2}, "text")
    assert codec.decode(base64.b64decode(encoded["encoded_id"])) == b"encoded"


def test_letters_of_a_later_run_are_appended(rig: Rig) -> None:
    """ENGINE 2.5: a second run with the same state folder adds its letters to those that are there."""
    for _ in range(2):
        topology = rig.topology(max_attempts=1)
        topology.spout("numbers", partial(Numbers, 2))
        topology.bolt("fails", Fails, inputs="numbers")
        topology.bolt("quiet", Quiet, inputs="numbers")
        rig.run(topology)
    assert sorted(row["id"] for row in letters(rig)) == [1, 1, 2, 2]
