"""Starts a run of the topology of the fault tests as a command, harms its processes, and leaves nothing behind.

Everything that a run starts is known by its environment (`CHAOS_FOLDER`), so that what outlives it is found, whatever
process group it is in.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
RAINBAND = str(Path(sys.executable).parent / "rainband")
DEADLINE_S = 50.0


def wait_until(condition: Callable[[], object], what: str, within_s: float = DEADLINE_S) -> None:
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)


@dataclass
class Kill:
    """A worker that was killed."""

    worker: int
    pid: int
    at_ns: int


@dataclass
class Chaos:
    """One folder, and the runs that use it one after the other.

    Attributes:
        folder: for the tracks, the state and temporary files.
        workers: of each run.
        settings: of each run, as for --set.
        environment: of each run, besides that of this process.
    """

    folder: Path
    workers: int = 3
    settings: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def tracks(self) -> Path:
        return self.folder / "tracks"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(
        self, *, stop: int = 0, pace: float = 0, faults: Sequence[Mapping[str, object]] = (), **environment: str
    ) -> None:
        """Start a run; the process leads a session of its own, so that a signal to its group is one to it alone."""
        assert self.process is None or self.process.poll() is not None
        for each in (self.tracks, self.temporary):
            each.mkdir(parents=True, exist_ok=True)
        settings = {
            "state_dir": self.state,
            "max_pending": 200,
            "retry_backoff_s": 0.01,
            "worker_restart_limit": 100,
            **self.settings,
        }
        command = [RAINBAND, "run", str(HERE / "chaos_topology.py"), "--json", "--workers", str(self.workers)]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        variables = {
            "CHAOS_FOLDER": str(self.tracks),
            "CHAOS_STOP": str(stop),
            "CHAOS_PACE": str(pace),
            "CHAOS_FAULTS": json.dumps(list(faults)),
            "TMPDIR": str(self.temporary),
            "XDG_STATE_HOME": str(self.folder / "xdg"),
        }
        number = len(list(self.folder.glob("stdout-*")))
        with (self.folder / f"stdout-{number}").open("wb") as out, (self.folder / f"stderr-{number}").open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | variables | self.environment | environment,
            )
        self._out, self._err = self.folder / f"stdout-{number}", self.folder / f"stderr-{number}"

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    def enough(self) -> None:
        """Let the source end."""
        (self.tracks / "enough").touch()

    def finish(self, within_s: float = DEADLINE_S) -> int:
        """Wait for the end; the exit code. The report is kept if there is one."""
        assert self.process is not None
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end within {within_s:g} s\n{self.state_of_things()}") from None
        with contextlib.suppress(ValueError, KeyError):
            self.reports.append(json.loads(self._out.read_text())["report"])
        return code

    def state_of_things(self) -> str:
        """For a failure: what every process does, and the last words."""
        found = [f"kills: {[(kill.worker, kill.pid) for kill in self.kills]}"]
        for pid in self.processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found.append(f"{pid}: {b' '.join(words[:6]).decode(errors='replace')[-80:]}")
        rows = sorted(self.tracks.iterdir(), key=lambda path: path.stat().st_mtime)
        found += [f"{path.name}: {path.read_bytes()[-200:].splitlines()[-1:]}" for path in rows if path.stat().st_size]
        return "\n".join([*found, self.stderr[-3000:]])

    # -- processes -----------------------------------------------------------------------------------------------------

    def processes(self) -> list[int]:
        """All that live and have the environment of this folder."""
        mark = f"CHAOS_FOLDER={self.tracks}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                        found.append(int(entry.name))
        return found

    def worker(self, index: int) -> int | None:
        """The process of a worker, None while there is none."""
        label = f"worker {index} of chaos".encode()
        for pid in children(self.pid):
            with contextlib.suppress(OSError):
                if label in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") and is_alive(pid):
                    return pid
        return None

    def kill(self, worker: int, number: int = signal.SIGKILL) -> bool:
        """Send a signal to a worker; False if there is none now."""
        pid = self.worker(worker)
        if pid is None:
            return False
        now = time.monotonic_ns()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.kills.append(Kill(worker, pid, now))
            return True
        return False

    def kill_at_random(self, kills: int, chance: random.Random, every_s: float = 0.4, *, bursts: bool = False) -> None:
        """Kill workers at random moments while the run goes on; in bursts, some of them together."""
        victims: list[int] = []
        for _ in range(kills):
            if not victims:  # each in turn, as the pause before a restart doubles
                victims = chance.sample(range(self.workers), self.workers)
            victim = victims.pop()
            if not (bursts and chance.random() < 0.5):
                moment = time.monotonic() + chance.expovariate(1 / every_s)
                wait_until(lambda moment=moment: time.monotonic() >= moment, "a moment")  # type: ignore[misc]
            self.wait_for(lambda victim=victim: self.kill(victim), f"worker {victim}")  # type: ignore[misc]

    def acked(self) -> int:
        """How many records the source was told of."""
        return sum(path.read_bytes().count(b"\na ") for path in self.tracks.glob("source-*"))

    def wait_for_acks(self, more: int = 1) -> None:
        """Wait until so many more records are acked."""
        wanted = self.acked() + more
        self.wait_for(lambda: self.acked() >= wanted, f"{more} more acks")

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait while the run goes on."""
        give_up = time.monotonic() + DEADLINE_S
        while not condition():
            assert not self.is_over, f"the run is over before {what}\n{self.state_of_things()}"
            assert time.monotonic() < give_up, f"not within {DEADLINE_S:g} s: {what}\n{self.state_of_things()}"
            time.sleep(0.005)

    @property
    def is_over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def close(self) -> list[int]:
        """End what is left; the processes that had outlived their run."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(AssertionError):  # what dies with its parent has a moment for it
            wait_until(lambda: not self.processes(), "the end of all processes", 5)
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def children(pid: int) -> list[int]:
    """The children of all threads of a process."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return sorted(found)


@pytest.fixture(name="chaos")
def chaos_fixture(tmp_path: Path) -> Iterator[Chaos]:
    """Runs of the test; test modules import it. Nothing may be left of them."""
    made = Chaos(tmp_path / "chaos")
    yield made
    left = made.close()
    assert not left, "processes outlived their run"
    assert not list(made.temporary.iterdir()), "temporary files outlived their run"
