"""Timeouts and backstops: ENGINE 2.1 and 2.2, on the real engine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from rig import DEADLINE_S, Burst, Collect, Identity, Notes, Numbers, Quiet, in_one_process, wait_until

from rainband import BatchBolt, Bolt, Spout, TaskContext, Tuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conftest import Runs
    from rig import Rig


def test_waiting_in_a_queue_or_in_a_call_is_no_reason_to_time_out(rig: Rig) -> None:
    """ENGINE 2.1: what waits in a live queue, or is in a live `process`, does not time out, however long it takes."""
    notes = Notes()

    class Slow(Bolt):
        def process(self, n: int) -> None:
            time.sleep(0.06)

    topology = rig.topology(ack_timeout_s=0.02)
    topology.spout("numbers", partial(Numbers, 6, notes=notes))
    topology.bolt("before", Identity, inputs="numbers")
    topology.bolt("slow", Slow, inputs="before")
    report = rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3, 4, 5, 6]
    assert (notes.failed, report.components["numbers"].roots.replays) == ([], 0)


class AcksAtTheEnd(Bolt):
    auto_ack = False

    def process(self, tup: Tuple) -> None:
        time.sleep(0.2)
        self.ack(tup)


class StoresSlowly(BatchBolt):
    batch_size = 2

    def process_batch(self, tuples: Sequence[Tuple]) -> None:
        time.sleep(0.2)


@pytest.mark.parametrize("component", [AcksAtTheEnd, StoresSlowly])
def test_what_is_in_a_call_does_not_time_out_whoever_acks_it(rig: Rig, component: type[Bolt]) -> None:
    """ENGINE 2.1: nor does a tuple that a manual-ack bolt or a batch has in a live call, though it is not acked yet."""
    notes = Notes()
    topology = rig.topology(ack_timeout_s=0.05)
    topology.spout("numbers", partial(Burst, 2, notes=notes))
    topology.bolt("slow", component, inputs="numbers")
    report = rig.run(topology)
    assert sorted(notes.acked) == [1, 2]
    assert report.components["slow"].failed == {}
    assert report.counters["double_ack"] == 0


def test_the_time_of_what_is_still_held_begins_at_the_end_of_its_call(rig: Rig) -> None:
    """ENGINE 2.1: a call longer than `ack_timeout_s` does not count; what it leaves un-acked times out after it."""
    notes = Notes()
    ended_at: list[float] = []
    failed_at: list[float] = []

    class Keeps(Bolt):
        auto_ack = False

        def process(self, tup: Tuple) -> None:
            if tup.attempt == 1:
                self.kept = tup
                time.sleep(0.2)
                ended_at.append(time.monotonic())
            else:
                self.ack(tup)

    class Watched(Numbers):
        def fail(self, id: int, failure: Any) -> None:  # noqa: A002
            super().fail(id, failure)
            failed_at.append(time.monotonic())

    topology = rig.topology(ack_timeout_s=0.1)
    topology.spout("numbers", partial(Watched, 1, notes=notes))
    topology.bolt("keeps", Keeps, inputs="numbers")
    rig.run(topology)
    assert notes.reasons == ["timeout"]
    assert notes.acked == [1]
    assert failed_at[0] - ended_at[0] >= 0.1


class Holds(Bolt):
    """Holds first attempts for ever and acks later ones."""

    auto_ack = False

    def __init__(self, held: list[tuple[Bolt, Tuple, float]]) -> None:
        self.held = held

    def process(self, tup: Tuple) -> None:
        if tup.attempt == 1:
            self.held.append((self, tup, time.monotonic()))
        else:
            self.ack(tup)


def test_what_is_held_too_long_times_out(rig: Rig) -> None:
    """ENGINE 2.1: held un-acked for `ack_timeout_s` without `reset_timeout` fails as `timeout`, not before."""
    notes = Notes()
    held: list[tuple[Bolt, Tuple, float]] = []
    failed_at: list[float] = []

    class Watched(Numbers):
        def fail(self, id: int, failure: Any) -> None:  # noqa: A002
            super().fail(id, failure)
            failed_at.append(time.monotonic())

    topology = rig.topology(ack_timeout_s=0.1)
    topology.spout("numbers", partial(Watched, 5, notes=notes))
    topology.bolt("holds", partial(Holds, held), inputs="numbers")
    report = rig.run(topology)
    assert notes.reasons == ["timeout"] * 5
    assert all("held for 0.1 s" in failure.error for _, failure in notes.failed)
    assert sorted(notes.acked) == [1, 2, 3, 4, 5]
    assert min(failed_at) - min(at for *_, at in held) >= 0.1
    assert report.components["holds"].failed == {"timeout": 5}


def test_reset_timeout_begins_anew(rig: Rig) -> None:
    """ENGINE 2.1: who resets the time of a held tuple keeps it as long as he likes."""
    notes = Notes()

    class Patient(Bolt):
        auto_ack = False
        tick_interval_s = 0.01

        def prepare(self, context: TaskContext) -> None:
            self.held: list[Tuple] = []
            self.resets = 0

        def process(self, tup: Tuple) -> None:
            self.held.append(tup)
            self.until = time.monotonic() + 1.0

        def tick(self) -> None:
            for tup in self.held:
                self.reset_timeout(tup)
            if self.held and time.monotonic() > self.until:
                for tup in self.held:
                    self.ack(tup)
                self.held.clear()

    topology = rig.topology(ack_timeout_s=0.4)
    topology.spout("numbers", partial(Numbers, 3, notes=notes))
    topology.bolt("patient", Patient, inputs="numbers")
    rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3]
    assert notes.failed == []


def test_a_batch_that_is_being_filled_times_out_and_is_let_go(rig: Rig) -> None:
    """ENGINE 2.1: tuples that wait in a batch are held; one that timed out is not processed with the batch later."""
    notes = Notes()
    batches: list[list[tuple[int, int]]] = []

    class Store(BatchBolt):
        batch_size = 3
        batch_interval_s = 60.0

        def process_batch(self, tuples: Sequence[Tuple]) -> None:
            batches.append([(tup["n"], tup.attempt) for tup in tuples])

    class Rests(Numbers):
        def next_tuple(self) -> None:
            if self.n < 2 or self.notes.acked:
                super().next_tuple()

    topology = rig.topology(ack_timeout_s=0.05)
    topology.spout("numbers", partial(Rests, 3, notes=notes))
    topology.bolt("store", Store, inputs="numbers")
    report = rig.run(topology)
    # A tuple of a second attempt is a batch of its own.
    assert sorted(batches) == [[(1, 2)], [(2, 2)], [(3, 1)]]
    assert notes.reasons == ["timeout", "timeout"]
    assert report.counters["double_ack"] == 0


SUSPENDED = r"""
import sys, threading, time
from rainband import Bolt, Spout, TaskContext, Topology, Tuple

