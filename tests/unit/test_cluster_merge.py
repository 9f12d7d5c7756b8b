"""The numbers of several workers as one; those of the dead stay in the account."""

from __future__ import annotations

import doctest
from typing import Any

from rainband import Bolt, Spout, Topology, _core
from rainband.cluster import merge
from rainband.cluster.merge import Account, Shown, pending_rows, read_pending
from rainband.plan import compile_plan
from rainband.report import Report
from rainband.runtime import Runtime


class Lines(Spout):
    outputs = ["line"]

    def next_tuple(self) -> None: ...


class Take(Bolt):
    def process(self, line: str) -> None: ...


def account() -> Account:
    topology = Topology("t")
    topology.spout("lines", Lines, parallelism=2)
    topology.bolt("take", Take, inputs="lines")
    return Account(compile_plan(topology))


def snapshot(emitted: int, acked: int, executed: int, **more: Any) -> dict[str, Any]:
    roots = {"emitted": emitted, "acked": acked, "dead": 1, "pending": emitted - acked - 1}
    lines = {"name": "lines", "kind": "spout", "emitted": emitted, "queue": 5, "queue_capacity": 10, "roots": roots}
    take = {"name": "take", "kind": "bolt", "executed": executed, "failed": {"error": 1}, "held": 2}
    return {"state": "running", "uptime_s": 1.0, "components": [lines, take], "counters": {"lost": 0}} | more


def test_examples() -> None:
    assert doctest.testmod(merge).failed == 0


def test_before_anybody_reports_all_is_zero() -> None:
    report = Report.of("t", account().snapshot("starting", 0.0))
    assert [(c.name, c.kind, c.emitted) for c in report.components.values()] == [
        ("lines", "spout", 0),
        ("take", "bolt", 0),
    ]
    assert report.balances
    assert set(report.counters.values()) == {0}


def test_the_counters_are_those_of_the_engine() -> None:
    topology = Topology("t")
    topology.spout("lines", Lines)
    topology.bolt("take", Take, inputs="lines")
    plan = compile_plan(topology)
    engine: Any = _core.Engine(plan.core, Runtime(plan))
    assert account().snapshot("starting", 0.0)["counters"] == engine.snapshot()["counters"]


def test_counts_are_summed() -> None:
    made = account()
    made.note((0, 1), snapshot(10, 5, 7), {"lines": {"seen": 1}})
    made.note((1, 1), snapshot(100, 50, 70), {"lines": {"seen": 2}, "take": {"kept": 3}})
    made.note((1, 1), snapshot(200, 150, 170), {"lines": {"seen": 4}, "take": {"kept": 3}})
    report = Report.of("t", made.snapshot("running", 2.0), user_counters=made.counters())
    lines, take = report.components.values()
    assert (lines.emitted, lines.roots.acked, lines.roots.pending, lines.roots.gone) == (210, 155, 53, 0)
    assert (lines.queue, lines.queue_capacity) == (10, 20)
    assert (take.executed, take.failed, dict(take.counters), dict(lines.counters)) == (
        177,
        {"error": 2},
        {"kept": 3},
        {"seen": 5},
    )
    assert (report.uptime_s, report.state, report.balances) == (2.0, "running", True)


def test_the_dead_stay_in_the_account() -> None:
    made = account()
    made.note((0, 1), snapshot(10, 5, 7), {}, [("lines", 0, 1, 1, 0.5, False)])
    made.note((1, 1), snapshot(100, 50, 70), {"lines": {"seen": 2}}, [("lines", 1, 2, 1, 0.5, True)])
    made.bury((1, 1))
    made.bury((2, 1))  # that never told anything
    made.note((1, 1), snapshot(100, 60, 70), {"lines": {"seen": 2}})  # its last words came late
    made.note((1, 2), snapshot(3, 2, 1), {"lines": {"seen": 1}})
    report = Report.of("t", made.snapshot("running", 2.0), user_counters=made.counters())
    lines = report.components["lines"]
    assert (lines.emitted, lines.roots.acked, lines.roots.dead) == (113, 67, 3)
    assert (lines.roots.pending, lines.roots.gone, lines.queue) == (4, 39, 10)
    assert lines.counters == {"seen": 3}
    assert report.balances
    assert made.gone() == {(1, 1): {"lines": 39}, (2, 1): {}}
    assert made.pending() == [("lines", 0, 1, 1, 0.5, False)]
    assert "gone with workers that died: 39" in str(report)


def test_the_counts_that_a_dead_worker_left_are_newer_than_its_last_report() -> None:
    made = account()
    made.note((1, 1), snapshot(100, 50, 70), {"lines": {"seen": 2}})
    left = {"emitted": 120, "failed.error": 2, "roots.emitted": 120, "roots.acked": 80, "roots.pending": 40}
    made.bury((1, 1), [{}, left])
    made.bury((2, 1), [{"roots.emitted": 5, "roots.pending": 5}])  # that never told anything
    made.note((1, 1), snapshot(100, 60, 70), {"lines": {"seen": 3}})  # its last words came late
    report = Report.of("t", made.snapshot("running", 2.0), user_counters=made.counters())
    lines = report.components["lines"]
    assert (lines.emitted, lines.failed) == (120, {"error": 2})
    assert (lines.roots.emitted, lines.roots.acked, lines.roots.gone, lines.roots.pending) == (125, 80, 45, 0)
    assert lines.counters == {"seen": 3}
    assert report.balances
    assert made.gone() == {(1, 1): {"lines": 40}, (2, 1): {"lines": 5}}


def test_ids_that_cannot_travel_show_themselves() -> None:
    [[_, _, identity, *_]] = read_pending(pending_rows([("lines", 0, {1, 2}, 1, 0.5, False)]))
    assert identity == Shown("{1, 2}")
    assert repr(identity) == "{1, 2}"
    assert identity != "{1, 2}"
    assert len({identity, Shown("{1, 2}")}) == 1


def test_shares_of_latencies() -> None:
    buckets = merge.merge_latency(
        [
            {"count": 90, "max": 8, "buckets": [[8, 90]]},
            {"count": 10, "max": 900, "buckets": [[512, 5], [1024, 5]]},
        ]
    )
    assert buckets == {"count": 100, "p50": 8, "p90": 8, "p99": 900, "max": 900}
    assert merge.merge_latency([]) == {"count": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0}
