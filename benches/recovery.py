"""Worker processes that die, and that have nothing to do: from a SIGKILL to acks; processor time of idle workers.

A spout in worker 0 emits without end to a bolt in worker 1, which is killed. What was acked before its death may still
be on its way, so the first new ack is the one that ends the longest silence after the kill. The full rate is there
again with the first quarter of a second that has nine tenths of the rate before the kill. A run is killed once: with
each further death the pause before a restart doubles.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path

import across
from measure import Figure, check, main
from worker_runs import begin, found, told

BEFORE_S = 1.5
AFTER_S = 4.0
LEAST_KILLS = 20
WINDOW = round(0.25 / across.BUCKET_S)
FULL = 0.9


def children():
    """The worker processes: (pid, worker)."""
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            label = next((word.decode() for word in words if word.startswith(b"worker ")), None)
            if label is not None:
                yield pid, int(label.split()[1])


def wait_until_running(run):
    """Until the spouts are let go: all workers are there."""
    until = time.monotonic() + 60
    while run.report().state != "running":
        check(time.monotonic() < until, f"{run.report().state} after 60 s")
        time.sleep(0.05)


def one_death():
    """Seconds from the kill to the first new ack, and to the full rate."""
    with told() as kept:
        run = begin(across.endless)
        wait_until_running(run)
        time.sleep(BEFORE_S)
        victim = next(pid for pid, worker in children() if worker == 1)
        killed = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        time.sleep(AFTER_S)
        report = run.stop()
        roots = report.components["source"].roots
        check(roots.emitted == roots.acked and roots.replays > 0, f"{roots}, expected all acked, some after a replay")
        spout = found(kept, "spout")
    silences = [(end - begin_, end) for begin_, end in spout["gaps"] if begin_ and end > killed]
    check(bool(silences), "no silence after the kill")
    first = max(silences)[1] - killed
    return first, full_rate_s(spout["acks"], killed)


def full_rate_s(acks, killed):
    """From the kill to the end of the first window with the rate of the seconds before it."""
    counts, last = dict(acks), int(killed / across.BUCKET_S)
    before = statistics.median(counts.get(last - back, 0) for back in range(1, int(1 / across.BUCKET_S)))
    has_fallen = False
    for bucket in range(last + 1, max(counts) - WINDOW):
        rate = statistics.fmean(counts.get(bucket + offset, 0) for offset in range(WINDOW))
        has_fallen |= rate < before / 2
        if has_fallen and rate >= FULL * before:
            return (bucket + WINDOW) * across.BUCKET_S - killed
    return AFTER_S


def deaths(options):
    first = Figure("SIGKILL of a worker to the first new ack", unit="ms", at_most=1000, digits=0)
    full = Figure("SIGKILL of a worker to the full rate", unit="ms", at_most=3000, digits=0)
    for _ in range(options.rounds if options.quick else max(LEAST_KILLS, options.rounds)):
        to_ack, to_rate = one_death()
        first.add(to_ack * 1000)
        full.add(to_rate * 1000)
    return [first, full]


def used_s(pids):
    """Processor seconds of all threads of these processes."""
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def idles(options):
    together = Figure("two idle workers and their supervisor, of one core", unit="%", at_most=2)
    alone = Figure("of that the supervisor", unit="%")
    lasting_s = 2 if options.quick else 5
    for _ in range(options.rounds):
        with told():
            run = begin(across.idle)
            wait_until_running(run)
            time.sleep(1)
            pids = [os.getpid(), *(pid for pid, _ in children())]
            check(len(pids) == 3, f"{len(pids) - 1} workers")
            start, before, own = time.perf_counter(), used_s(pids), used_s(pids[:1])
            time.sleep(lasting_s)
            took = time.perf_counter() - start
            together.add((used_s(pids) - before) / took * 100)
            alone.add((used_s(pids[:1]) - own) / took * 100)
            run.stop()
    return [together, alone]


if __name__ == "__main__":
    main(__doc__.splitlines()[0], lambda options: deaths(options) + idles(options))
