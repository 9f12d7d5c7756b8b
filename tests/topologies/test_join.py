"""The join bolt by itself: what its tuples are anchored to, and attempts that failed while they waited."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from rainband import Tuple
from rainband.testing import BoltHarness

Join: Any = runpy.run_path(str(Path(__file__).parents[2] / "topologies" / "join.py"))["Join"]


def order(number: int, cents: int = 500) -> Tuple:
    return Tuple((number, "ann", cents), ("order", "customer", "cents"), "orders")


def payment(number: int, cents: int = 500, attempt: int = 1) -> Tuple:
    return Tuple((number, cents), ("order", "paid_cents"), "payments", attempt=attempt)


def test_what_leaves_belongs_to_both() -> None:
    join = BoltHarness(Join)
    first, second = join.process(payment(1)), join.process(order(2))
    assert join.held == [first, second]
    third = join.process(order(1))
    assert join.emitted == [(1, "ann", 500, 0)]
    assert join.emissions[0].anchors == (third, first)
    assert join.acked == [third, first]
    assert join.held == [second]


def test_flush_lets_go_of_what_is_alone() -> None:
    join = BoltHarness(Join)
    one, two = join.process(order(1)), join.process(payment(2))
    join.flush()
    assert join.emitted_to("unmatched") == [(1, "orders"), (2, "payments")]
    assert [emission.anchors for emission in join.emissions] == [(one,), (two,)]
    assert join.acked == [one, two]
    assert join.held == []
    join.flush()  # it is run again if replays come after it
    assert len(join.emissions) == 2


def test_a_second_attempt_takes_the_place_of_the_first() -> None:
    join = BoltHarness(Join)
    stale = join.process(payment(1))
    join.fail(stale, "timeout")  # as the engine does after ack_timeout_s
    fresh = join.process(payment(1, attempt=2))
    joined = join.process(order(1))
    assert join.emissions[0].anchors == (joined, fresh)
    assert join.held == []


def test_a_partner_that_timed_out_brings_the_order_back() -> None:
    join = BoltHarness(Join)
    join.fail(join.process(payment(1)), "timeout")
    late = join.process(order(1))  # emit() to the payment's failed attempt raises
    assert [failed.tup for failed in join.failed][1:] == [late]
    assert join.emitted == []
    join.process(order(1))
    join.process(payment(1, attempt=2))
    assert join.emitted == [(1, "ann", 500, 0)]
    assert join.held == []
