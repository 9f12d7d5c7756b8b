"""`Batch`: when batches run, and what becomes of each tuple."""

from collections.abc import Sequence
from typing import Any

import pytest

from rainband import BatchBolt, Reject, Tuple
from rainband.batching import Batch
from rainband.testing import Clock


class Sink:
    def __init__(self) -> None:
        self.acked: list[int] = []
        self.failed: list[tuple[int, str]] = []
        self.rejected: list[int] = []

    def ack(self, tup: Tuple) -> None:
        self.acked.append(tup["n"])

    def fail(self, tup: Tuple, reason: str = "error", retry: bool = True) -> None:
        self.failed.append((tup["n"], reason))
        if not retry:
            self.rejected.append(tup["n"])


class Noted(BatchBolt):
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def process_batch(self, tuples: Sequence[Tuple]) -> Any:
        self.batches.append([tup["n"] for tup in tuples])
        for tup in tuples:
            if tup["n"] < 0:
                raise ValueError(tup["n"])
            if tup["n"] == 7:
                self.fail(tup, "seven")
            if tup["n"] == 8:
                self.ack(tup)
        if isinstance(tuples, list):
            tuples.clear()
        return "nonsense" if self.batches[-1] == [99] else None


class Rig:
    def __init__(self, size: int = 3, interval_s: float = 1.0, bolt: Noted | None = None) -> None:
        self.clock = Clock()
        self.bolt = Noted() if bolt is None else bolt
        self.sink = Sink()
        self.bolt._attach(self.sink)
        self.batch = Batch(self.bolt, size, interval_s, self.clock)

    def add(self, *numbers: int, attempt: int = 1) -> list[Tuple]:
        made = [Tuple([n], ["n"], attempt=attempt) for n in numbers]
        for tup in made:
            self.batch.add(tup)
        return made


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_full_batch_runs_and_is_acked_whole(rig: Rig) -> None:
    rig.add(1, 2)
    assert rig.bolt.batches == []
    rig.add(3)
    assert rig.bolt.batches == [[1, 2, 3]]
    assert rig.sink.acked == [1, 2, 3]
    assert len(rig.batch) == 0


def test_the_deadline_counts_from_the_first_tuple(rig: Rig) -> None:
    assert rig.batch.timer() is None
    rig.add(1)
    rig.clock.advance(0.75)
    rig.add(2)
    assert rig.batch.timer() == pytest.approx(0.25)
    rig.clock.advance(0.25)
    assert rig.batch.timer() is None
    assert rig.bolt.batches == [[1, 2]]
    rig.add(3)
    assert rig.batch.timer() == pytest.approx(1.0)


def test_a_full_batch_takes_the_deadline_along(rig: Rig) -> None:
    rig.add(1, 2, 3)
    assert rig.batch.timer() is None


def test_all_fail_when_it_raises_and_the_error_comes_out(rig: Rig) -> None:
    rig.add(1, 2)
    with pytest.raises(ValueError, match="-5"):
        rig.add(-5)
    assert rig.sink.acked == []
    assert rig.sink.failed == [(1, "ValueError(-5)"), (2, "ValueError(-5)")]  # the core fails the one in hand
    rig.add(4)
    assert len(rig.batch) == 1


def test_a_second_attempt_runs_alone_and_leaves_the_others_waiting(rig: Rig) -> None:
    rig.add(1)
    rig.add(2, attempt=2)
    assert rig.bolt.batches == [[2]]
    assert rig.sink.acked == [2]
    assert len(rig.batch) == 1


def test_what_the_user_settles_himself_is_not_settled_again(rig: Rig) -> None:
    rig.add(6, 7, 8)
    assert rig.sink.acked == [8, 6]
    assert rig.sink.failed == [(7, "seven")]
    with pytest.raises(ValueError, match="-1"):
        rig.add(7, 8, -1)
    assert rig.sink.failed == [(7, "seven"), (7, "seven")]
    assert rig.sink.acked == [8, 6, 8]


def test_a_returned_value_fails_the_batch() -> None:
    rig = Rig(size=1)
    with pytest.raises(TypeError, match=r"process_batch\(\) returned str; what it returns is not emitted: emit it"):
        rig.add(99)
    assert (rig.sink.acked, rig.sink.failed) == ([], [])  # the core fails the one in hand


def test_flush_runs_what_waits_before_the_users_flush(rig: Rig) -> None:
    rig.add(1)
    assert rig.batch.flush(lambda: list(rig.sink.acked)) == [1]
    assert rig.batch.flush(None) is None


def test_a_tuple_that_timed_out_is_forgotten(rig: Rig) -> None:
    one, two = rig.add(1, 2)
    rig.batch.drop(one)
    rig.add(3)
    assert len(rig.batch) == 2
    rig.batch.drop(two)
    rig.batch.run()
    assert rig.bolt.batches == [[3]]
    [four] = rig.add(4)
    rig.batch.drop(four)
    assert rig.batch.timer() is None


def test_the_core_keeps_the_exception_of_a_failed_batch(rig: Rig) -> None:
    kept: list[tuple[int, BaseException]] = []
    vars(rig.bolt)["_fail_with"] = lambda tup, error: kept.append((tup["n"], error))
    with pytest.raises(ValueError, match="-1") as caught:
        rig.add(1, 2, -1)
    assert kept == [(1, caught.value), (2, caught.value)]
    assert rig.sink.failed == []


class Refuses(Noted):
    def process_batch(self, tuples: Sequence[Tuple]) -> Any:
        raise Reject("no")


def test_a_reject_counts_when_the_tuple_is_alone() -> None:
    rig = Rig(size=2, bolt=Refuses())
    rig.add(1, 2)
    assert rig.sink.failed == [(1, "no (in a batch)"), (2, "no (in a batch)")]
    assert rig.sink.rejected == []
    with pytest.raises(Reject):
        rig.add(1, attempt=2)
    assert rig.sink.rejected == []  # the core rejects the one in hand
    rig.add(3)
    rig.clock.advance(1)
    with pytest.raises(Reject):
        rig.batch.timer()
    assert rig.sink.rejected == [3]
