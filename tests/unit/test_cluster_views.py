"""Membership against a naive model: whatever happens, views are agreed on, deaths are replayed once, nobody is lost."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rainband.cluster import views
from rainband.cluster.views import Activate, GiveUp, Launch, Member, Membership, SendReplay, SendView


def test_examples() -> None:
    assert doctest.testmod(views).failed == 0


def two() -> Membership:
    members = Membership([0, 1], restart_limit=3)
    members.begin(0.0)
    members.bound(0, 1, "a")
    members.bound(1, 1, "b")
    return members


def running() -> Membership:
    members = two()
    members.installed(0, 1, 1)
    members.installed(1, 1, 1)
    assert members.ready(0, 1, 1, 0.0) == []
    assert members.ready(1, 1, 1, 0.0) == [Activate((0, 1))]
    return members


def test_a_death_and_its_replacement() -> None:
    members = running()
    assert members.died(1, 1, "was killed", [(0, 1, 7)], 1.0) == [
        SendView(2, (Member(0, 1, "a"), Member(1, 1, None)), (0,), ((0, 1, 7),), "worker 1 was killed"),
        Launch(1, 2, 1.1),
    ]
    assert members.bound(1, 2, "c") == []  # not before the death is confirmed
    assert members.installed(0, 1, 2) == [
        SendReplay(2, "worker 1 was killed", (0,)),
        SendView(3, (Member(0, 1, "a"), Member(1, 2, "c")), (0, 1)),
    ]
    assert members.installed(0, 1, 3) == []
    assert members.installed(1, 2, 3) == []
    assert members.ready(0, 1, 3, 2.0) == []
    assert members.ready(1, 2, 3, 2.0) == [Activate((1,))]


def test_a_death_does_not_wait_for_a_view_to_be_confirmed() -> None:
    members = running()
    members.died(1, 1, "x", [(0, 1, 1)], 1.0)
    assert members.view == 2
    # Nobody is left who could confirm, or has anything to replay.
    assert members.died(0, 1, "y", [(0, 1, 2)], 1.0) == [Launch(0, 2, 1.1)]
    assert members.bound(1, 2, "c") == [SendView(4, (Member(0, 1, None), Member(1, 2, "c")), (1,))]


def test_before_everybody_is_there_nothing_begins() -> None:
    members = Membership([0, 1, 2], restart_limit=3)
    members.begin(0.0)
    assert members.bound(0, 1, "a") == []
    assert members.died(1, 1, "x", (), 0.0) == [Launch(1, 2, 0.1)]
    assert members.bound(2, 1, "c") == []
    assert members.bound(1, 1, "old") == []  # the dead do not speak
    [view] = members.bound(1, 2, "b")
    assert view == SendView(1, (Member(0, 1, "a"), Member(1, 2, "b"), Member(2, 1, "c")), (0, 1, 2))


def test_backoff_and_limit() -> None:
    members = Membership([0], restart_limit=10)
    members.begin(0.0)
    now, waits = 0.0, []
    for incarnation in range(1, 11):
        members.bound(0, incarnation, "a")
        members.installed(0, incarnation, members.view)
        members.ready(0, incarnation, members.view, now)
        launch = members.died(0, incarnation, "x", (), now)[-1]
        assert isinstance(launch, Launch)
        waits.append(round(launch.at - now, 3))
        now = launch.at
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    assert members.died(0, 11, "segfault", (), now) == [
        GiveUp("worker 0 died 11 times in a row, and 10 restarts are allowed: segfault")
    ]


def test_a_worker_that_lived_long_has_a_clean_record() -> None:
    members = running()
    assert members.died(1, 1, "x", (), 1.0)[-1] == Launch(1, 2, 1.1)
    members.installed(0, 1, 2)
    members.bound(1, 2, "c")
    members.installed(0, 1, 3)
    members.installed(1, 2, 3)
    members.ready(1, 2, 3, 5.0)
    assert members.died(1, 2, "x", (), 65.0)[-1] == Launch(1, 3, 65.1)
    assert members.restarts(1) == (1, 3)


@pytest.mark.parametrize(("limit", "text"), [(0, "once"), (1, "2 times in a row")])
def test_texts_of_the_limit(limit: int, text: str) -> None:
    members = Membership([0], restart_limit=limit)
    members.begin(0.0)
    actions = [members.died(0, i, "x", (), 0.0)[-1] for i in range(1, limit + 2)]
    assert actions[-1] == GiveUp(f"worker 0 died {text}, and {limit} restarts are allowed: x")


def test_who_never_was_ready_is_given_up_soon() -> None:
    members = Membership([0, 1], restart_limit=10)
    members.begin(0.0)
    members.died(1, 1, "x", (), 0.0)
    assert members.restarts(1) == (1, 2)
    members.died(1, 2, "x", (), 1.0)
    reason = "worker 1 died 3 times before it was ready; the last time: exited with code 3"
    assert members.died(1, 3, "exited with code 3", (), 2.0) == [GiveUp(reason)]


class Agreement(RuleBasedStateMachine):
    """Workers as a naive model: each has the views that it was sent, confirms them in order, and may die any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.view = 0
        self.sent: dict[tuple[int, int], list[SendView]] = {}  # incarnation → views not yet confirmed
        self.state: dict[int, tuple[int, str]] = {}  # worker → incarnation, "launched" | "bound"
        self.confirmed: dict[tuple[int, int], int] = {}
        self.is_owed = False  # a replay
        self.charged: list[tuple[int, int, int]] = []
        self.active: set[tuple[int, int]] = set()
        self.known: dict[int, int] = {}
        self.live: set[tuple[int, int]] = set()
        self.is_given_up = False

    @initialize(workers=st.integers(1, 4))
    def begin(self, workers: int) -> None:
        self.workers = range(workers)
        self.members = Membership(self.workers, restart_limit=1000)
        self.obey(self.members.begin(0.0))

    def obey(self, actions: list[views.Action]) -> None:
        for action in actions:
            if isinstance(action, Launch):
                assert action.incarnation == self.state.get(action.worker, (0, ""))[0] + 1
                self.state[action.worker] = (action.incarnation, "launched")
            elif isinstance(action, SendView):
                self.take_view(action)
            elif isinstance(action, SendReplay):
                # All live members have confirmed the very view that it is for.
                assert action.view == self.view
                assert all(self.confirmed[each] == self.view for each in self.live)
                assert set(action.to) == {worker for worker, _ in self.live}
                assert self.is_owed
                self.is_owed = False
            elif isinstance(action, Activate):
                fresh = {(worker, self.state[worker][0]) for worker in action.workers}
                assert not fresh & self.active, "activated twice"
                self.active |= fresh
            else:
                # Only start-up deaths give up here; the run is over then.
                assert isinstance(action, GiveUp)
                self.is_given_up = True

    def take_view(self, action: SendView) -> None:
        assert action.view > self.view
        self.view = action.view
        for member in action.members:
            assert member.incarnation >= self.known.get(member.worker, 0)
            self.known[member.worker] = member.incarnation
            is_live = self.state[member.worker] == (member.incarnation, "bound")
            assert (member.endpoint is not None) == is_live
        assert action.to == tuple(m.worker for m in action.members if m.endpoint is not None)
        self.live = {(worker, self.state[worker][0]) for worker in action.to}
        for worker in action.to:
            self.sent.setdefault((worker, self.state[worker][0]), []).append(action)
        self.charged += action.suspects

    @precondition(lambda self: any(state == "launched" for _, state in self.state.values()))
    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([w for w, (_, state) in self.state.items() if state == "launched"]))
        incarnation, _ = self.state[worker]
        self.state[worker] = (incarnation, "bound")
        self.obey(self.members.bound(worker, incarnation, f"{worker}.{incarnation}"))

    @precondition(lambda self: any(self.sent.values()))
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, waiting in self.sent.items() if waiting)))
        view = self.sent[key].pop(0).view
        self.confirmed[key] = view
        self.obey(self.members.installed(*key, view))
        self.obey(self.members.ready(*key, view, self.now))

    @precondition(lambda self: not self.is_given_up)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.state)))
        incarnation, _ = self.state[worker]
        was_member = any(
            (m.worker, m.incarnation) == (worker, incarnation) and m.endpoint for m in self.members.members
        )
        self.sent.pop((worker, incarnation), None)
        self.state[worker] = (incarnation, "dead")
        self.live.discard((worker, incarnation))
        self.now += 100.0
        self.is_owed |= was_member
        suspect = (worker, incarnation, 1)
        self.obey(self.members.died(worker, incarnation, "x", [suspect], self.now))
        if not self.live:
            self.is_owed = False  # nobody is left who could replay
        elif was_member and not self.is_given_up:
            assert self.charged.count(suspect) == 1, "told with the view of its death"

    @rule()
    def wait(self) -> None:
        self.now += 1.0

    @invariant()
    def settles(self) -> None:
        """If all is bound and confirmed, everybody is in the view, nothing is owed, and all are active."""
        if (
            self.is_given_up
            or not self.state
            or any(state != "bound" for _, state in self.state.values())
            or any(self.sent.values())
        ):
            return
        assert {(m.worker, m.incarnation) for m in self.members.members if m.endpoint is not None} == {
            (worker, incarnation) for worker, (incarnation, _) in self.state.items()
        }
        assert not self.is_owed
        assert {(worker, incarnation) for worker, (incarnation, _) in self.state.items()} <= self.active


Agreement.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAgreement = Agreement.TestCase
