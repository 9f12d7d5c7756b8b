"""Around every test of the contract: each run is checked, and nothing may be left behind."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from rig import DEADLINE_S, Rig, wait_until

from rainband import run as run_module
from rainband.cluster import native
from rainband.cluster.start import start as start_workers
from rainband.cluster.threads import ThreadLauncher
from rainband.plan import compile_plan
from rainband.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rainband import Topology

KEPT = {"lock", "positions.json", "dead_letters.jsonl"}
"""All that a run may leave in the state folder that the user gave it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario runs in one process and on two workers, unless it says why it cannot."""
    if "launcher" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("in_one_process")
        metafunc.parametrize("launcher", ["process"] if only else ["process", "workers"], indirect=True)


@pytest.fixture(autouse=True)
def launcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the scenario runs on. Its two workers are threads of this process: they share lists and closures with it."""
    name = str(request.param)
    if name == "workers":
        monkeypatch.setattr(run_module, "start", _start_on_two_workers)
    return name


def _start_on_two_workers(
    topology: Topology, *, workers: int | None = None, config: Mapping[str, Any] | None = None
) -> Run:
    overrides = {"workers": workers or 2, **(config or {})}
    plan = compile_plan(topology, overrides)
    return start_workers(topology, plan, overrides, ThreadLauncher(plan, native.new_engine))


class Runs:
    """The runs of one test. A test that plants a loss says so in `expected_lost`."""

    def __init__(self) -> None:
        self.all: list[Run] = []
        self.expected_lost = 0

    def check(self) -> None:
        lost = 0
        for run in self.all:
            assert run._result is not None, f"{run.name} is still running"
            report = run._result
            for component in report.components.values():
                assert component.roots.balances, f"{component.name}: {component.roots}"
                assert (
                    len([r for r in report.pending_roots if r.component == component.name]) == component.roots.pending
                )
            lost += report.counters["lost"]
        assert lost == self.expected_lost


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Runs]:
    """Notes every run; at the end of the test all of them are over, balance, and have left nothing behind."""
    noted = Runs()
    start = Run.__init__

    def note(run: Run, *args: Any, **kwargs: Any) -> None:
        start(run, *args, **kwargs)
        noted.all.append(run)

    monkeypatch.setattr(Run, "__init__", note)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    threads = set(threading.enumerate())
    descriptors = _descriptors()
    yield noted
    noted.check()
    noted.all.clear()
    wait_until(lambda: not set(threading.enumerate()) - threads, "the end of the threads of the test", DEADLINE_S)
    if not _descriptors() <= descriptors:
        gc.collect()
        assert _descriptors() <= descriptors
    assert not list((tmp_path / "xdg").rglob("*.*"))
    if (tmp_path / "state").is_dir():
        assert {path.name for path in (tmp_path / "state").iterdir()} <= KEPT


def _descriptors() -> set[tuple[str, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))  # noqa: PTH115
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Runs topologies with a deadline; see rig.py."""
    return Rig(tmp_path)
