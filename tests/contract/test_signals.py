"""ENGINE 5.5 on the real engine: the first signal drains, the second stops at once, `close` runs always."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rig import in_one_process

PROGRAM = r"""
import sys, time
from pathlib import Path
from rainband import Bolt, RunInterrupted, Spout, TaskContext, Topology

state, pause_s = Path(sys.argv[1]), float(sys.argv[2])

class Numbers(Spout):
    outputs = ["n"]
    def open(self, context: TaskContext) -> None:
        self.n = context.position or 0
    def next_tuple(self) -> None:
        self.n += 1
        self.emit(self.n, id=self.n, position=self.n)
    def close(self) -> None:
        sys.stdout.write("closed numbers\n")

class Work(Bolt):
    def process(self, n: int) -> None:
        if n == 20:
            print("busy", flush=True)
        time.sleep(pause_s)
    def close(self) -> None:
        sys.stdout.write("closed work\n")

topology = Topology("t", config={"state_dir": str(state / "state"), "max_pending": 50})
topology.spout("numbers", Numbers)
topology.bolt("work", Work, inputs="numbers", parallelism=2)
try:
    report = topology.run()
except RunInterrupted as error:
    print("interrupted", error.signum)
    report = error.report
(state / "report.json").write_text(report.json())
"""


def start(tmp_path: Path, pause_s: float) -> subprocess.Popen[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program), str(tmp_path), str(pause_s)], stdout=subprocess.PIPE, text=True
    )


@in_one_process("runs a program of its own")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_what_is_in_flight(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, 0.002) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert sorted(rest.split("\n")) == ["", "closed numbers", "closed work", "closed work"]
    report = json.loads((tmp_path / "report.json").read_text())
    account = report["components"]["numbers"]["roots"]
    assert report["state"] == "ended"
    assert report["balances"]
    assert account["pending"] == 0
    assert account["emitted"] == account["acked"] >= 20
    [stored] = json.loads((tmp_path / "state" / "positions.json").read_text())["positions"]
    assert stored["position"] == account["emitted"]


@in_one_process("runs a program of its own")
def test_the_second_signal_stops_at_once_and_tasks_are_closed(tmp_path: Path) -> None:
    begun = time.monotonic()
    with start(tmp_path, 0.25) as process:
        assert process.stdout is not None
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert sorted(rest.split("\n")) == ["", "closed numbers", "closed work", "closed work", "interrupted 2"]
    assert time.monotonic() - begun < 5
    report = json.loads((tmp_path / "report.json").read_text())
    account = report["components"]["numbers"]["roots"]
    assert report["balances"]
    assert account["pending"] == len(report["pending_roots"]) > 0
    path = tmp_path / "state" / "positions.json"
    stored = json.loads(path.read_text())["positions"][0]["position"] if path.exists() else 0
    assert stored < min(root["id"] for root in report["pending_roots"])
