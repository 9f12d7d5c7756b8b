"""Bytes: of a pending root in a queue and in backoff, over many acks, fails and late acks, and of the word count.

Every value is of a process of its own (this file with a case as its argument), because freed memory stays with a
process. What a root costs is the growth of the resident set while a million roots come to be pending, whose ids and
values all exist beforehand in a list. "queued": the bolt's first call blocks, the others wait in its queue. "backoff":
the bolt has failed all, nothing is in a queue. In both the settings only make room for so many.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path

import counting
import floor
from measure import HERE, Figure, check, main

from rainband import Bolt, Spout, Topology, Tuple

CHURN_FAILS_EVERY = 3
CHURN_HOLDS = 100
ROOM = 2**20


def resident(key="VmRSS"):
    """Bytes of this process that are in memory; with VmHWM the most there ever were."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


class Rows(Spout):
    outputs = ["value"]

    def __init__(self, ids, values):
        self.rows = zip(ids, values, strict=True)

    def next_tuple(self):
        row = next(self.rows, None)
        if row is None:
            self.end()
        else:
            self.emit(row[1], id=row[0])


class Blocks(Bolt):
    def __init__(self, gate):
        self.gate = gate

    def process(self, value):  # noqa: ARG002 - bound by name
        self.gate.wait()


class Refuses(Bolt):
    auto_ack = False

    def process(self, tup: Tuple):
        self.fail(tup, "later")


def pending(case, roots):
    """Bytes per root beyond the list of ids and values, once all are pending."""
    gate = threading.Event()
    warm = Topology("warm")  # what a first run imports is not what a root costs
    warm.spout("rows", partial(Rows, [1], ["x"]))
    warm.bolt("bolt", Ignores, inputs="rows")
    warm.run()
    ids = list(range(1_000_000, 1_000_000 + roots))
    values = [f"value {i}" for i in ids]
    room = {"max_pending": ROOM, "queue_capacity": ROOM, "queue_bytes": 2**34, "retry_backoff_s": 3600.0}
    topology = Topology("pending", config=room | {"retry_backoff_max_s": 3600.0})
    topology.spout("rows", partial(Rows, ids, values))
    topology.bolt("bolt", partial(Blocks, gate) if case == "queued" else Refuses, inputs="rows")
    gc.collect()
    before = resident()
    run = topology.start()
    deadline = time.monotonic() + 60
    while not _all_pending(run.report(), case, roots):
        check(time.monotonic() < deadline, f"{case}: {roots} roots never were pending: {run.report()}")
        time.sleep(0.05)
    time.sleep(0.3)
    after = resident()
    gate.set()
    if case == "queued":
        check(run.wait(60).components["rows"].roots.acked == roots, "queued: not every root was acked in the end")
    else:
        run.stop(now=True)
    return (after - before) / roots


class Ignores(Bolt):
    def process(self, value):
        pass


def _all_pending(report, case, roots):
    failed = report.components["bolt"].failures
    return report.components["rows"].roots.pending == roots and (case == "queued" or failed == roots)


class FailsSome(Bolt):
    """Fails the first attempt of every third root, at once."""

    auto_ack = False

    def process(self, tup: Tuple):
        if tup.attempt == 1 and tup[0] % CHURN_FAILS_EVERY == 0:
            self.fail(tup, "some")
        else:
            self.ack(tup)


class AcksLate(Bolt):
    """Acks when a hundred more have come, so that its ack of a failed attempt is late."""

    auto_ack = False

    def __init__(self):
        self.held = deque()

    def process(self, tup: Tuple):
        self.held.append(tup)
        if len(self.held) > CHURN_HOLDS:
            self.ack(self.held.popleft())

    def flush(self):
        while self.held:
            self.ack(self.held.popleft())


class Churning(Rows):
    """Notes the resident set twenty times on its way."""

    def __init__(self, roots, samples):
        self.roots = roots
        self.samples = samples
        self.n = 0

    def next_tuple(self):
        if self.n % (self.roots // 20) == 0:
            self.samples.append(resident())
        if self.n == self.roots:
            self.end()
            return
        self.emit(self.n, id=self.n)
        self.n += 1


def churn(roots):
    """Growth in MB from the second tenth to the last; how many acks were late, how many roots were replayed."""
    samples = []
    topology = Topology("churn", config={"retry_backoff_s": 0.0})
    topology.spout("rows", partial(Churning, roots, samples))
    topology.bolt("fails", FailsSome, inputs="rows")
    topology.bolt("late", AcksLate, inputs="rows")
    report = topology.run()
    account = report.components["rows"].roots
    check(account.acked == roots, f"churn: {account}")
    check(account.replays == (roots + CHURN_FAILS_EVERY - 1) // CHURN_FAILS_EVERY, f"churn: {account}")
    late = sum(n for name, n in report.counters.items() if "late" in name)
    check(late > 0, f"churn: no late acks, counters {report.counters}")
    return [(max(samples[-2:]) - max(samples[2:4])) / 1e6, late, account.replays]


def word_count(lines):
    """The most memory of a process that counts words, without its input, in MB."""
    empty = resident()
    rows = floor.zipf_lines(lines)
    gc.collect()
    size = resident() - empty
    expected = floor.counted(rows)
    counting.run("plain emit", rows, expected)
    return (resident("VmHWM") - size) / 1e6


CASES = {
    "queued": partial(pending, "queued"),
    "backoff": partial(pending, "backoff"),
    "churn": churn,
    "count": word_count,
}


def child(case, n):
    """The value of a case, measured in a new process."""
    command = [sys.executable, str(HERE / "memory.py"), "--case", case, str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=os.environ)
    check(done.returncode == 0, f"memory, {case}: exit code {done.returncode}")
    return json.loads(done.stdout)


def body(options):
    roots = options.size(1_000_000)
    churned = 10_000_000 if options.full else roots
    bytes_in = {
        "queued": Figure(f"pending root, {roots:,} in a queue", unit="bytes", at_most=150, digits=0),
        "backoff": Figure(f"pending root, {roots:,} in backoff", unit="bytes", at_most=150, digits=0),
    }
    counting = Figure("word count, the most memory beyond its input", unit="MB", at_most=100, digits=0)
    growth = Figure(f"growth over {churned:,} roots acked, failed, acked late", unit="MB", at_most=2)
    for _ in range(options.rounds):
        for case, figure in bytes_in.items():
            figure.add(child(case, roots))
        counting.add(child("count", options.size(floor.LINES)))
    # Many rounds would only say the same again: what leaks, leaks in each.
    grown, late, failed = child("churn", churned)
    growth.add(grown)
    print(f"acked late: {late:,}; failed and replayed: {failed:,}\n")
    return [*bytes_in.values(), growth, counting]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(CASES[sys.argv[2]](int(sys.argv[3]))))
    else:
        main(__doc__.splitlines()[0], body)