class One(Spout):
    outputs = ["n"]
    def next_tuple(self) -> None:
        self.emit(1, id=1)
        self.end()

class Holds(Bolt):
    auto_ack = False
    def process(self, tup: Tuple) -> None:
        self.tup = tup
        threading.Thread(target=self.keep).start()
    def keep(self) -> None:
        print("held", flush=True)
        began = time.monotonic()
        while time.monotonic() - began < 3.0:
            self.reset_timeout(self.tup)
            time.sleep(0.05)
        self.ack(self.tup)

topology = Topology("t", config={"state_dir": sys.argv[1], "ack_timeout_s": 1.0, "max_attempts": 1})
topology.spout("one", One)
topology.bolt("holds", Holds, inputs="one")
print(topology.run().components["holds"].failed)
"""


@in_one_process("runs a program of its own")
def test_a_suspended_machine_times_nothing_out(tmp_path: Path) -> None:
    """ENGINE 2.1: after a suspended machine wakes nothing expires before its holders have had the time to go on."""
    program = tmp_path / "program.py"
    program.write_text(SUSPENDED)
    command = [sys.executable, str(program), str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.3)  # the engine's own threshold for a suspension is 2 s
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "{}\n"
    assert process.returncode == 0


@in_one_process("such a call ends the process of its worker")
def test_one_call_that_never_ends_stops_the_run(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    """ENGINE 2.2: a synchronous call above `execute_timeout_s` stops the run with exit 1, the stacks are dumped."""
    over = threading.Event()

    class Stuck(Bolt):
        def process(self, n: int) -> None:
            self.in_this_very_call()

        def in_this_very_call(self) -> None:
            over.wait(20)

    topology = rig.topology(execute_timeout_s=0.1)
    topology.spout("numbers", partial(Numbers, 5))
    topology.bolt("stuck", Stuck, inputs="numbers")
    running = topology.start()
    wait_until(lambda: running.report().state == "failed")
    over.set()
    error = None
    try:
        running.wait(10)
    except Exception as caught:  # noqa: BLE001
        error = caught
    assert 'bolt "stuck" task 1: one call of user code has lasted longer than execute_timeout_s (0.1 s)' in str(error)
    assert "in_this_very_call" in capfd.readouterr().err
    report = running.report()
    assert report.pending == 4  # the call in progress came to its end all the same


def test_many_short_calls_are_not_taken_for_a_long_one(rig: Rig) -> None:
    """ENGINE 2.2: `execute_timeout_s` bounds one call, not a task that is busy all the time."""

    class Busy(Bolt):
        def process(self, n: int) -> None:
            until = time.monotonic() + 0.001
            while time.monotonic() < until:
                pass

    topology = rig.topology(execute_timeout_s=0.2)
    topology.spout("numbers", partial(Numbers, 600))
    topology.bolt("busy", Busy, inputs="numbers")
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 600


SHORT = 19 * 64
"""Calls that are short, before one batch of others: the engine has learnt by then to look up but once a batch."""


def test_calls_that_become_slow_are_counted_one_by_one(rig: Rig) -> None:
    """ENGINE 2.2, 4.6: after many short calls, long ones are not added up, and ticks come between them."""
    slow: list[int] = []
    slow_at_tick: list[int] = []

    class Slows(Bolt):
        tick_interval_s = 0.02

        def process(self, n: int) -> None:
            if n > SHORT:
                slow.append(n)
                time.sleep(0.01)

        def tick(self) -> None:
            slow_at_tick.append(len(slow))

    topology = rig.topology(execute_timeout_s=0.3)
    topology.spout("numbers", partial(Burst, SHORT + 64))
    topology.bolt("slows", Slows, inputs="numbers")
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == SHORT + 64
    assert len({n for n in slow_at_tick if 0 < n < 64}) >= 8


def test_a_stop_begins_no_further_call(rig: Rig) -> None:
    """ENGINE 5.5: `stop(now=True)` waits for the call in progress, also if those before it were short."""
    entered, gate = threading.Event(), threading.Event()
    begun: list[int] = []

    class Stands(Bolt):
        def process(self, n: int) -> None:
            if n > SHORT:
                begun.append(n)
                entered.set()
                gate.wait(DEADLINE_S)

    topology = rig.topology()
    topology.spout("numbers", partial(Burst, SHORT + 64))
    topology.bolt("stands", Stands, inputs="numbers")
    running = topology.start()
    assert entered.wait(DEADLINE_S)
    threading.Timer(0.1, gate.set).start()
    report = running.stop(now=True)
    assert begun == [SHORT + 1]
    assert report.components["stands"].executed == SHORT + 1


def test_a_loop_without_end_is_cut(rig: Rig) -> None:
    """ENGINE 2.2: a tuple that passed `max_hops` components fails its root for good."""
    notes = Notes()
    passes: list[int] = []

    class Round(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            passes.append(n)
            self.emit(n)

    topology = rig.topology(max_hops=50)
    topology.spout("numbers", partial(Numbers, 3, notes=notes))
    topology.bolt("round", Round, inputs=["numbers", "round"])
    report = rig.run(topology)
    assert [failure.reason for _, failure in notes.dead] == ["too many hops"] * 3
    assert "more than 50 emissions lie between it and its root" in notes.dead[0][1].error
    assert len(passes) == 3 * 51
    assert report.components["numbers"].roots.replays == 0


def test_a_chain_below_the_limit_passes(rig: Rig) -> None:
    """ENGINE 2.2: `max_hops` is the number of components a tuple may pass."""
    topology = rig.topology(max_hops=3)
    topology.spout("numbers", partial(Numbers, 3))
    topology.bolt("b1", Identity, inputs="numbers")
    topology.bolt("b2", Identity, inputs="b1")
    topology.bolt("b3", Quiet, inputs="b2")
    assert rig.run(topology).components["numbers"].roots.acked == 3


class Loses(Bolt):
    """Makes the engine lose first attempts, by a call that is there for this test alone."""

    auto_ack = False

    def process(self, tup: Tuple) -> None:
        if tup.attempt == 1:
            self._drop(tup)
        else:
            self.ack(tup)


def test_the_audit_finds_what_the_engine_lost(rig: Rig, runs: Runs) -> None:
    """ENGINE 2.2: a root older than `audit_s` that nobody holds fails as `lost`, is counted and comes again."""
    notes = Notes()
    runs.expected_lost = 4
    topology = rig.topology(audit_s=0.1)
    topology.spout("numbers", partial(Numbers, 4, notes=notes))
    topology.bolt("loses", Loses, inputs="numbers")
    report = rig.run(topology)
    assert notes.reasons == ["lost"] * 4
    assert "this is a bug of rainband" in notes.failed[0][1].error
    assert sorted(notes.acked) == [1, 2, 3, 4]
    assert report.counters["lost"] == 4


def test_the_audit_leaves_what_somebody_holds(rig: Rig) -> None:
    """ENGINE 2.2: roots that are held, queued behind a slow bolt, in a call, or in backoff are not lost."""
    notes = Notes()
    held: list[tuple[Bolt, Tuple, float]] = []

    class Slow(Bolt):
        outputs = ["n"]

        def process(self, n: int, tup: Tuple) -> None:
            time.sleep(0.005)
            if n % 5 == 0 and tup.attempt == 1:
                raise ValueError(n)
            self.emit(n)

    class Keeps(Bolt):
        auto_ack = False

        def process(self, tup: Tuple) -> None:
            held.append((self, tup, 0.0))

    topology = rig.topology(audit_s=0.03, queue_capacity=2, retry_backoff_s=0.3)
    topology.spout("numbers", partial(Numbers, 50, notes=notes))
    topology.bolt("before", Identity, inputs="numbers")
    topology.bolt("slow", Slow, inputs="before")
    topology.bolt("keeps", Keeps, inputs="slow")
    running = topology.start()
    wait_until(lambda: len(held) == 50)
    began = time.monotonic()
    while time.monotonic() - began < 0.2:
        assert running.wait(0.01) is None
    for bolt, tup, _ in held:
        bolt.ack(tup)
    report = rig.finish(running)
    assert notes.reasons == ["error"] * 10
    assert report.counters["lost"] == 0


def test_the_audit_sees_what_waits_before_a_full_queue(rig: Rig) -> None:
    """ENGINE 2.2: what a task took from its queue or emitted, and cannot pass on yet, is held by it, not lost."""
    import asyncio  # noqa: PLC0415

    class Naps(Bolt):
        async def process(self, n: int) -> None:
            await asyncio.sleep(0.02)

    notes = Notes()
    topology = rig.topology(audit_s=0.02, queue_capacity=1)
    topology.spout("numbers", partial(Numbers, 40, notes=notes))
    topology.bolt("before", Identity, inputs="numbers", config={"queue_capacity": 64})
    topology.bolt("naps", Naps, inputs="before", config={"concurrency": 1})
    report = rig.run(topology)
    assert notes.failed == []
    assert report.components["numbers"].roots.acked == 40


def test_the_audit_sees_what_a_spout_emitted_in_a_call_that_blocks(rig: Rig) -> None:
    """ENGINE 2.2: a spout that waits in `emit` has what it emitted before; its consumer is in no call meanwhile."""
    import asyncio  # noqa: PLC0415

    class Bursts(Spout):
        outputs = ["n"]
        has_emitted = False

        def next_tuple(self) -> None:
            if self.has_emitted:
                self.end()
                return
            self.has_emitted = True
            time.sleep(0.05)  # the timer looks
            for n in range(200):
                self.emit(n, id=n)

    class Naps(Bolt):
        async def process(self, n: int) -> None:
            await asyncio.sleep(1.0 if n == 0 else 0)

    topology = rig.topology(audit_s=0.1)
    topology.spout("bursts", Bursts)
    topology.bolt("naps", Naps, inputs="bursts", config={"concurrency": 1, "queue_capacity": 1})
    report = rig.run(topology)
    assert (report.counters["lost"], report.components["bursts"].roots.replays) == (0, 0)


def test_the_run_keeps_its_clock_whatever_the_wall_clock_says(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENGINE 2.1: only monotonic time counts; a wall clock that jumps by years times nothing out."""
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: next(jumps) * 1e6)
    seen: list[int] = []
    topology = rig.topology(ack_timeout_s=5.0)
    topology.spout("numbers", partial(Numbers, 20))
    topology.bolt("seen", partial(Collect, seen), inputs="numbers")
    assert rig.run(topology).components["numbers"].roots.replays == 0
