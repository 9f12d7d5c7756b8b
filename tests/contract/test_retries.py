"""Retries and verdicts: ENGINE 2.3 and API "Spout.fail", on the real engine."""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from rig import DEADLINE_S, Notes, Numbers, in_one_process, wait_until

from rainband import DEAD_LETTER, DROP, Bolt, Failure, Reject, TaskContext, Tuple, retry

if TYPE_CHECKING:
    from rig import Rig

    from rainband import Run


class Fails(Bolt):
    """Fails the first `times` attempts of each tuple, and notes when it got which attempt."""

    def __init__(self, times: int, came: dict[int, list[tuple[int, float]]]) -> None:
        self.times = times
        self.came = came

    def process(self, n: int, tup: Tuple) -> None:
        self.came.setdefault(n, []).append((tup.attempt, time.monotonic()))
        if tup.attempt <= self.times:
            raise ValueError(n)


class Says(Numbers):
    """Answers each failure with a verdict."""

    def __init__(self, stop: int, notes: Notes, verdict: Any) -> None:
        super().__init__(stop, notes=notes)
        self.verdict = verdict

    def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
        super().fail(id, failure)
        return self.verdict


@pytest.mark.parametrize(("max_attempts", "times"), [(1, 1), (3, 2), (3, 3), (5, 4)])
def test_attempts_are_counted_and_bounded(rig: Rig, max_attempts: int, times: int) -> None:
    """ENGINE 2.3: at most `max_attempts`; the bolt and `fail` see which attempt it is, `dead` comes after the last."""
    notes = Notes()
    came: dict[int, list[tuple[int, float]]] = {}
    topology = rig.topology(max_attempts=max_attempts)
    topology.spout("numbers", partial(Numbers, 10, notes=notes))
    topology.bolt("fails", partial(Fails, times, came), inputs="numbers")
    report = rig.run(topology)
    attempts = min(times + 1, max_attempts)
    is_dead = times >= max_attempts
    assert [[attempt for attempt, _ in came[n]] for n in range(1, 11)] == [list(range(1, attempts + 1))] * 10
    for n in range(1, 11):
        seen = [failure.attempt for number, failure in notes.failed if number == n]
        # `fail` is asked about the last attempt too: it may want to drop the root rather than bury it.
        assert seen == list(range(1, min(times, max_attempts) + 1))
    roots = report.components["numbers"].roots
    assert (
        (roots.acked, roots.dead, roots.replays) == (0, 10, 10 * (attempts - 1))
        if is_dead
        else (
            10,
            0,
            10 * (attempts - 1),
        )
    )
    assert sorted(n for n, _ in notes.dead) == (list(range(1, 11)) if is_dead else [])
    assert sorted(notes.acked) == ([] if is_dead else list(range(1, 11)))


