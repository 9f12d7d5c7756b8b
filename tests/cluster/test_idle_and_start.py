"""What workers cost while nothing happens, and how soon they begin and end."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from scenes import Counts, Numbers

from rainband import Topology
from rainband.cluster import native
from rainband.cluster.start import start
from rainband.cluster.threads import ThreadLauncher
from rainband.plan import compile_plan

if TYPE_CHECKING:
    from pathlib import Path

SOON_S = 0.1
TRIES = 20


def test_a_short_run_on_two_workers_waits_for_no_timer(tmp_path: Path) -> None:
    """Each step rings for the next: a hello that came too early, or a nap before the end, would cost 50 ms or more."""
    topology = Topology("t", config={"state_dir": str(tmp_path)})
    topology.spout("numbers", partial(Numbers, 5))
    topology.bolt("counts", Counts, inputs="numbers")
    overrides = {"workers": 2}
    plan = compile_plan(topology, overrides)
    took: list[float] = []
    while not took or (min(took) >= SOON_S and len(took) < TRIES):  # others may have the cores at times
        began = time.monotonic()
        report = start(topology, plan, overrides, ThreadLauncher(plan, native.new_engine)).wait(20)
        took.append(time.monotonic() - began)
        assert report is not None
        assert report.components["counts"].counters["sum"] == 15
    assert min(took) < SOON_S


def test_an_idle_worker_looks_only_when_it_reports(tmp_path: Path) -> None:
    topology = Topology("t", config={"state_dir": str(tmp_path)})
    topology.spout("numbers", partial(Numbers, 10**9))
    topology.bolt("counts", Counts, inputs="numbers")
    overrides = {"workers": 2}
    plan = compile_plan(topology, overrides)
    launcher = ThreadLauncher(plan, native.new_engine)
    run = start(topology, plan, overrides, launcher)
    while not run.report().components["counts"].acked:
        time.sleep(0.01)
    run.deactivate()
    while run.report().pending:
        time.sleep(0.01)
    polls: list[float] = []
    clients = [worker.client for worker, _ in launcher._running.values()]
    for client in clients:
        poll = client.poll

        def counted(timeout_s: float, poll: object = poll) -> object:
            polls.append(timeout_s)
            return poll(timeout_s)  # type: ignore[operator]

        client.poll = counted  # type: ignore[method-assign, assignment]
    time.sleep(1.2)
    run.stop()
    # Four reports a second, each of which rings its own bell once, on two workers; naps of 0.1 s would make it 40.
    assert 4 <= len(polls) <= 30
