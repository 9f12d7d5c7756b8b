"""Workers that are processes: their deaths, restarts and ends, with an engine that a test plays."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import test_cluster_supervisor as topologies
from test_cluster_supervisor import DEADLINE_S, wait_until

from rainband import RunError
from rainband.cluster.assignment import Assignment
from rainband.cluster.launcher import Event
from rainband.cluster.processes import ProcessLauncher
from rainband.cluster.start import start
from rainband.plan import compile_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rainband import Topology
    from rainband.run import Run

HERE = Path(__file__).parent


def begin(topology: Topology, folder: Path, **config: Any) -> Run:
    overrides = {"workers": 2, "state_dir": str(folder / "state"), **config}
    plan = compile_plan(topology, overrides)
    return start(topology, plan, overrides, ProcessLauncher("cluster_fakes:new_engine"))


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    report = begin(topologies.CRASH, tmp_path).wait(DEADLINE_S)
    assert report is not None
    assert report.state == "ended"
    assert len(report.notes) == 2
    assert "was killed by SIGKILL" in report.notes[0]
    # Each task ends once; what the dead had counted before they died is nothing here.
    assert report.components["crash"].roots.emitted == 200


def test_what_cannot_open_at_a_restart_is_tried_again(tmp_path: Path) -> None:
    """ENGINE 6.2: what raises at the first start fails the run; at a later one it backs off."""
    report = begin(topologies.CRASH_OPEN, tmp_path).wait(DEADLINE_S)
    assert report is not None
    assert report.components["crash_open"].roots.emitted == 200
    reasons = sorted(note.partition(";")[0] for note in report.notes)
    assert reasons == [
        "worker 0 could not begin: FileNotFoundError('model.bin')",
        "worker 0 was killed by SIGKILL",
        "worker 1 could not begin: FileNotFoundError('model.bin')",
        "worker 1 was killed by SIGKILL",
    ]


def test_a_death_is_seen_while_the_others_go_on(tmp_path: Path) -> None:
    run = begin(topologies.ENDLESS, tmp_path)
    supervisor: Any = run._engine
    wait_until(lambda: run.report().components["endless"].emitted > 20)
    launcher = supervisor._place._launcher
    [victim] = [c for c in launcher._children.values() if c.worker == 1]
    before = run.report().components["endless"].emitted
    os.kill(victim.process.pid, signal.SIGSEGV)
    wait_until(lambda: any(c.worker == 1 and c.incarnation == 2 for c in list(launcher._children.values())))
    wait_until(lambda: 1 in supervisor._active)
    wait_until(lambda: run.report().components["endless"].emitted > before)
    report = run.stop()
    assert report.state == "ended"
    [note] = report.notes
    assert note.startswith("worker 1 was killed by SIGSEGV")


def test_a_worker_that_is_frozen_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rainband.cluster.silence._LEAST_S", 2.0)
    monkeypatch.setattr("rainband.cluster.silence._LEAD_S", 0.0)
    run = begin(topologies.ENDLESS, tmp_path, execute_timeout_s=2)
    supervisor: Any = run._engine
    wait_until(lambda: run.report().components["endless"].emitted > 20)
    [victim] = [c for c in supervisor._place._launcher._children.values() if c.worker == 1]
    os.kill(victim.process.pid, signal.SIGSTOP)
    wait_until(lambda: supervisor._alive.get(1) == 2 and 1 in supervisor._active)
    report = run.stop()
    assert report.state == "ended"
    [note] = report.notes
    assert note.startswith("worker 1 told nothing for 2 s, and was killed")


class Blocks(logging.Handler):
    """Takes the first record when it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.may_go.wait(DEADLINE_S)