def test_the_backoff_doubles_up_to_its_bound_with_jitter(rig: Rig) -> None:
    """ENGINE 2.3: waits of base x 2^k up to the bound, each off by up to a quarter, so that failures spread."""
    came: dict[int, list[tuple[int, float]]] = {}
    topology = rig.topology(retry_backoff_s=0.02, retry_backoff_max_s=0.06)
    topology.spout("numbers", partial(Numbers, 30))
    topology.bolt("fails", partial(Fails, 4, came), inputs="numbers")
    rig.run(topology)
    waits = [[after[1] - before[1] for before, after in itertools.pairwise(times)] for times in came.values()]
    for at, full in enumerate([0.02, 0.04, 0.06, 0.06]):
        column = [row[at] for row in waits]
        assert min(column) >= full * 0.75 - 0.001
        assert sorted(column)[len(column) // 2] < full * 1.25 + 0.05
        assert max(column) - min(column) > full * 0.05, "no jitter"


@in_one_process("looks at the report within a call; that of workers may be a quarter of a second old")
def test_a_root_in_backoff_keeps_its_place(rig: Rig) -> None:
    """ENGINE 2.3: `max_pending` counts roots that wait for their next attempt, which bounds every retry storm."""
    pending: list[int] = []
    run: list[Run] = []
    started = threading.Event()

    class Looks(Bolt):
        def process(self, n: int) -> None:
            assert started.wait(DEADLINE_S)
            pending.append(run[0].report().components["numbers"].roots.pending)
            raise ValueError(n)

    topology = rig.topology(max_pending=3, max_attempts=2, retry_backoff_s=0.05)
    topology.spout("numbers", partial(Numbers, 12))
    topology.bolt("looks", Looks, inputs="numbers")
    run.append(topology.start())
    started.set()
    report = rig.finish(run[0])
    assert report.components["numbers"].roots.dead == 12
    assert max(pending) == 3
    assert len(pending) == 24


def test_retry_after_says_when(rig: Rig) -> None:
    """ENGINE 2.3: `retry(after_s=…)` replaces the backoff."""
    came: dict[int, list[tuple[int, float]]] = {}
    notes = Notes()
    topology = rig.topology(retry_backoff_s=10.0)
    topology.spout("numbers", partial(Says, 5, notes, retry(after_s=0.03)))
    topology.bolt("fails", partial(Fails, 2, came), inputs="numbers")
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 5
    for times in came.values():
        waits = [after[1] - before[1] for before, after in itertools.pairwise(times)]
        assert all(0.03 <= wait < 2 for wait in waits)


def test_a_long_time_is_waited(rig: Rig) -> None:
    """ENGINE 2.3: a retry in years is not one at once; the root keeps its place until the run is stopped."""
    came: dict[int, list[tuple[int, float]]] = {}
    notes = Notes()
    topology = rig.topology()
    topology.spout("numbers", partial(Says, 1, notes, retry(after_s=1e300)))
    topology.bolt("fails", partial(Fails, 9, came), inputs="numbers")
    running = topology.start()
    wait_until(lambda: notes.failed)
    assert running.wait(0.1) is None
    report = running.stop(now=True)
    assert [attempt for attempt, _ in came[1]] == [1]
    assert report.pending == 1


@pytest.mark.parametrize("verdict", [None, retry(), retry(after_s=0.0)])
def test_attempts_count_whatever_the_verdict(rig: Rig, verdict: Any) -> None:
    """ENGINE 2.3: a spout that always says retry gets `max_attempts` all the same."""
    notes = Notes()
    topology = rig.topology(max_attempts=4)
    topology.spout("numbers", partial(Says, 5, notes, verdict))
    topology.bolt("fails", partial(Fails, 99, {}), inputs="numbers")
    report = rig.run(topology)
    roots = report.components["numbers"].roots
    assert (roots.dead, roots.replays, len(notes.failed)) == (5, 15, 20)


def test_the_verdict_drop_resolves_and_is_counted(rig: Rig) -> None:
    """ENGINE 1.1, 2.3: DROP gives the root up at once, counted apart; neither `ack` nor `dead` is called."""
    notes = Notes()
    topology = rig.topology()
    topology.spout("numbers", partial(Says, 5, notes, DROP))
    topology.bolt("fails", partial(Fails, 99, {}), inputs="numbers")
    report = rig.run(topology)
    roots = report.components["numbers"].roots
    assert (roots.dropped, roots.dead, roots.acked, roots.replays) == (5, 0, 0, 0)
    assert (notes.acked, notes.dead, len(notes.failed)) == ([], [], 5)
    assert report.dead_letter_file is None


def test_the_verdict_dead_letter_needs_no_more_attempts(rig: Rig) -> None:
    """ENGINE 2.3, 2.5: DEAD_LETTER buries the root at its first failure."""
    notes = Notes()
    topology = rig.topology()
    topology.spout("numbers", partial(Says, 5, notes, DEAD_LETTER))
    topology.bolt("fails", partial(Fails, 99, {}), inputs="numbers")
    report = rig.run(topology)
    roots = report.components["numbers"].roots
    assert (roots.dead, roots.replays) == (5, 0)
    assert sorted(n for n, _ in notes.dead) == [1, 2, 3, 4, 5]


def test_a_verdict_that_is_none_is_told_and_the_default_holds(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """ENGINE 2.3: nonsense from `fail`, or an exception in it, costs no tuple."""
    notes = Notes()

    class Odd(Numbers):
        def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
            if id % 2:
                raise KeyError(id)
            return "again"

    topology = rig.topology()
    topology.spout("numbers", partial(Odd, 6, notes=notes))
    topology.bolt("fails", partial(Fails, 1, {}), inputs="numbers")
    report = rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3, 4, 5, 6]
    assert report.components["numbers"].roots.replays == 6
    assert 'spout "numbers" task 0: fail() raised KeyError(1)' in caplog.text
    assert "fail() returned str; a verdict is None, retry(after_s=…), DEAD_LETTER or DROP" in caplog.text


def test_a_reject_costs_one_attempt(rig: Rig) -> None:
    """ENGINE 2.3: `raise Reject` and `fail(retry=False)` go to the dead letters without more attempts."""
    notes = Notes()

    class Rejects(Bolt):
        def process(self, n: int) -> None:
            raise Reject(f"no {n}")

    class Refuses(Bolt):
        auto_ack = False

        def process(self, tup: Tuple) -> None:
            self.fail(tup, "never", retry=False)

    for component, text in ((Rejects, "no 1"), (Refuses, "never")):
        topology = rig.topology()
        topology.spout("numbers", partial(Numbers, 1, notes=notes))
        topology.bolt("refuses", component, inputs="numbers")
        report = rig.run(topology)
        [(_, failure)] = notes.dead
        assert (failure.reason, failure.component, failure.task, failure.attempt) == ("rejected", "refuses", 1, 1)
        assert text in failure.error
        assert report.components["refuses"].failed == {"rejected": 1}
        notes.dead.clear()


def test_a_failure_tells_who_what_and_when(rig: Rig) -> None:
    """ENGINE 2.3: `failure` names the component and task that had the tuple, the attempt, the age and the exception."""
    notes = Notes()
    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Numbers, 1, notes=notes))
    topology.bolt("fails", partial(Fails, 9, {}), inputs="numbers", parallelism=1)
    rig.run(topology)
    first, second = (failure for _, failure in notes.failed)
    assert (first.reason, first.component, first.task, first.attempt) == ("error", "fails", 1, 1)
    assert first.error == "ValueError(1)"
    assert second.attempt == 2
    assert 0 <= first.age_s < second.age_s
    [(_, dead)] = notes.dead
    assert (dead.reason, dead.attempt, dead.error) == ("error", 2, "ValueError(1)")


