"""Reports: every count of a snapshot arrives, the table is aligned, JSON is JSON."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from rainband.report import Latency, Report, Roots

SNAPSHOT: dict[str, Any] = {
    "state": "stopped",
    "uptime_s": 61.25,
    "components": [
        {
            "name": "lines",
            "kind": "spout",
            "executed": 0,
            "emitted": 1_234_567,
            "delivered": 1_234_567,
            "acked": 0,
            "failed": {},
            "queue": 0,
            "queue_capacity": 0,
            "in_flight": 0,
            "process_ns": 2_500_000_000,
            "roots": {
                "emitted": 1_234_500,
                "acked": 1_234_400,
                "dead": 50,
                "dropped": 20,
                "pending": 30,
                "replays": 71,
                "untracked_failed": 1,
            },
        },
        {
            "name": "count",
            "kind": "bolt",
            "executed": 77,
            "emitted": 5,
            "delivered": 10,
            "acked": 60,
            "failed": {"error": 16, "timeout": 1},
            "queue": 3,
            "queue_capacity": 1024,
            "in_flight": 2,
            "process_ns": 5,
            "new_key": 1,
        },
    ],
    "latency_ns": {"count": 3, "p50": 1_500_000, "p90": 2_000_000, "p99": 3_000_000, "max": 4_000_000},
    "counters": {"double_ack": 2, "late_ack": 0, "lost": 0},
}
PENDING: list[Any] = [("lines", 0, {1}, 2, 0.5, False)] + [("lines", 0, n, 1, 1.0, False) for n in range(7)]


def report() -> Report:
    return Report.of(
        "wordcount",
        SNAPSHOT,
        pending=PENDING,
        dead_letter_file="/state/dead.jsonl",
        user_counters={"count": {"misses": 4}},
        notes=["lines has no positions: what is pending is gone"],
    )


def test_everything_arrives() -> None:
    lines, count = report().components.values()
    assert (lines.executed, lines.emitted, lines.acked, lines.process_s) == (1_234_567, 1_234_567, 1_234_400, 2.5)
    assert lines.roots == Roots(1_234_500, 1_234_400, 50, 20, 30, 71, 1)
    assert lines.replays == 71
    assert (count.executed, count.emitted, count.delivered, count.acked) == (77, 5, 10, 60)
    assert (count.queue, count.queue_capacity, count.in_flight) == (3, 1024, 2)
    assert (count.failed, count.failures, count.counters) == ({"error": 16, "timeout": 1}, 17, {"misses": 4})
    assert (report().pending, report().dead_letters, report().balances) == (30, 50, True)
    assert report().latency == Latency(3, 1.5, 2.0, 3.0, 4.0)
    assert report().pending_roots[0].id == {1}


def test_the_table() -> None:
    assert str(report()).splitlines() == [
        'topology "wordcount" stopped after 61.2 s',
        "",
        "component  kind    executed    emitted      acked  failed  replays  dead  pending",
        "lines      spout  1 234 567  1 234 567  1 234 400       0       71    50       30",
        "count      bolt          77          5         60      17        0     0        0",
        "",
        "latency: p50 1.50 ms, p90 2.00 ms, p99 3.00 ms, max 4.00 ms (3 roots acked)",
        "failed in count: error 16, timeout 1",
        "counted in count: misses 4",
        "dead letters: 50, in /state/dead.jsonl",
        (
            "pending: 30: {1} of lines (attempt 2, 0.5 s), 0 of lines (attempt 1, 1.0 s), "
            "1 of lines (attempt 1, 1.0 s), 2 of lines (attempt 1, 1.0 s), 3 of lines (attempt 1, 1.0 s) and 25 more"
        ),
        "engine: double_ack 2",
        "lines has no positions: what is pending is gone",
    ]


def test_json() -> None:
    found = json.loads(report().json())
    assert found["topology"] == "wordcount"
    assert found["components"]["count"]["failed"] == {"error": 16, "timeout": 1}
    row = {"component": "lines", "task": 0, "id": "{1}", "attempt": 2, "age_s": 0.5, "comes_again": False}
    assert found["pending_roots"][0] == row
    assert (found["pending"], found["dead_letters"], found["balances"]) == (30, 50, True)


def test_ids_of_users_are_not_copied() -> None:
    lock = threading.Lock()
    snapshot = {"state": "stopped", "uptime_s": 1, "components": []}
    made = Report.of("t", snapshot, pending=[("lines", 0, lock, 1, 0.5, False)])
    assert json.loads(made.json())["pending_roots"][0]["id"] == repr(lock)


def test_a_short_snapshot() -> None:
    made = Report.of("t", {"state": "running", "uptime_s": 0, "components": [{"name": "a", "kind": "bolt"}]})
    assert made.components["a"].executed == 0
    assert str(made).splitlines()[-1] == "latency: no root acked"


def test_an_account_that_does_not_balance_is_said() -> None:
    row = {"name": "a", "kind": "spout", "emitted": 3, "roots": {"emitted": 3, "acked": 1, "pending": 1}}
    made = Report.of("t", {"state": "ended", "uptime_s": 1, "components": [row]})
    assert not made.balances
    assert "the account does not balance: this is an error of the engine" in str(made)
    # While the run goes on, the counts of tasks are read one after the other and need not agree.
    assert "does not balance" not in str(Report.of("t", {"state": "running", "uptime_s": 1, "components": [row]}))


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        report().state = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        report().components["a"] = report().components["lines"]  # type: ignore[index]