class Raises(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(28, "no space left")


@pytest.mark.parametrize("handler", [Blocks(), Raises()], ids=lambda handler: type(handler).__name__)
def test_a_handler_of_the_users_does_not_hold_the_run_up(
    tmp_path: Path, handler: logging.Handler, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.root.addHandler(handler)
    try:
        run = begin(topologies.CRASH, tmp_path)
        report = run.wait(DEADLINE_S)
    finally:
        logging.root.removeHandler(handler)
        if isinstance(handler, Blocks):
            assert not handler.may_go.is_set()
            handler.may_go.set()
    assert report is not None
    assert report.state == "ended"
    assert report.components["crash"].roots.emitted == 200
    assert report.uptime_s < DEADLINE_S / 2
    wait_until(lambda: "rainband-log" not in {thread.name for thread in threading.enumerate()})
    assert ("no space left" in capsys.readouterr().err) == isinstance(handler, Raises)


def test_a_worker_that_never_comes_up_fails_the_run_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = begin(topologies.EXITS, tmp_path)
    with pytest.raises(RunError, match=r"worker [01] died 3 times before it was ready; the last time: exited") as told:
        run.wait(DEADLINE_S)
    worker = str(told.value).partition("worker ")[2][0]
    follows = [text.partition("; ")[2] for text in caplog.messages if text.startswith(f"worker {worker} exited")]
    assert follows == [*IN_A_ROW]


IN_A_ROW = (
    "it is replaced in 0.1 s (restart 1 of 2)",
    "it is replaced in 0.2 s (restart 2 of 2)",
    "it is not replaced",
)


def test_a_worker_that_cannot_be_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(ProcessLauncher, "start", start)
    how = r"worker 0 died 3 times before it was ready; the last time: could not be started: .*Cannot allocate memory"
    with pytest.raises(RunError, match=how):
        begin(topologies.NUMBERS, tmp_path).wait(DEADLINE_S)
    texts = [text.partition("memory; ")[2] for text in caplog.messages if text.startswith("worker 0 could")]
    assert texts == [*IN_A_ROW]


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rainband.run._STOP_GRACE_S", 0.5)
    run = begin(topologies.STUCK, tmp_path)
    wait_until(lambda: run.snapshot()["state"] == "running")
    began = time.monotonic()
    assert run.stop(now=True).state == "stopped"
    assert time.monotonic() - began < 5
    assert not run._threads.all[0].is_alive()


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[tuple[ProcessLauncher, list[Event]]]:
    """A launcher whose workers sleep in their engine's place."""
    launcher = ProcessLauncher()
    yield launcher, []
    launcher.close()
    assert "rainband-pids" not in {thread.name for thread in threading.enumerate()}


def test_exit_codes_and_signals(launched: tuple[ProcessLauncher, list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    launcher, events = launched
    monkeypatch.setattr("rainband.cluster.processes._MAIN", "import sys; sys.exit(7)")
    launcher.start(assignment(0), events.append)
    monkeypatch.setattr("rainband.cluster.processes._MAIN", "import time; time.sleep(100)")
    launcher.start(assignment(1), events.append)
    wait_until(lambda: events)
    assert events == [Event(0, 1, "dead", 7, None)]
    launcher.kill(1, 1)
    launcher.kill(1, 5)
    wait_until(lambda: len(events) == 2)
    assert events[1] == Event(1, 1, "dead", None, 9)


def test_what_a_worker_started_dies_with_it(
    launched: tuple[ProcessLauncher, list[Event]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launcher, events = launched
    main = "import subprocess; p = subprocess.Popen(['sleep', '100']); open({!r}, 'w').write(str(p.pid))"
    file = tmp_path / "pid"
    monkeypatch.setattr("rainband.cluster.processes._MAIN", main.format(str(file)))
    launcher.start(assignment(0), events.append)
    wait_until(lambda: events)
    wait_until(lambda: is_gone(int(file.read_text())))


def assignment(worker: int) -> Assignment:
    return Assignment(worker, 1, 2, "ipc:///nowhere", "t", {}, {})


def is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    """Also after a kill -9, which nobody can answer."""
    program = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
import test_cluster_processes, test_cluster_supervisor
run = test_cluster_processes.begin(test_cluster_supervisor.ENDLESS, Path({str(tmp_path)!r}))
test_cluster_supervisor.wait_until(lambda: run.snapshot()["state"] == "running")
print(*[c.process.pid for c in run._engine._place._launcher._children.values()], flush=True)
time.sleep(100)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(map(is_gone, pids))
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: all(map(is_gone, pids)), "workers outlive their parent")