def test_every_replay_goes_through_the_grouping_again(rig: Rig) -> None:
    """ENGINE 2.3: replays are new attempts of the whole tree, also of branches that had been acked."""
    seen: list[tuple[str, int, int]] = []

    class Sees(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.name = context.component

        def process(self, n: int, tup: Tuple) -> None:
            seen.append((self.name, n, tup.attempt))
            if self.name == "right" and tup.attempt == 1:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 3))
    topology.bolt("left", Sees, inputs="numbers")
    topology.bolt("right", Sees, inputs="numbers")
    rig.run(topology)
    assert sorted(seen) == [(name, n, a) for name in ("left", "right") for n in (1, 2, 3) for a in (1, 2)]


@in_one_process("looks at the identity of objects")
def test_replays_keep_their_values_and_ids_when_values_are_not_hashable(rig: Rig) -> None:
    """ENGINE 2.3: what is replayed is the object that was emitted, ids need be neither unique nor hashable."""
    values = [{"a": [1]}, {"a": [1]}]
    seen: list[int] = []
    acked: list[Any] = []

    class Objects(Numbers):
        def next_tuple(self) -> None:
            for value in values:
                self.emit(value, id=["same"])
            self.end()

        def ack(self, id: Any) -> None:  # noqa: A002
            acked.append(id)

    class Looks(Bolt):
        def process(self, n: Any, tup: Tuple) -> None:
            seen.append(id(n))
            if tup.attempt == 1:
                raise ValueError

    topology = rig.topology()
    topology.spout("objects", partial(Objects, 2))
    topology.bolt("looks", Looks, inputs="objects")
    rig.run(topology)
    assert sorted(seen) == sorted([id(value) for value in values] * 2)
    assert acked == [["same"], ["same"]]


def test_a_spout_may_emit_in_its_hooks_also_after_its_end(rig: Rig) -> None:
    """ENGINE 2.3: `ack`, `fail` and `dead` may emit while something is pending, also after `end`."""
    acked: list[Any] = []
    calls_after_end: list[int] = []

    class Chatty(Numbers):
        is_over = False

        def next_tuple(self) -> None:
            if self.is_over:
                calls_after_end.append(1)
            self.emit(1, id="first")
            self.emit(2, id="second")
            self.end()
            self.is_over = True

        def ack(self, id: Any) -> None:  # noqa: A002
            acked.append(id)
            if id == "first":
                self.emit(3, id="from ack")

        def fail(self, id: Any, failure: Failure) -> Any:  # noqa: A002
            if id == "second":
                self.emit(4, id="from fail")

        def dead(self, id: Any, failure: Failure) -> None:  # noqa: A002
            self.emit(5, id="from dead")

    class Picky(Bolt):
        def process(self, n: int) -> None:
            if n == 2:
                raise ValueError(n)

    topology = rig.topology(max_attempts=1)
    topology.spout("chatty", partial(Chatty, 2))
    topology.bolt("picky", Picky, inputs="chatty")
    report = rig.run(topology)
    assert sorted(acked) == ["first", "from ack", "from dead", "from fail"]
    assert calls_after_end == []
    assert (report.components["chatty"].roots.acked, report.components["chatty"].roots.dead) == (4, 1)


def test_a_storm_of_failures_ends(rig: Rig) -> None:
    """ENGINE 2.3: 2,000 roots that fail in two of five attempts all come through or die, none twice."""
    notes = Notes()

    class Storm(Bolt):
        outputs = ["n"]

        def process(self, n: int, tup: Tuple) -> None:
            if Random(n * 10 + tup.attempt).random() < 0.4:
                raise ValueError(n)
            self.emit(n)

    topology = rig.topology(max_pending=200, max_attempts=3)
    topology.spout("numbers", partial(Numbers, 2000, notes=notes))
    topology.bolt("storm", Storm, inputs="numbers", parallelism=2)
    topology.bolt("again", Storm, inputs="storm", parallelism=2)
    report = rig.run(topology)
    resolved = sorted([*notes.acked, *(n for n, _ in notes.dead)])
    assert resolved == list(range(1, 2001))
    assert report.components["numbers"].roots.dead == len(notes.dead) > 0


def test_replays_go_on_while_the_spout_is_at_max_pending(rig: Rig) -> None:
    """ENGINE 2.3: a spout that may not emit still replays."""
    came: dict[int, list[tuple[int, float]]] = {}
    topology = rig.topology(max_pending=1)
    topology.spout("numbers", partial(Numbers, 20))
    topology.bolt("fails", partial(Fails, 2, came), inputs="numbers")
    running = topology.start()
    wait_until(lambda: len(came) == 20)
    report = rig.finish(running)
    assert report.components["numbers"].roots.replays == 40
