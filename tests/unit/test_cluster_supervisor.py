"""Supervisor and workers together, with an engine that a test plays; each scenario on threads and on processes."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import cluster_fakes
import pytest
from cluster_fakes import new_engine

from rainband import Bolt, RunError, Spout, Topology
from rainband.cluster.processes import ProcessLauncher
from rainband.cluster.start import start
from rainband.cluster.threads import ThreadLauncher
from rainband.errors import WorkerError
from rainband.plan import compile_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rainband.cluster.launcher import Launcher
    from rainband.report import Report
    from rainband.run import Run

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up, what or condition
        time.sleep(0.005)


class Numbers(Spout):
    outputs = ["n"]

    def next_tuple(self) -> None:
        self.end()


class Take(Bolt):
    def process(self, n: Any) -> None: ...


def made(spout: str, name: str) -> Topology:
    topology = Topology(name)
    topology.spout(spout, Numbers, parallelism=2)
    topology.bolt("numbers_of_bolt", Take, inputs=spout, parallelism=2)
    return topology


# Found again by worker processes, which import this module.
NUMBERS = made("numbers", "numbers")
ENDLESS = made("endless", "endless")
CRASH = made("crash", "crash")
CRASH_OPEN = made("crash_open", "crash_open")
EXITS = made("exits", "exits")
RAISES = made("raises", "raises")
STUCK = made("stuck", "stuck")
SAVES = made("saves", "saves")


@pytest.fixture(params=["threads", "processes"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def begin(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Starts a topology on two workers."""
    cluster_fakes.CALLS.clear()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    runs: list[Run] = []

    def begin_run(topology: Topology, **config: Any) -> Run:
        overrides = {"workers": 2, "state_dir": str(tmp_path / "state"), **config}
        plan = compile_plan(topology, overrides)
        launcher: Launcher = (
            ThreadLauncher(plan, new_engine) if kind == "threads" else ProcessLauncher("cluster_fakes:new_engine")
        )
        runs.append(start(topology, plan, overrides, launcher))
        return runs[-1]

    yield begin_run
    for run in runs:
        assert run._result is not None
    wait_until(lambda: not set(threading.enumerate()) - threads, "threads are left")
    assert not list(tmp_path.glob("rainband-*"))


def ended(run: Run) -> Report:
    report = run.wait(DEADLINE_S)
    if report is None:
        run.stop(now=True)
        raise AssertionError(f"the run did not end: {run.snapshot()}")
    return report


def test_a_run_ends_when_all_workers_have(begin: Callable[..., Run]) -> None:
    report = ended(begin(NUMBERS))
    assert report.state == "ended"
    assert report.components["numbers"].roots.emitted == 200
    assert report.components["numbers_of_bolt"].emitted == 200
    assert report.notes == ()


def test_workers_with_nothing_to_do_are_not_started(
    begin: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    ended(begin(NUMBERS, workers=6))
    assert caplog.messages == ["numbers: 4 of 6 workers are started: no executor is left for the others"]


def test_a_drain_reaches_all(begin: Callable[..., Run]) -> None:
    run = begin(ENDLESS)
    wait_until(lambda: run.report().components["endless"].emitted > 10)
    assert run.snapshot()["state"] == "running"
    assert run.stop().state == "ended"


def test_a_pause_reaches_all(begin: Callable[..., Run]) -> None:
    run = begin(ENDLESS)

    def emitted() -> int:
        return run.report().components["endless"].emitted

    wait_until(lambda: emitted() > 10)
    run.deactivate()
    before = -1

    def stands() -> bool:
        nonlocal before
        last, before = before, emitted()
        time.sleep(0.3)
        return last == before

    wait_until(stands)
    run.activate()
    wait_until(lambda: emitted() > before)
    run.stop()


def test_a_stop_leaves_what_is_pending(begin: Callable[..., Run]) -> None:
    run = begin(ENDLESS)
    wait_until(lambda: run.snapshot()["state"] == "running")
    assert sorted(map(repr, (row[2] for row in run._engine.pending()))) == ["('id', 0)", "('id', 1)"]
    assert run.stop(now=True).state == "stopped"


def test_state_goes_through_the_supervisor(begin: Callable[..., Run], tmp_path: Path) -> None:
    ended(begin(SAVES))
    letters = (tmp_path / "state" / "dead_letters.jsonl").read_text().splitlines()
    assert [json.loads(line)["values"] for line in letters] == [["x"], ["x"]]
    positions = json.loads((tmp_path / "state" / "positions.json").read_text())["positions"]
    assert [(row["task_index"], row["tasks"]) for row in positions] == [(0, 2)]


def test_what_a_worker_fails_of_is_the_failure_of_the_run(begin: Callable[..., Run]) -> None:
    run = begin(RAISES)
    with pytest.raises(RunError) as failed:
        ended(run)
    assert str(failed.value).startswith('topology "raises" failed: worker ')
    assert ': spout "raises" task' in str(failed.value)
    assert "process() raised ZeroDivisionError('division by zero')" in str(failed.value)
    cause = failed.value.__cause__
    assert isinstance(cause, WorkerError)
    assert cause.kind == "ZeroDivisionError"
    assert "cluster_fakes.py" in cause.traceback
    assert failed.value.report is not None
    assert failed.value.report.state == "failed"


def test_over_tcp_everything_is_as_over_ipc(begin: Callable[..., Run]) -> None:
    run = begin(NUMBERS, transport="tcp")
    endpoints = {member.endpoint for member in wait_for_members(run)}
    assert all(endpoint.startswith("tcp://127.0.0.1:") for endpoint in endpoints)
    assert len(endpoints) == 2
    report = ended(run)
    assert report.components["numbers"].roots.emitted == 200


def wait_for_members(run: Run) -> Any:
    supervisor: Any = run._engine
    wait_until(lambda: supervisor._members.members)
    return supervisor._members.members
