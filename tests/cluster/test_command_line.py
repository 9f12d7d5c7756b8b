"""`rainband run --workers` and scripts that run on workers, as their users meet them: output, exit codes, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 40

PARTS = """
import logging
import os
from pathlib import Path
from rainband import Bolt, Spout

class Lines(Spout):
    outputs = ["n"]
    def __init__(self, stop: int = 100) -> None:
        self.n, self.stop = 0, stop
    def next_tuple(self):
        if self.n == self.stop:
            self.end()
            return
        self.n += 1
        self.emit(self.n, id=self.n)

class Take(Bolt):
    def process(self, n):
        if n == 7:
            print("seven, in", os.getpid())
            logging.getLogger("mine").warning("seven")

class Fails(Bolt):
    on_error = "stop"
    def process(self, n):
        raise LookupError(f"no {n}")
"""

FILE = """
name: t
spouts: {lines: {class: "parts:Lines", with: {stop: "${STOP:-100}"}, config: {on_workers: [0]}}}
bolts: {take: {class: "parts:Take", inputs: lines, config: {on_workers: [1]}}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "t.yaml").write_text(FILE)
    return tmp_path


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a command; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(folder: Path, *command: str) -> tuple[int, str, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert not list((folder / "tmp").iterdir()), "something was left in the folder for temporary files"
    return done.returncode, done.stdout, done.stderr


RAINBAND = (str(Path(sys.executable).parent / "rainband"),)


def wait_until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_topology_file_with_params(folder: Path) -> None:
    code, out, err = run(folder, *RAINBAND, "run", "t.yaml", "--workers", "2", "-p", "STOP=250", "--json")
    assert code == 0, err
    report = json.loads(out)["report"]
    assert report["components"]["lines"]["roots"]["acked"] == 250
    assert report["components"]["take"]["executed"] == 250
    assert "seven, in" in err  # stdout is one JSON text


def test_logs_of_workers_come_together_and_are_kept(folder: Path) -> None:
    command = ("run", "t.yaml", "--workers", "2", "--set", f"state_dir={folder / 'state'}")
    code, out, err = run(folder, *RAINBAND, *command)
    assert code == 0, err
    assert re.search(r"^worker 1 \w+/take/1: seven$", err, re.MULTILINE)
    assert "seven, in" in out
    assert "/take/1] seven" in (folder / "state" / "logs" / "worker-1.log").read_text()
    assert not (folder / "state" / "logs" / "worker-0.log").exists()


def test_what_a_bolt_raises_ends_the_run_with_its_traceback(folder: Path) -> None:
    (folder / "t.yaml").write_text(FILE.replace("parts:Take", "parts:Fails"))
    code, _, err = run(folder, *RAINBAND, "run", "t.yaml", "--workers", "2")
    assert code == 1
    assert 'raise LookupError(f"no {n}")' in err
    last = err.rstrip().splitlines()[-1]
    pattern = r"""error: topology "t" failed: worker 1: bolt "take" task 1: process\(\) raised LookupError\('no 1'\)"""
    assert re.fullmatch(pattern, last)


def test_an_import_that_raises_in_workers_fails_the_run_at_once(folder: Path) -> None:
    parts = 'import sys\nif sys.argv[0] == "-c" or "rainband.cluster.process" in sys.modules:\n    1 / 0\n'
    (folder / "parts.py").write_text(parts + PARTS)
    began = time.monotonic()
    code, _, err = run(folder, *RAINBAND, "run", "t.yaml", "--workers", "2")
    assert time.monotonic() - began < 20
    assert code == 1
    assert "1 / 0" in err
    assert "ZeroDivisionError: division by zero" in err


SCRIPT = """
import sys
from parts import Lines, Take
from rainband import RunError, Topology

class Double(Take):
    outputs = ["n"]
    def process(self, n):
        yield 2 * n

topology = Topology("t")
topology.spout("lines", Lines)
topology.bolt("double", Double, inputs="lines")
topology.bolt("take", Take, inputs="double")
"""
RUN = "print(topology.run(workers=2).components['take'].acked)\n"


def test_a_script_with_a_guard(folder: Path) -> None:
    (folder / "script.py").write_text(f'{SCRIPT}\nif __name__ == "__main__":\n    {RUN}')
    code, out, err = run(folder, sys.executable, "script.py")
    assert (code, out.splitlines()[-1]) == (0, "100"), err


def test_a_script_without_a_guard_is_told_to_have_one(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT + RUN)
    code, _, err = run(folder, sys.executable, "script.py")
    assert code == 1
    assert 'put the call below a guard: if __name__ == "__main__":' in err.splitlines()[-1]


def test_a_first_signal_drains_all_workers(start: Start) -> None:
    process = start(*RAINBAND, "run", "t.yaml", "--workers", "2", "-p", "STOP=100000000", "--json")
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    report = json.loads(out)["report"]
    roots = report["components"]["lines"]["roots"]
    assert roots["emitted"] == roots["acked"]
    wait_until(lambda: not any(map(is_alive, workers)))


def test_a_worker_that_is_killed_is_replaced(start: Start) -> None:
    process = start(*RAINBAND, "run", "t.yaml", "--workers", "2", "-p", "STOP=100000000", "--json")
    before = workers_of(process)
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: len(set(children(process.pid)) - set(before)) == 1)
    wait_until(lambda: len(children(process.pid)) == 2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    report = json.loads(out)["report"]
    roots = report["components"]["lines"]["roots"]
    assert roots["emitted"] == roots["acked"] + roots["gone"]
    assert "was killed by SIGKILL" in report["notes"][0]


def test_no_worker_outlives_the_command(start: Start) -> None:
    process = start(*RAINBAND, "run", "t.yaml", "--workers", "2", "-p", "STOP=100000000")
    workers = workers_of(process)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_alive, workers)))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the workers, once both have begun to work."""
    wait_until(lambda: len(children(process.pid)) == 2)
    pids = children(process.pid)
    # The engine's I/O thread is there once a worker was told to start.
    wait_until(lambda: all(threads(pid) >= 8 for pid in pids))
    return pids


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    tasks = Path(f"/proc/{pid}/task")
    found = [int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()]
    return sorted(found) if path.exists() else []


def threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except FileNotFoundError:
        return 0


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}
