"""`make chaos`: a thousand kills of workers and supervisors under settings drawn at random; prints what came of it.

Each run has its own seed, and `long.py --seed N --runs 1` repeats one. Exit code 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from bisect import bisect_left, bisect_right
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_check import Tracks, check, read
from chaos_run import Chaos, wait_until

WINDOW_NS = 200_000_000
FULL_SHARE = 0.8  # of the pace, over a window


@dataclass
class Plan:
    """One run, drawn from its seed."""

    seed: int
    kills: int
    pace: int = 1500
    bursts: bool = False
    ends_by: str = "source"  # or "drain", or "supervisor" killed; then a second run goes on
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def draw(cls, seed: int, kills: int) -> Plan:
        chance = random.Random(seed)
        settings = {
            "max_pending": chance.choice([1, 20, 200, 200, 1000]),
            "transport": chance.choice(["ipc", "ipc", "ipc", "tcp"]),
            "link_bytes": chance.choice([1000, 2**20, 2**20]),
            "queue_capacity": chance.choice([1, 64, 1024]),
        }
        pace = chance.choice([1500, 1500, 0])
        return cls(seed, kills, pace, chance.random() < 0.4, chance.choice(["source", "drain", "supervisor"]), settings)

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"seed {self.seed}: pace={self.pace} bursts={self.bursts} ends_by={self.ends_by} {told}"


@dataclass
class Outcome:
    """What one run gave."""

    kills: Counter[str] = field(default_factory=Counter)
    records: int = 0
    lost: int = 0
    duplicates: int = 0
    first_s: list[float] = field(default_factory=list)  # from a kill to the first ack of something emitted later
    full_s: list[float] = field(default_factory=list)  # … to the full rate
    error: str = ""


def carry_out(plan: Plan, folder: Path) -> Outcome:
    outcome = Outcome()
    chance = random.Random(plan.seed + 1)
    chaos = Chaos(folder, settings=dict(plan.settings))
    try:
        _harm(plan, chaos, chance, outcome)
        found = read(chaos.tracks, chaos.state)
        outcome.records = found.end or len(found.emitted)
        outcome.lost, outcome.duplicates = len(found.lost), found.duplicates
        _time(plan, chaos, found, outcome)
        check(found, chaos.reports, deaths=sum(outcome.kills.values()), max_pending=plan.settings["max_pending"])
    except AssertionError as error:
        outcome.error = f"{plan}\n{error}"
    except Exception:  # noqa: BLE001 - the others go on
        outcome.error = f"{plan}\n{traceback.format_exc()}"
    finally:
        if left := chaos.close():
            outcome.error += f"\n{plan}: processes outlived their run: {left}"
    return outcome


def _harm(plan: Plan, chaos: Chaos, chance: random.Random, outcome: Outcome) -> None:
    chaos.start(pace=plan.pace)
    chaos.wait_for_acks(20)
    chaos.kill_at_random(plan.kills, chance, bursts=plan.bursts)
    assert chaos.process is not None
    if plan.ends_by == "supervisor":
        chaos.process.kill()
        chaos.process.wait()
        outcome.kills["supervisor"] += 1
        wait_until(lambda: not chaos.processes(), "the end of all workers")
        chaos.start(pace=plan.pace)
    elif plan.ends_by == "drain":
        chaos.wait_for_acks(20)
        chaos.process.send_signal(signal.SIGTERM)
        chaos.kill(chance.randrange(chaos.workers))  # if it was the source's, the next run emits what was pending there
        code = chaos.finish(90)
        assert code == 0, f"drained, exit code {code}\n{chaos.stderr[-3000:]}"
        chaos.start(pace=plan.pace)
    chaos.wait_for_acks(20)
    chaos.enough()
    code = chaos.finish(90)
    outcome.kills += Counter(["source", "halves", "sink"][kill.worker] for kill in chaos.kills)
    assert code == 0, f"exit code {code}\n{chaos.stderr[-3000:]}"


def _time(plan: Plan, chaos: Chaos, found: Tracks, outcome: Outcome) -> None:
    """How long each kill was felt."""
    acks = sorted(when for life in found.lives for when in life.acked.values())
    emitted: dict[int, int] = {}
    for life in found.lives:
        for n, when in life.emitted.items():
            emitted[n] = min(when, emitted.get(n, when))
    fresh = sorted((when, emitted[n]) for life in found.lives for n, when in life.acked.items())
    for kill in chaos.kills:
        first = next((when for when, begun in fresh[bisect_left(acks, kill.at_ns) :] if begun > kill.at_ns), None)
        if first is None:
            continue
        outcome.first_s.append((first - kill.at_ns) / 1e9)
        wanted = plan.pace * FULL_SHARE * WINDOW_NS / 1e9
        if wanted:
            begins = range(first, acks[-1] - WINDOW_NS, WINDOW_NS // 4)
            full = next((t for t in begins if bisect_right(acks, t + WINDOW_NS) - bisect_left(acks, t) >= wanted), None)
            if full is not None:
                outcome.full_s.append((full - kill.at_ns) / 1e9)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--kills-a-run", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="the folders of runs that went wrong")
    args = parser.parse_args()
    runs = args.runs or -(-args.kills // args.kills_a_run)
    began = time.monotonic()
    total, failures = Outcome(), []
    base = Path(tempfile.mkdtemp(prefix="chaos-"))
    with ThreadPoolExecutor(args.jobs) as pool:
        plans = [Plan.draw(seed, args.kills_a_run) for seed in range(args.seed, args.seed + runs)]
        waiting = {pool.submit(carry_out, plan, base / str(plan.seed)): plan for plan in plans}
        for done, future in enumerate(as_completed(waiting), 1):
            outcome, folder = future.result(), base / str(waiting[future].seed)
            _add(total, outcome)
            if outcome.error:
                failures.append(outcome.error)
                print(outcome.error, flush=True)
            if not (args.keep and outcome.error):
                shutil.rmtree(folder, ignore_errors=True)
            kills = sum(total.kills.values())
            print(
                f"{done} of {runs} runs, {kills} kills, {total.records} records, {total.lost} lost, "
                f"{total.duplicates} duplicates, {len(failures)} runs gone wrong, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    if not (args.keep and failures):
        shutil.rmtree(base, ignore_errors=True)
    _report(total, failures)
    return 1 if failures or total.lost else 0


def _add(total: Outcome, outcome: Outcome) -> None:
    total.kills += outcome.kills
    total.records += outcome.records
    total.lost += outcome.lost
    total.duplicates += outcome.duplicates
    total.first_s += outcome.first_s
    total.full_s += outcome.full_s


def _report(total: Outcome, failures: list[str]) -> None:
    print("\nkills      " + ", ".join(f"{count} {name}" for name, count in sorted(total.kills.items())))
    print(f"records    {total.records}, lost {total.lost}, duplicates {total.duplicates}")
    for what, times in (("first ack", total.first_s), ("full rate", total.full_s)):
        if times:
            print(f"{what}  median {statistics.median(times):.2f} s, max {max(times):.2f} s after a kill")
    print(f"wrong      {len(failures)} runs")


if __name__ == "__main__":
    sys.exit(main())
