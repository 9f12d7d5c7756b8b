"""The audit over workers and the warning about a standstill: who is asked, and what is concluded."""

from __future__ import annotations

import pytest

from rainband import Bolt, Spout, Topology
from rainband.cluster.audit import Audit
from rainband.cluster.messages import Look, Looked, Lose
from rainband.plan import compile_plan
from rainband.standstill import Standstill, standstill_text

OWNED = [0, 1, 77]
OTHER = [3, 1, 78]


class Asked:
    """An audit of two workers, of which the first owns `OWNED` and the second `OTHER`."""

    def __init__(self) -> None:
        self.audit = Audit(8.0)
        self.now = 0.0
        self.audit.note(0, [OWNED])
        self.audit.note(1, [OTHER])

    def ask(self) -> int:
        """Begin a round; the number of its first question."""
        self.now += 1.0
        sent = self.audit.begin(self.now, [0, 1])
        request = sent[0][1]
        assert isinstance(request, Look)
        assert sent == [(0, Look(request.request, [OWNED, OTHER])), (1, Look(request.request, [OWNED, OTHER]))]
        return request.request

    def round(self, found: list[int], *, moves: tuple[int | None, int | None] = (5, 5)) -> list[tuple[int, Lose]]:
        """A whole round in which worker 1 finds these and says these numbers; what is said of it."""
        request = self.ask()
        assert self.audit.hear(0, Looked(request, [], 9)) == []
        again = self.audit.hear(1, Looked(request, found, moves[0]))
        if moves[0] is None:
            assert again == []
            return []
        assert [worker for worker, _ in again] == [0, 1]
        second = again[0][1]
        assert isinstance(second, Look)
        assert second.request != request
        assert self.audit.hear(1, Looked(second.request, [], moves[1])) == []
        said = self.audit.hear(0, Looked(second.request, [], 9))
        return [(worker, message) for worker, message in said if isinstance(message, Lose)]


def test_what_nobody_has_in_three_rounds_is_lost() -> None:
    asked = Asked()
    assert asked.round([1]) == []
    assert asked.round([1]) == []
    assert asked.round([1]) == [(0, Lose([OWNED]))]


def test_each_owner_is_told_of_its_own() -> None:
    asked = Asked()
    asked.round([])
    asked.round([])
    assert asked.round([]) == [(0, Lose([OWNED])), (1, Lose([OTHER]))]


@pytest.mark.parametrize(
    "between", [{"found": [0, 1]}, {"found": [], "moves": (5, 6)}, {"found": [], "moves": (None, 5)}]
)
def test_the_rounds_follow_each_other(between: dict[str, object]) -> None:
    """A round in which it is found, something moves or somebody is busy begins the count anew."""
    asked = Asked()
    asked.round([1])
    asked.round([1])
    assert asked.round(**between) == []  # type: ignore[arg-type]
    assert asked.round([1]) == []
    assert asked.round([1]) == []
    assert asked.round([1]) == [(0, Lose([OWNED]))]


def test_a_death_begins_the_count_anew_and_late_answers_are_nothing() -> None:
    asked = Asked()
    asked.round([])
    asked.round([])
    request = asked.ask()
    asked.audit.forget(1)
    assert asked.audit.hear(0, Looked(request, [], 9)) == []
    assert asked.audit.hear(1, Looked(request, [], 5)) == []
    asked.audit.note(1, [OTHER])
    assert asked.round([]) == []


def test_who_does_not_answer_is_waited_for_a_while() -> None:
    asked = Asked()
    asked.round([])
    asked.round([])
    asked.ask()
    assert asked.audit.begin(asked.now + 1.5, [0, 1]) == []
    asked.now += 2.0
    assert asked.round([]) == []  # of which this is the first


def test_rounds_keep_their_distance_and_need_old_roots() -> None:
    audit = Audit(8.0)
    assert audit.begin(1.0, [0, 1]) == []
    audit.note(0, [OWNED])
    assert audit.begin(1.9, [0, 1]) == []
    assert len(audit.begin(2.0, [0, 1])) == 2


# -- standstill --------------------------------------------------------------------------------------------------------


def test_a_standstill_is_told_once_after_five_seconds() -> None:
    standstill = Standstill()
    standstill.note(0, (True, 10, []))
    standstill.note(1, (False, 20, [(4, 3), (2, 1)]))
    assert standstill.look(1.0) == []
    assert standstill.look(5.9) == []
    assert standstill.look(6.0) == [(2, 1), (4, 3)]
    assert standstill.look(20.0) == []


@pytest.mark.parametrize("now", [(True, 11, []), (False, 10, [])])
def test_whatever_moves_is_no_standstill(now: tuple[bool, int, list[tuple[int, int]]]) -> None:
    standstill = Standstill()
    standstill.note(0, (True, 10, []))
    standstill.note(1, (False, 20, [(4, 3)]))
    standstill.look(1.0)
    standstill.note(0, now)
    assert standstill.look(6.0) == []
    standstill.note(0, (True, now[1], []))
    assert standstill.look(7.0) == []
    assert standstill.look(10.0) == []


def test_a_death_is_no_standstill() -> None:
    standstill = Standstill()
    standstill.note(0, (True, 10, []))
    standstill.note(1, (False, 20, [(4, 3)]))
    standstill.look(1.0)
    standstill.forget(1)
    assert standstill.look(6.0) == []


class Numbers(Spout):
    outputs = ["n"]

    def next_tuple(self) -> None: ...


class Join(Bolt):
    def process(self, n: object) -> None: ...


def test_the_warning_names_the_tasks() -> None:
    topology = Topology("t")
    topology.spout("numbers", Numbers)
    topology.bolt("join", Join, inputs="numbers", parallelism=2)
    text = standstill_text(compile_plan(topology, {}), [(1, 3), (2, 4)])
    assert 'hold all that is pending: "join" task 1 (3), "join" task 2 (4); raise max_pending' in text
