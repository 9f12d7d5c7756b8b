"""Records per second: the word count against the floor, the shortest topology against bare calls, the cost of a hop.

Each arm of the word count runs right after a run of the floor and is divided by that one. The null topology runs until
it is stopped; its rate is read twice while it runs, so that start and end are not in it. The hop is the difference of
chains with three and with one identity bolt, of the same number of tuples.
"""

from __future__ import annotations

import time
from functools import partial

import counting
import floor
from measure import Figure, check, main, seconds
from sources import Numbers

from rainband import Bolt, Spout, Topology


class Constant(Spout):
    outputs = ["n"]

    def next_tuple(self):
        self.emit(1, id=1)


class Identity(Bolt):
    outputs = ["n"]

    def process(self, n):
        self.emit(n)


class Null(Bolt):
    def process(self, n):
        pass


def word_counts(options):
    lines = floor.zipf_lines(options.size(floor.LINES))
    expected = floor.counted(lines)
    check(floor.word_count(lines) == expected, "the floor counted wrong")
    check(floor.bare_word_count(lines) == expected, "the bare loop counted wrong")
    counting.run("plain emit", lines[:1000], floor.counted(lines[:1000]))  # imports what a first run imports
    bars = {
        "plain emit": 1.6,
        "generator split": 1.6,
        "process(tup: Tuple)": 1.3,
        "2 split + 2 count": 1.4,
        "unacked": None,
    }
    figures = {arm: Figure(f"word count, {arm} ÷ floor", at_least=bar) for arm, bar in bars.items()}
    acked = Figure("word count, acked ÷ unacked", at_least=0.75)
    rate = Figure("word count, plain emit, lines/s", unit="k/s", digits=0)
    base = Figure("the floor, lines/s", unit="k/s", digits=0)
    bare = Figure("the same work in one loop, no call or object per word ÷ floor")
    for _ in range(options.rounds):
        took = {}
        for arm, figure in figures.items():
            reference = seconds(lambda: floor.word_count(lines))
            took[arm] = counting.run(arm, lines, expected)
            figure.add(reference / took[arm])
            base.add(len(lines) / reference / 1000)
        bare.add(reference / seconds(lambda: floor.bare_word_count(lines)))
        # Both from the same seconds: the unacked arm again right after the acked one.
        again = counting.run("plain emit", lines, expected)
        acked.add(took["unacked"] / again)
        rate.add(len(lines) / took["plain emit"] / 1000)
    return [*figures.values(), acked, rate, base, bare]


def null_rate(measured_s):
    """Roots acked per second of a constant spout and a null bolt."""
    topology = Topology("null")
    topology.spout("constant", Constant)
    topology.bolt("null", Null, inputs="constant")
    run = topology.start()
    time.sleep(0.1)
    first, start = run.report().components["constant"].roots.acked, time.perf_counter()
    time.sleep(measured_s)
    last, end = run.report().components["constant"].roots.acked, time.perf_counter()
    report = run.stop()
    roots, executed = report.components["constant"].roots, report.components["null"].executed
    check(roots.emitted == roots.acked == executed, f"null: {roots}, executed {executed}")
    return (last - first) / (end - start)


def nulls(options):
    share = Figure("constant spout → null bolt, acked ÷ two empty calls", at_least=0.5)
    rate = Figure("constant spout → null bolt, roots/s", unit="k/s", digits=0)
    calls = Figure("two empty calls from native code", unit="ns", digits=1)
    for _ in range(options.rounds):
        before = floor.two_calls_ns(options.size(1_000_000))
        roots_per_s = null_rate(0.2 if options.quick else 0.6)
        reference = (before + floor.two_calls_ns(options.size(1_000_000))) / 2
        share.add(roots_per_s * reference / 1e9)
        rate.add(roots_per_s / 1000)
        calls.add(reference)
    return [share, rate, calls]


def chain_s(hops, n):
    topology = Topology("chain")
    topology.spout("numbers", partial(Numbers, n))
    before = "numbers"
    for hop in range(hops):
        topology.bolt(f"identity{hop}", Identity, inputs=before)
        before = f"identity{hop}"
    topology.bolt("null", Null, inputs=before)
    start = time.perf_counter()
    report = topology.run()
    took = time.perf_counter() - start
    executed = report.components["null"].executed
    check(executed == report.components["numbers"].roots.acked == n, f"chain of {hops}: {executed} of {n} arrived")
    return took


def hops(options):
    n = options.size(500_000)
    share = Figure("one more hop ÷ (call in, call out, a tuple made)", at_most=2.0)
    cost = Figure("one more hop", unit="ns", digits=0)
    base = Figure("call in, call out, a tuple made", unit="ns", digits=1)
    for _ in range(options.rounds):
        before = floor.one_hop_ns(n)
        short, long = chain_s(1, n), chain_s(3, n)
        reference = (before + floor.one_hop_ns(n)) / 2
        hop_ns = (long - short) / 2 / n * 1e9
        share.add(hop_ns / reference)
        cost.add(hop_ns)
        base.add(reference)
    return [share, cost, base]


if __name__ == "__main__":
    main(__doc__.splitlines()[0], lambda options: word_counts(options) + nulls(options) + hops(options))
