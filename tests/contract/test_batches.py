"""Batch bolts on the real engine: API "BatchBolt", ENGINE 4.7 and 5.1."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rainband import BatchBolt, Bolt, Reject, Spout, TaskContext, Topology, Tuple


class Numbers(Spout):
    outputs = ["n"]

    def __init__(self, stop: int, pause_after: int | None = None) -> None:
        self.n = 0
        self.stop = stop
        self.pause_after = pause_after
        self.paused_until = 0.0

    def next_tuple(self) -> None:
        if self.n == self.pause_after:
            self.pause_after = None
            self.paused_until = time.monotonic() + 0.4
        if time.monotonic() < self.paused_until:
            return
        if self.n >= self.stop:
            self.end()
            return
        self.n += 1
        self.emit(self.n, id=self.n)


class Store(BatchBolt):
    outputs = ["n"]

    def __init__(self, batches: list[list[int]], bad: dict[int, BaseException]) -> None:
        self.batches = batches
        self.bad = bad

    def process_batch(self, tuples: Sequence[Tuple]) -> None:
        self.batches.append([tup["n"] for tup in tuples])
        for tup in tuples:
            if tup["n"] in self.bad:
                raise self.bad[tup["n"]]
        for tup in tuples:
            self.emit(tup["n"], anchors=tup)


class Collect(Bolt):
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def process(self, n: int) -> None:
        self.seen.append(n)


def run(
    tmp_path: Path, spout: Any, bad: dict[int, BaseException], **config: Any
) -> tuple[Any, list[list[int]], list[int]]:
    batches: list[list[int]] = []
    seen: list[int] = []
    made = Topology("t", config={"state_dir": str(tmp_path), "retry_backoff_s": 0.001, "max_attempts": 3})
    made.spout("numbers", spout, outputs=["n"])
    made.bolt("store", lambda: Store(batches, bad), inputs="numbers", outputs=["n"], config=config)
    made.bolt("collect", partial(Collect, seen), inputs="store")
    return made.run(), batches, seen


def test_full_batches_and_the_rest_at_the_flush(tmp_path: Path) -> None:
    begun = time.monotonic()
    report, batches, seen = run(tmp_path, lambda: Numbers(250), {}, batch_size=100, batch_interval_s=30.0)
    assert [len(batch) for batch in batches] == [100, 100, 50]
    assert sorted(seen) == list(range(1, 251))
    assert report.components["numbers"].roots.acked == 250
    assert time.monotonic() - begun < 5  # the flush, not the interval


def test_a_batch_runs_when_its_interval_is_over(tmp_path: Path) -> None:
    report, batches, _ = run(tmp_path, lambda: Numbers(10, pause_after=5), {}, batch_size=100, batch_interval_s=0.05)
    assert batches == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    assert report.latency.max_ms < 300


def test_a_bad_tuple_costs_its_neighbours_one_attempt(tmp_path: Path) -> None:
    report, batches, seen = run(tmp_path, lambda: Numbers(10), {7: ValueError(7)}, batch_size=10)
    assert batches[0] == list(range(1, 11))
    assert sorted(batch[0] for batch in batches[1:]) == sorted([*range(1, 11), 7])
    assert all(len(batch) == 1 for batch in batches[1:])
    assert sorted(seen) == [1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert report.components["numbers"].roots.replays == 11
    assert (report.dead_letters, report.balances) == (1, True)


def test_a_reject_of_a_batch_of_one_needs_no_more_attempts(tmp_path: Path) -> None:
    report, batches, _ = run(tmp_path, lambda: Numbers(1), {1: Reject("no")}, batch_size=1)
    assert len(batches) == 1
    assert report.dead_letters == 1


def test_one_of_a_batch_fails(tmp_path: Path) -> None:
    class Picky(BatchBolt):
        batch_size = 5

        def prepare(self, context: TaskContext) -> None:
            self.refused = False

        def process_batch(self, tuples: Sequence[Tuple]) -> None:
            for tup in tuples:
                if tup["n"] == 3 and not self.refused:
                    self.refused = True
                    self.fail(tup, "not now")

    made = Topology("t", config={"state_dir": str(tmp_path), "retry_backoff_s": 0.001})
    made.spout("numbers", lambda: Numbers(5), outputs=["n"])
    made.bolt("picky", Picky, inputs="numbers")
    report = made.run()
    assert report.components["numbers"].roots.acked == 5
    assert report.components["numbers"].replays == 1
    assert report.counters.get("double_ack", 0) == 0
