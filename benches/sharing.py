"""No cliff on the other side: keeping executors on one core must not slow those that could use two.

Bolts that sleep or compress run in parallel; the word count moves away from a core that another process burns, compared
with the floor under the same burden; and nothing that user code starts inherits a restriction to one core.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import counting
import floor
from measure import Figure, check, main, seconds
from sources import Numbers

from rainband import Bolt, Topology

BLOCK = random.Random(5).choices([b"storm ", b"rain ", b"band ", b"cloud ", b"drop ", b"wind ", b"front "], k=60_000)
BLOCK = b"".join(BLOCK)[: 256 * 1024]
BURN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


class Sleep(Bolt):
    def process(self, n):  # noqa: ARG002 - bound by name
        time.sleep(0.005)


class Compress(Bolt):
    def process(self, n):  # noqa: ARG002 - bound by name
        zlib.compress(BLOCK)


def spread_s(bolt, total, parallelism):
    topology = Topology("spread")
    topology.spout("numbers", partial(Numbers, total))
    topology.bolt("work", bolt, inputs="numbers", parallelism=parallelism)
    start = time.perf_counter()
    report = topology.run()
    took = time.perf_counter() - start
    executed = report.components["work"].executed
    check(executed == report.components["numbers"].roots.acked == total, f"{bolt.__name__}: {executed} of {total}")
    return took


def plain_threads_s(total, threads):
    """The same compression by plain threads: what this machine gives at most."""

    def work():
        for _ in range(total // threads):
            zlib.compress(BLOCK)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def parallel(options):
    sleeping = Figure("bolt that sleeps 5 ms, 4 tasks ÷ 1", at_least=3.6)
    compressing = Figure("bolt that compresses 256 kB, 2 tasks ÷ 1", at_least=1.7)
    threads = Figure("the same compression in plain threads, 2 ÷ 1")
    share = Figure("compression, 2 tasks ÷ 2 plain threads")
    spread_s(Sleep, 4, 2)
    for _ in range(options.rounds):
        n = options.size(300)
        sleeping.add(spread_s(Sleep, n, 1) / spread_s(Sleep, n, 4))
        n = options.size(100)
        one, two = spread_s(Compress, n, 1), spread_s(Compress, n, 2)
        plain_one, plain_two = plain_threads_s(n, 1), plain_threads_s(n, 2)
        compressing.add(one / two)
        threads.add(plain_one / plain_two)
        share.add(plain_two / two)
    return [sleeping, compressing, threads, share]


@contextlib.contextmanager
def burning(core):
    """Another process that burns that core."""
    with subprocess.Popen([sys.executable, "-c", BURN, str(core)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def burdened(options):
    lines = floor.zipf_lines(options.size(floor.LINES))
    expected = floor.counted(lines)
    figures = []
    for core in sorted(os.sched_getaffinity(0))[:2]:
        figure = Figure(f"word count ÷ floor while another process burns core {core}", at_least=1.3)
        with burning(core):
            for _ in range(options.rounds):
                reference = seconds(lambda: floor.word_count(lines))
                figure.add(reference / counting.run("plain emit", lines, expected))
        figures.append(figure)
    return figures


class Starts(Bolt):
    """Starts a child and a pool in the middle of the run, when the executors have long been kept on one core."""

    def __init__(self, at, seen):
        self.at = at
        self.seen = seen

    def process(self, n):
        if n == self.at:
            command = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
            self.seen["child"] = int(subprocess.run(command, capture_output=True, check=True).stdout)
            with ThreadPoolExecutor(1) as pool:
                self.seen["pool"] = len(pool.submit(os.sched_getaffinity, 0).result())


def inherited(options):
    cores = len(os.sched_getaffinity(0))
    child = Figure("cores that a child process of process() sees ÷ all", at_least=1)
    pool = Figure("cores that a thread pool of process() sees ÷ all", at_least=1)
    total = options.size(100_000)
    for _ in range(options.rounds):
        seen = {}
        topology = Topology("starts")
        topology.spout("numbers", partial(Numbers, total))
        topology.bolt("starts", partial(Starts, total // 2, seen), inputs="numbers")
        topology.run()
        check(set(seen) == {"child", "pool"}, f"only {set(seen)} was started")
        child.add(seen["child"] / cores)
        pool.add(seen["pool"] / cores)
    return [child, pool]


if __name__ == "__main__":
    main(__doc__.splitlines()[0], lambda options: parallel(options) + burdened(options) + inherited(options))
