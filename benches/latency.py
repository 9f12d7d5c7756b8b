"""Milliseconds: source to ack at half of the highest rate, and how soon the output of a slow bolt is downstream.

The load is open: every tuple has a time at which it is due, whether or not the engine keeps up, and its latency
counts from that time to the call of the spout's `ack`. So a pause of the engine shows in every tuple due in it.

The slow bolt takes 5 ms a call and its queue is full: it gets its input in batches, and must not keep its first output
until the batch is through. Once it is slow from its first call, once only after 2,000 short ones, when the engine takes
it for a quick one. Counted from the begin of the call that emits.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

from measure import Figure, check, main
from sources import Numbers

from rainband import Bolt, Spout, Topology

SLOW_S = 0.005
SHORT_CALLS = 2000
"""That the bolt makes before its first slow one."""
EMITTED_PER_CALL = 64
"""Of the spout that measures the highest rate."""


class Due(Spout):
    outputs = ["n"]

    def __init__(self, total, rate, latencies):
        self.total = total
        self.interval = 1 / rate
        self.latencies = latencies
        self.n = 0

    def open(self, context):  # noqa: ARG002 - a hook
        self.start = time.perf_counter() + 0.05

    def next_tuple(self):
        due = min(self.total, int((time.perf_counter() - self.start) / self.interval))
        while self.n < due:
            self.emit(self.n, id=self.n)
            self.n += 1
        if self.n == self.total:
            self.end()

    def ack(self, n):
        self.latencies.append(time.perf_counter() - self.start - (n + 1) * self.interval)  # tuple 0 is due after one


class AtOnce(Due):
    def next_tuple(self):
        for _ in range(EMITTED_PER_CALL):
            self.emit(self.n, id=self.n)
            self.n += 1
        if self.n >= self.total:
            self.end()


class Identity(Bolt):
    outputs = ["n"]

    def process(self, n):
        self.emit(n)


class Null(Bolt):
    def process(self, n):
        pass


def chain(spout, total, rate):
    """Latencies of all tuples, sorted, and the seconds of the run."""
    latencies = []
    topology = Topology("latency")
    topology.spout("due", partial(spout, total, rate, latencies))
    topology.bolt("identity", Identity, inputs="due")
    topology.bolt("null", Null, inputs="identity")
    start = time.perf_counter()
    report = topology.run()
    took = time.perf_counter() - start
    executed = report.components["null"].executed
    check(len(latencies) == executed, f"{executed} executed, {len(latencies)} acked")
    check(report.components["due"].roots.acked == executed, f"{report.components['due'].roots}, executed {executed}")
    return sorted(latencies), took


def open_loop(options):
    p50 = Figure("source to ack at half of the highest rate, p50", unit="ms", at_most=0.3, digits=3)
    p99 = Figure("source to ack at half of the highest rate, p99", unit="ms", at_most=5, digits=3)
    low50 = Figure("source to ack at 1,000/s, p50", unit="ms", digits=3)
    low99 = Figure("source to ack at 1,000/s, p99", unit="ms", digits=3)
    highest = Figure("the highest rate, acks seen by the spout", unit="k/s", digits=0)
    at_full = options.size(500_000)
    lasting_s = 1 if options.quick else 2
    chain(AtOnce, 1000, 1e6)
    for _ in range(options.rounds):
        _, took = chain(AtOnce, at_full, 1e6)
        rate = at_full / took
        highest.add(rate / 1000)
        for load, median, tail in ((rate / 2, p50, p99), (1000, low50, low99)):
            latencies, _ = chain(Due, int(load * lasting_s), load)
            median.add(latencies[len(latencies) // 2] * 1000)
            tail.add(latencies[len(latencies) * 99 // 100] * 1000)
    return [p50, p99, low50, low99, highest]


def busy():
    end = time.perf_counter() + SLOW_S
    while time.perf_counter() < end:
        pass


def sleeping():
    time.sleep(SLOW_S)


class Slow(Bolt):
    outputs = ["began"]

    def __init__(self, work, short_calls):
        self.work = work
        self.short_calls = short_calls

    def process(self, n):
        began = time.perf_counter()
        if n < self.short_calls:
            return
        self.work()
        self.emit(began)


class Arrivals(Bolt):
    def __init__(self, delays):
        self.delays = delays

    def process(self, began):
        self.delays.append(time.perf_counter() - began)


def slow_delays(work, short_calls, total):
    delays = []
    topology = Topology("slow")
    topology.spout("flood", partial(Numbers, short_calls + total))
    topology.bolt("slow", partial(Slow, work, short_calls), inputs="flood")
    topology.bolt("arrivals", partial(Arrivals, delays), inputs="slow")
    topology.run()
    check(len(delays) == total, f"slow bolt: {len(delays)} of {total} outputs arrived")
    return delays


def slow_bolt(options):
    figures = []
    total = 60 if options.quick else 150
    cases = [
        ("busy Python", busy, 0),
        ("busy Python after short calls", busy, SHORT_CALLS),
        ("sleeping", sleeping, 0),
        ("sleeping after short calls", sleeping, SHORT_CALLS),
    ]
    for name, work, short_calls in cases:
        first = Figure(f"bolt of 5 ms, {name}: its first output is downstream after", unit="ms", at_most=12)
        middle = Figure(f"bolt of 5 ms, {name}: median of all its outputs", unit="ms")
        worst = Figure(f"bolt of 5 ms, {name}: worst of all its outputs", unit="ms")
        for _ in range(options.rounds):
            delays = [delay * 1000 for delay in slow_delays(work, short_calls, total)]
            first.add(delays[0])
            middle.add(statistics.median(delays))
            worst.add(max(delays))
        figures += [first, middle, worst]
    return figures


if __name__ == "__main__":
    main(__doc__.splitlines()[0], lambda options: open_loop(options) + slow_bolt(options))
