"""`Run` against an engine that a test plays: threads, the wait, drains, signals, and how a run may end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rainband import Bolt, DrainError, RunError, RunInterrupted, Spout, Topology, TopologyError
from rainband import run as run_module
from rainband.plan import compile_plan
from rainband.run import Run
from rainband.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from rainband.run import Pending


class Lines(Spout):
    outputs = ["line"]

    def next_tuple(self) -> None:
        self.end()


class Count(Bolt):
    def process(self, line: str) -> None: ...


class PlayedEngine:
    """An engine whose executors wait until it is told how the run ends."""

    def __init__(self, executors: int = 2, *, ends_on: str = "drain") -> None:
        self.state = "running"
        self.calls: list[str] = []
        self.threads: dict[int, threading.Thread] = {}
        self.left: list[Pending] = []
        self.cause: BaseException | None = None
        self.over = threading.Event()
        self.release = threading.Event()
        self.body: Callable[[int], None] = lambda _: None
        self._executors = executors
        self._ends_on = ends_on

    def end(self, state: str) -> None:
        self.state = state
        self.over.set()

    def executors(self) -> list[tuple[int, list[int]]]:
        return [(min(i, 1), [i]) for i in range(self._executors)]

    def run_executor(self, index: int) -> None:
        self.threads[index] = threading.current_thread()
        self.body(index)
        self.over.wait()

    def run_timer(self) -> None:
        self.over.wait()

    def wait(self, timeout_s: float) -> str:
        assert timeout_s <= 0.1
        self.over.wait(timeout_s)
        return self.state

    def activate(self) -> None:
        self.calls.append("activate")

    def deactivate(self) -> None:
        self.calls.append("deactivate")

    def drain(self) -> None:
        self.calls.append("drain")
        if self._ends_on == "drain":
            self.end("ended")

    def stop(self) -> None:
        self.calls.append("stop")
        if self._ends_on in {"drain", "stop"} and not self.over.is_set():
            self.end("stopped")

    def fail_run(self, error: BaseException) -> None:
        self.calls.append("fail_run")
        self.cause = error
        self.end("failed")

    def error(self) -> BaseException | None:
        return self.cause

    def snapshot(self) -> dict[str, Any]:
        pending = len(self.left)
        roots = {"emitted": pending, "acked": 0, "dead": 0, "dropped": 0, "pending": pending}
        return {
            "state": self.state,
            "uptime_s": 1.0,
            "components": [{"name": "lines", "kind": "spout", "roots": roots}, {"name": "count", "kind": "bolt"}],
        }

    def pending(self) -> list[Pending]:
        return self.left


def wordcount(**config: Any) -> Topology:
    topology = Topology("wordcount", config=config)
    topology.spout("lines", Lines)
    topology.bolt("count", Count, inputs="lines")
    return topology


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def started(engine: PlayedEngine, state: Path, **config: Any) -> Run:
    return Run(compile_plan(wordcount(state_dir=str(state), **config)), engine=engine)


def wait_until(what: Callable[[], bool], limit_s: float = 10.0) -> None:
    limit = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_an_executor_is_a_named_daemon_thread_with_a_large_stack(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PlayedEngine(3)
    calls: list[object] = []
    start, stack_size = threading.Thread.start, threading.stack_size

    def noted_start(thread: threading.Thread) -> None:
        calls.append(thread.name)
        start(thread)

    def noted_size(size: int = 0) -> int:
        calls.append(size)
        return stack_size(size)

    monkeypatch.setattr(threading.Thread, "start", noted_start)
    monkeypatch.setattr(threading, "stack_size", noted_size)
    with started(engine, state):
        wait_until(lambda: len(engine.threads) == 3)
        names = [engine.threads[i].name for i in range(3)]
        assert names == ["rainband-lines-0", "rainband-count-0", "rainband-count-1"]
        assert all(thread.daemon for thread in engine.threads.values())
        assert calls == [16 * 1024 * 1024, *names, "rainband-timer", 0]
        engine.end("ended")


def test_wait_returns_the_report_of_the_end(state: Path) -> None:
    engine = PlayedEngine()
    running = started(engine, state)
    assert running.wait(0.05) is None
    engine.end("ended")
    report = running.wait()
    assert report is not None
    assert report.state == "ended"
    assert running.wait() is report
    assert running.report() is report
    assert not any(thread.is_alive() for thread in engine.threads.values())


def test_a_failed_run_raises_the_users_exception_as_its_cause(state: Path) -> None:
    engine = PlayedEngine()
    running = started(engine, state)
    error = KeyError("word")
    runtime = running._runtime
    assert isinstance(runtime, Runtime)
    runtime.user_error(1, 7, "prepare", error, "the run stops")
    engine.fail_run(error)
    with pytest.raises(RunError) as caught:
        running.wait()
    assert str(caught.value) == (
        'topology "wordcount" failed: bolt "count" task 7: prepare() raised KeyError(\'word\')'
    )
    assert caught.value.__cause__ is error
    assert caught.value.report is not None
    with pytest.raises(RunError):
        running.stop()


def test_what_leaves_an_executor_fails_the_run(state: Path) -> None:
    engine = PlayedEngine()
    engine.body = lambda index: sys.exit("defect") if index == 1 else None
    with pytest.raises(RunError, match=r"SystemExit\('defect'\)") as caught:
        started(engine, state).wait()
    assert isinstance(caught.value.__cause__, SystemExit)


def test_a_defect_ends_the_run_also_when_the_engine_does_not(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_STOP_GRACE_S", 0.2)
    engine = PlayedEngine(ends_on="never")
    engine.fail_run = lambda error: None  # type: ignore[method-assign]
    engine.body = lambda index: sys.exit("defect") if index == 1 else None
    with pytest.raises(RunError, match=r"SystemExit\('defect'\)"):
        started(engine, state).wait()
    engine.end("failed")


def test_stop_drains_and_waits(state: Path) -> None:
    engine = PlayedEngine()
    assert started(engine, state).stop().state == "ended"
    assert engine.calls == ["drain"]


def test_stop_now_leaves_what_is_pending_in_the_report(state: Path) -> None:
    engine = PlayedEngine()
    running = started(engine, state)
    engine.left = [("lines", 0, 17, 2, 31.25, False)]
    report = running.stop(now=True)
    assert engine.calls == ["stop"]
    assert report.state == "stopped"
    assert [root.id for root in report.pending_roots] == [17]
    assert report.notes == ('"lines" emits without positions: its 1 pending are gone with this run',)


def test_pending_of_a_spout_with_positions_comes_again(state: Path) -> None:
    engine = PlayedEngine()
    running = started(engine, state)
    engine.left = [("lines", 0, 17, 2, 31.25, True)]
    report = running.stop(now=True)
    assert report.notes == (f"spout \"lines\": its 1 pending come again in a run with state_dir='{state}'",)


def test_a_drain_that_runs_out_of_time_lists_what_is_pending(state: Path) -> None:
    engine = PlayedEngine(ends_on="stop")
    running = started(engine, state, drain_timeout_s=0.15)
    engine.left = [("lines", 0, n, 2, 31.25, False) for n in range(12)]
    begun = time.monotonic()
    with pytest.raises(DrainError) as caught:
        running.stop()
    assert 0.15 <= time.monotonic() - begun < 2
    assert engine.calls == ["drain", "stop"]
    text = str(caught.value)
    assert text.startswith(
        'topology "wordcount": the drain ran out of its 0.15 s; 12 pending: '
        'spout "lines" task 0 id 0 (attempt 2, 31.2 s old), '
    )
    assert text.endswith("id 9 (attempt 2, 31.2 s old), and 2 more")
    assert caught.value.report is not None
    assert len(caught.value.report.pending_roots) == 12


def test_a_thread_that_never_returns_does_not_hold_the_end(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "_STOP_GRACE_S", 0.2)
    engine = PlayedEngine(ends_on="never")
    engine.body = lambda _: engine.release.wait()  # type: ignore[assignment]
    running = started(engine, state)
    report = running.stop(now=True)
    assert report is not None
    assert "still inside user code after the end: rainband-lines-0, rainband-count-0\n" in caplog.text
    engine.release.set()
    engine.end("stopped")


def test_the_context_manager_waits_or_stops(state: Path) -> None:
    engine = PlayedEngine()
    with started(engine, state) as running:
        threading.Timer(0.05, engine.end, ["ended"]).start()
    assert running.report().state == "ended"
    engine = PlayedEngine()
    with pytest.raises(ZeroDivisionError), started(engine, state):
        1 / 0  # noqa: B018
    assert engine.calls == ["stop"]


def test_pause_is_handed_on(state: Path) -> None:
    engine = PlayedEngine()
    with started(engine, state) as running:
        running.deactivate()
        running.activate()
        assert running.report().state == "running"
        engine.end("ended")
    assert engine.calls == ["deactivate", "activate"]


def test_a_run_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    def refuse() -> list[tuple[int, list[int]]]:
        raise RuntimeError("no threads")

    engine = PlayedEngine()
    engine.executors = refuse  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no threads"):
        started(engine, tmp_path)
    started(PlayedEngine(), tmp_path).stop()  # the folder is free again


def played_run(monkeypatch: pytest.MonkeyPatch, engine: PlayedEngine, state: Path, **more: Any) -> Any:
    monkeypatch.setattr(run_module, "_new_engine", lambda _plan, _runtime: engine)
    return run_module.run(wordcount(state_dir=str(state)), **more)


def test_the_first_signal_drains(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        engine = PlayedEngine()
        threading.Timer(0.1, os.kill, [os.getpid(), number]).start()
        assert played_run(monkeypatch, engine, state).state == "ended"
        assert engine.calls == ["drain"]
        assert signal.getsignal(number) is before


def test_the_second_signal_stops_at_once_and_raises(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    engine = PlayedEngine(ends_on="stop")
    engine.left = [("lines", 0, 17, 1, 0.5, False)]
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    threading.Timer(0.4, os.kill, [os.getpid(), signal.SIGINT]).start()
    begun = time.monotonic()
    told: list[str] = []
    with pytest.raises(RunInterrupted) as caught:
        played_run(monkeypatch, engine, state, tell=told.append)
    assert time.monotonic() - begun < 2
    assert engine.calls == ["drain", "stop"]
    assert told == ["wordcount: SIGTERM: draining, at most 30 s; once more stops at once"]
    assert caught.value.signum == signal.SIGINT
    assert str(caught.value) == (
        'topology "wordcount" was stopped by a second SIGINT; 1 pending: '
        'spout "lines" task 0 id 17 (attempt 1, 0.5 s old)'
    )


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (0, "nothing is pending"),
        (1, "1 pending: {}"),
        (3, "3 pending: {}, and 2 more"),
    ],
)
def test_what_is_pending_is_counted_once_it_is_over(
    monkeypatch: pytest.MonkeyPatch, state: Path, left: int, text: str
) -> None:
    """Acks that come between the signal and the end count in the text as in the report."""

    class Late(PlayedEngine):
        def pending(self) -> list[Pending]:
            return [] if self.over.is_set() else [("lines", 0, n, 1, 0.5, False) for n in range(left and 1)]

    engine = Late(ends_on="stop")
    engine.left = [("lines", 0, n, 1, 0.5, False) for n in range(left)]
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    threading.Timer(0.4, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(RunInterrupted) as caught:
        played_run(monkeypatch, engine, state)
    assert caught.value.report is not None
    assert caught.value.report.pending == left
    row = 'spout "lines" task 0 id 0 (attempt 1, 0.5 s old)'
    assert str(caught.value).partition("; ")[2] == text.format(row)


def test_off_the_main_thread_signals_are_left_alone(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    engine = PlayedEngine()
    before = signal.getsignal(signal.SIGINT)
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(played_run(monkeypatch, engine, state)))
    thread.start()
    wait_until(lambda: bool(engine.threads))
    assert signal.getsignal(signal.SIGINT) is before
    engine.end("ended")
    thread.join(10)
    assert reports[0].state == "ended"


def test_duration_drains_after_that_time(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    engine = PlayedEngine()
    begun = time.monotonic()
    played_run(monkeypatch, engine, state, duration_s=0.2)
    assert 0.2 <= time.monotonic() - begun < 2
    assert engine.calls == ["drain"]
    with pytest.raises(ValueError, match="duration_s must be greater than 0, got 0"):
        played_run(monkeypatch, engine, state, duration_s=0)


def test_an_exception_of_the_watcher_stops_the_run(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    engine = PlayedEngine()

    def watch(_: Run) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        played_run(monkeypatch, engine, state, watch=watch)
    assert engine.calls == ["stop"]


def test_a_topology_with_mistakes_starts_nothing() -> None:
    with pytest.raises(TopologyError):
        run_module.run(Topology("empty"))


def test_leaving_the_program_stops_what_runs(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_run import PlayedEngine, started
engine = PlayedEngine()
stop = engine.stop
engine.stop = lambda: (print("stopped"), stop())
started(engine, Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "stopped\n"
    assert done.stderr == ""


@pytest.mark.parametrize(("how", "code"), [("sys.exit(5)", 1), ("run.leave(5)", 5)])
def test_user_code_that_never_returns_does_not_abort_the_interpreter(tmp_path: Path, how: str, code: int) -> None:
    program = f"""
import sys, time
from rainband import Bolt, DrainError, Spout, Topology
import rainband.run as run

class Lines(Spout):
    outputs = ["n"]
    def next_tuple(self):
        self.emit(1, id=1)

class Stuck(Bolt):
    def process(self, n):
        while True:
            time.sleep(0.0005)

run._STOP_GRACE_S = 0.2
topology = Topology("t", config={{"max_pending": 1, "drain_timeout_s": 0.1, "state_dir": {str(tmp_path)!r}}})
topology.spout("lines", Lines)
topology.bolt("stuck", Stuck, inputs="lines")
running = topology.start()
time.sleep(0.2)
try:
    running.stop()
except DrainError:
    print("drained")
{how}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "drained\n"
    assert done.returncode == code
    assert "leaving without the interpreter's own shutdown: still inside user code: rainband-stuck-0" in done.stderr
