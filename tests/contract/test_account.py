"""The account: ENGINE 1.1 in reports taken at any moment, and in what the command line says about what is pending."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from rig import Numbers, in_one_process, wait_until

from rainband import DROP, Bolt, Failure, Reject, TaskContext, Tuple

if TYPE_CHECKING:
    from pathlib import Path

    from rig import Rig


class Mixed(Numbers):
    """Drops some of what fails."""

    def fail(self, id: int, failure: Failure) -> Any:  # noqa: A002
        super().fail(id, failure)
        return DROP if id % 11 == 0 and failure.attempt == 2 else None


class Moody(Bolt):
    """Passes, raises, rejects or forgets, and emits roots of its own in `tick`."""

    outputs = ["n"]
    tick_interval_s = 0.001
    auto_ack = False

    def prepare(self, context: TaskContext) -> None:
        self.ticks = 0

    def process(self, n: Any, tup: Tuple) -> None:
        mood = Random(f"{n} {tup.attempt}").random()
        if mood < 0.1:
            raise ValueError(n)
        if mood < 0.12:
            raise Reject(str(n))
        if mood < 0.15:
            return
        self.emit(n, anchors=tup)
        if mood < 0.2:
            self.fail(tup, "after the emit")
        else:
            self.ack(tup)

    def tick(self) -> None:
        self.ticks += 1
        self.emit(f"tick {self.ticks}")


def test_the_account_balances_in_every_report(rig: Rig) -> None:
    """ENGINE 1.1: emitted = acked + dead + dropped + pending, per component, in reports taken at any moment."""
    topology = rig.topology(max_attempts=3, max_pending=50, queue_capacity=20)
    topology.spout("numbers", partial(Mixed, 1500), parallelism=2)
    topology.bolt("one", Moody, inputs="numbers", parallelism=2)
    topology.bolt("two", Moody, inputs="one")
    topology.bolt("three", Moody, inputs="two", outputs=["n"])
    running = topology.start()
    reports = 0
    while (report := running.report()).state in {"starting", "running"}:
        reports += 1
        for component in report.components.values():
            assert component.roots.balances, f"{component.name}: {component.roots}"
        assert report.counters["lost"] == 0
    report = rig.finish(running)
    roots = report.components["numbers"].roots
    assert roots.emitted == 3000
    assert roots.acked > 0
    assert roots.dead > 0
    assert roots.dropped > 0
    assert report.components["one"].roots.emitted > 0
    assert reports > 5


def test_what_is_pending_at_a_stop_is_counted_and_listed(rig: Rig) -> None:
    """ENGINE 1.1: whatever moment a run is stopped at, its report balances and lists each root that is pending."""
    for pause_s in (0.0, 0.002, 0.01, 0.03):
        topology = rig.topology(max_pending=100, queue_capacity=20)
        topology.spout("numbers", partial(Numbers, 10**9))
        topology.bolt("one", Moody, inputs="numbers", parallelism=2)
        topology.bolt("two", Moody, inputs="one", outputs=["n"])
        running = topology.start()
        time.sleep(pause_s)
        report = running.stop(now=True)
        assert report.state == "stopped"
        for component in report.components.values():
            assert component.roots.balances, f"{component.name}: {component.roots}"
        assert len(report.pending_roots) == report.pending


def test_bolts_count_what_they_receive(rig: Rig) -> None:
    """ENGINE 1.1: deliveries are accounted for too: executed = acked + failed for every bolt at the end."""
    topology = rig.topology(max_attempts=3)
    topology.spout("numbers", partial(Numbers, 500))
    topology.bolt("one", Moody, inputs="numbers", parallelism=2, tasks=3)
    topology.bolt("two", Moody, inputs="one", outputs=["n"])
    report = rig.run(topology)
    one, two = report.components["one"], report.components["two"]
    assert one.executed == report.components["numbers"].delivered + report.components["numbers"].replays
    assert one.executed == one.acked + one.failures
    assert two.executed == two.acked + two.failures
    assert two.executed == one.delivered + one.replays


PROGRAM = r"""
import sys, time
from rainband import Bolt, Spout, TaskContext, Topology

class Numbers(Spout):
    outputs = ["n"]
    def open(self, context: TaskContext) -> None:
        self.n = context.position or 0
    def next_tuple(self) -> None:
        self.n += 1
        self.emit(self.n, id=self.n, position=self.n)

class Slow(Bolt):
    def process(self, n: int) -> None:
        sys.stderr.write(f"work {n}\n")
        sys.stderr.flush()
        time.sleep(0.05)

topology = Topology("counted")
topology.spout("numbers", Numbers)
topology.bolt("slow", Slow, inputs="numbers")
"""


def command(folder: Path, *options: str) -> list[str]:
    (folder / "counted.py").write_text(PROGRAM)
    settings = ["--set", f"state_dir={folder / 'state'}", "--set", "max_pending=20", *options]
    main = "from rainband.cli import main; main()"
    return [sys.executable, "-c", main, "run", str(folder / "counted.py"), *settings, "--json"]


@in_one_process("runs a program of its own")
def test_the_command_line_leaves_with_what_is_pending(tmp_path: Path) -> None:
    """ENGINE 1.1, 5.5: two signals: exit code 130, the pending roots are told, the position has not moved past them."""
    with subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        seen = ""
        while "work 3" not in seen:
            seen = process.stderr.readline()
            assert seen, "it ended early"
        process.send_signal(signal.SIGINT)
        time.sleep(0.15)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        process.stdout.read()
    assert process.returncode == 130, rest
    path = tmp_path / "state" / "positions.json"
    position = json.loads(path.read_text())["positions"][0]["position"] if path.exists() else 0
    assert "pending" in rest
    assert position <= 20


@in_one_process("runs a program of its own")
def test_a_drain_out_of_time_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    """ENGINE 1.1: pending at a drain timeout: exit code 5."""
    options = ["--set", "drain_timeout_s=0.1"]
    with subprocess.Popen(
        command(tmp_path, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = ""
        while "work 2" not in line:
            line = process.stderr.readline()
            assert line, "it ended early"
        process.send_signal(signal.SIGTERM)
        rest = process.communicate()[1]
    assert process.returncode == 5, rest
    assert "the drain ran out of its 0.1 s" in rest
    wait_until(lambda: process.poll() is not None)
