"""The reference arms: what a plain loop in Python costs, in the same process and the same second as the engine's arms.

`word_count` is the floor of the word count: one Python call and one small object per record, nothing else. The bars
are multiples of it, so these lines are part of the contract and are not to be improved, nor formatted. `two_calls_ns`
and `one_hop_ns` are what no engine can do without: the calls from native code into Python methods and back.
"""

# ruff: noqa: A002, ARG002, E701, E702, RUF023 - the contract's own lines

from __future__ import annotations

import bisect
import itertools
import random
import time
from collections import Counter, deque

LINES = 200_000
WORDS_PER_LINE = 10
VOCABULARY = 50_000


# fmt: off
class T:
    __slots__ = ("values", "id")
    def __init__(self, values, id): self.values = values; self.id = id
class Count:
    def __init__(self): self.c = {}
    def process(self, t): w = t.values[0]; self.c[w] = self.c.get(w, 0) + 1
class Split:
    def __init__(self, next): self.next = next
    def process(self, t):
        for w in t.values[0].split(): self.emit((w,), t)
    def emit(self, values, anchor): self.next(T(values, 0))
# fmt: on


def word_count(lines):
    """Count the words of `lines`; returns the counts."""
    count = Count()
    split = Split(count.process)
    for i, line in enumerate(lines):
        split.process(T((line,), i))
    return count.c


def bare_word_count(lines):
    """The same counts without any call or object per record: what the work itself costs in Python."""
    counts = {}
    for line in lines:
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1
    return counts


def zipf_lines(lines=LINES, seed=7):
    """Lines of ten words whose frequencies are 1/rank over 50,000 words; the same lines for the same seed."""
    dice = random.Random(seed)
    words = [f"word{rank}" for rank in range(1, VOCABULARY + 1)]
    cumulative = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    total = cumulative[-1]

    def line():
        return " ".join(words[bisect.bisect(cumulative, dice.random() * total)] for _ in range(WORDS_PER_LINE))

    return [line() for _ in range(lines)]


def counted(lines):
    """What every arm must count, by other means than any of them."""
    return Counter(word for line in lines for word in line.split())


class Empty:
    """Two methods of one argument that do nothing, as a spout's and a bolt's."""

    def next_tuple(self, x):
        pass

    def process(self, x):
        pass


class Hop:
    """What one more component costs at least: called from native code, it makes a tuple and calls native code."""

    def __init__(self, emit):
        self.emit = emit

    def process(self, x):
        self.emit((x,))


def two_calls_ns(n):
    """Nanoseconds in which native code calls two empty Python methods of one argument."""
    empty, items = Empty(), [1] * n
    start = time.perf_counter_ns()
    deque(map(empty.next_tuple, items), maxlen=0)
    deque(map(empty.process, items), maxlen=0)
    return (time.perf_counter_ns() - start) / n


def one_hop_ns(n):
    """Nanoseconds of one native → Python call, one Python → native call and one tuple made. `callable` does nothing."""
    hop, items = Hop(callable), [1] * n
    start = time.perf_counter_ns()
    deque(map(hop.process, items), maxlen=0)
    return (time.perf_counter_ns() - start) / n
