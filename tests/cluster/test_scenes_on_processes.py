"""Scenarios on two worker processes: what tests/contract runs on threads, as far as processes may make a difference."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import scenes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rainband import Report, Topology

DEADLINE_S = 40


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return {"state_dir": str(tmp_path / "state")}


def ended(topology: Topology, config: dict[str, str]) -> Report:
    """The report of a run on two workers that came to its end with nothing lost and nothing pending."""
    running = topology.start(workers=2, config=config)
    report = running.wait(DEADLINE_S)
    if report is None:
        raise AssertionError(f"the run did not end: {running.stop(now=True)}")
    check(report)
    return report


def check(report: Report) -> None:
    assert report.state == "ended"
    assert (report.pending, report.balances, report.counters["lost"]) == (0, True, 0)
    assert report.notes == ()


def wait_until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_every_grouping(config: dict[str, str]) -> None:
    report = ended(scenes.groupings, config)
    counters = {name: dict(each.counters) for name, each in report.components.items()}

    def tasks(component: str) -> list[int]:
        return [counters[component].get(f"task {index}", 0) for index in range(4)]

    def words(component: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for key, count in counters[component].items():
            if key.split()[0] in scenes.WORDS:
                found[key.split()[0]] += count
        return found

    expected = scenes.expected_words()
    for component in ("fields", "global", "local", "custom", "partial"):
        assert words(component) == expected, component
    homes = Counter(key.split()[0] for key in counters["fields"] if key.split()[0] in scenes.WORDS)
    assert set(homes.values()) == {1}, "a word came to two tasks"
    homes = Counter(key.split()[0] for key in counters["partial"] if key.split()[0] in scenes.WORDS)
    assert max(homes.values()) == 2
    assert tasks("all") == [200] * 4
    assert tasks("global") == [200, 0, 0, 0]
    assert tasks("direct") == [50] * 4
    assert counters["local"].get("another process", 0) == 0
    assert counters["all"]["another process"] > 0
    for word, count in expected.items():
        assert counters["custom"][f"{word} {len(word) % 4}"] == count
    assert report.components["words"].roots.acked == 400


def test_bolts_that_hold_join_wait_and_batch(config: dict[str, str]) -> None:
    report = ended(scenes.held, config)
    assert report.components["numbers"].roots.acked == 300
    assert report.components["numbers"].roots.replays == 0
    assert report.components["join"].executed == 600
    assert report.components["batches"].acked == 300
    assert report.components["counts"].executed == 2
    assert report.components["counts"].counters["sum"] == 300 * 301 // 2


def test_a_cycle_ticks_and_untracked_tuples(config: dict[str, str]) -> None:
    report = ended(scenes.loops, config)
    assert report.components["numbers"].roots.acked == 40
    assert report.components["ends"].executed == 40
    ticks = report.components["ticks"].counters["ticks"]
    assert ticks > 0
    assert report.components["of_ticks"].counters["sum"] == ticks + 1000
    assert report.components["ticks"].roots.acked == ticks + 1


def test_failures_and_verdicts(config: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    report = ended(scenes.failures, config)
    numbers = report.components["numbers"]
    assert (numbers.roots.acked, numbers.roots.dead, numbers.roots.dropped) == (20, 10, 10)
    assert dict(numbers.counters) == {"ack": 20, "fail": 40, "dead": 10}
    assert dict(report.components["letters"].counters) == {"numbers error 1": 10}
    assert report.components["refuses"].failed == {"error": 40}
    for hook in ("ack", "fail", "dead", "tick", "flush", "finish", "close"):
        assert f"{hook}() raised OSError('in {hook}')" in caplog.text


def test_values_large_and_such_that_cannot_travel(config: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    report = ended(scenes.values, config)
    assert report.components["looks"].counters["equal"] == 3
    assert report.components["large"].roots.acked == 3
    assert report.components["large"].counters["refused"] == 1
    text = 'EmitError: emit() of "large" task 0 on stream "default": field "value": type "_thread.lock" does not travel'
    assert text in caplog.text


def test_a_pause_and_a_drain(config: dict[str, str]) -> None:
    with scenes.endless.start(workers=2, config=config) as running:

        def counts() -> tuple[int, int]:
            components = running.report().components
            return components["numbers"].emitted, components["counts"].acked

        wait_until(lambda: min(counts()) > 100)  # both workers have reported
        running.deactivate()
        time.sleep(0.6)  # two reports
        wait_until(lambda: counts()[0] == counts()[1])
        before = counts()
        time.sleep(0.6)
        assert counts() == before
        running.activate()
        wait_until(lambda: counts()[0] > before[0])
        report = running.stop()
    check(report)
    assert report.components["numbers"].roots.acked == report.components["counts"].acked


def test_a_drain_by_duration(config: dict[str, str]) -> None:
    report = scenes.endless.run(workers=2, config=config, duration_s=1.5)
    check(report)
    assert report.components["numbers"].roots.acked == report.components["counts"].acked
