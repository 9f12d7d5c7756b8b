"""The word count as topologies: one spout, split, count; every component a class, as users write them.

Used by throughput, sharing and memory. The default configuration, nothing pinned. `run` returns the seconds of the
whole `Topology.run()`, from the check of the topology to the last thread's end, and refuses a wrong count.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from functools import partial

from measure import check

from rainband import Bolt, Spout, Topology, Tuple, grouping


class Lines(Spout):
    outputs = ["line"]

    def __init__(self, lines):
        self.rows = enumerate(lines)

    def next_tuple(self):
        row = next(self.rows, None)
        if row is None:
            self.end()
        else:
            self.emit(row[1], id=row[0])


class UntrackedLines(Lines):
    def next_tuple(self):
        row = next(self.rows, None)
        if row is None:
            self.end()
        else:
            self.emit(row[1])


class Split(Bolt):
    outputs = ["word"]

    def process(self, line):
        for word in line.split():
            self.emit(word)


class SplitYielding(Bolt):
    outputs = ["word"]

    def process(self, line):
        yield from line.split()


class SplitTuple(Bolt):
    outputs = ["word"]

    def process(self, tup: Tuple):
        for word in tup[0].split():
            self.emit(word)


class Count(Bolt):
    def __init__(self, results):
        self.results = results
        self.counts = {}

    def process(self, word):
        self.counts[word] = self.counts.get(word, 0) + 1

    def close(self):
        self.results.append(self.counts)


class CountTuple(Count):
    def process(self, tup: Tuple):
        word = tup[0]
        self.counts[word] = self.counts.get(word, 0) + 1


ARMS = {
    "plain emit": (Lines, Split, Count, 1),
    "generator split": (Lines, SplitYielding, Count, 1),
    "process(tup: Tuple)": (Lines, SplitTuple, CountTuple, 1),
    "2 split + 2 count": (Lines, Split, Count, 2),
    "unacked": (UntrackedLines, Split, Count, 1),
}


def run(arm, lines, expected):
    """Seconds of one run of that arm."""
    spout, split, count, parallelism = ARMS[arm]
    results = []
    topology = Topology("wordcount")
    topology.spout("lines", partial(spout, lines))
    topology.bolt("split", split, inputs="lines", parallelism=parallelism)
    topology.bolt("count", partial(count, results), inputs={"split": grouping.fields("word")}, parallelism=parallelism)
    gc.collect()
    start = time.perf_counter()
    report = topology.run()
    took = time.perf_counter() - start
    total = Counter()
    for counts in results:
        total.update(counts)
    check(total == expected, f"{arm}: {total.total()} words counted, {expected.total()} expected, or other words")
    roots = report.components["lines"].roots
    tracked = 0 if spout is UntrackedLines else len(lines)
    check(roots.emitted == roots.acked == tracked, f"{arm}: {roots}, expected {tracked} acked")
    return took
