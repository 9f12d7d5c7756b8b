"""The topologies of workers.py and recovery.py, in a module of their own because every worker process imports them.

A worker process makes the topology by calling its function again, without arguments; what differs from run to run
comes in the environment (`worker_runs`). Figures are taken where the work is: the spout keeps when it was first asked
and when all of its roots were resolved, the bolts keep what they counted, as JSON files. So neither the start of
processes nor the writing of counts is in any time. All clocks are CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from rainband import Bolt, Spout, Topology, grouping

VARIABLE = "RAINBAND_BENCH"
PARAMS = json.loads(os.environ.get(VARIABLE, "{}"))
RECORD_TEXT = "r" * 92
"""With an integer beside it a record of 100 B in msgpack."""
EMITTED_PER_CALL = 64
"""Of the spouts that measure the highest rate."""
GAP_S = 0.02
"""Longer ones between two acks are kept."""
BUCKET_S = 0.05


def keep(name, facts):
    """Keep what a task found; the file is replaced as a whole, because its process may be killed."""
    path = Path(PARAMS["folder"]) / f"{name}.json"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(facts))
    draft.rename(path)


class Timed(Spout):
    """Keeps the time from its first `next_tuple` to its end, which comes after the last ack."""

    outputs = ["x"]
    began = None

    def begin(self):
        self.began = time.perf_counter()

    def facts(self):
        return {"began": self.began, "ended": time.perf_counter()}

    def close(self):
        keep("spout", self.facts())


class Lines(Timed):
    outputs = ["line"]

    def open(self, context):  # noqa: ARG002 - a hook
        self.rows = enumerate(Path(PARAMS["text"]).read_text().splitlines())

    def next_tuple(self):
        if self.began is None:
            self.begin()
        row = next(self.rows, None)
        if row is None:
            self.end()
        else:
            self.emit(row[1], id=row[0])


class Split(Bolt):
    outputs = ["word"]

    def process(self, line):
        for word in line.split():
            self.emit(word)


class Count(Bolt):
    def __init__(self):
        self.counts = {}

    def process(self, word):
        self.counts[word] = self.counts.get(word, 0) + 1

    def close(self):
        keep("counts", self.counts)


def word_count():
    topology = Topology("wordcount")
    topology.spout("source", Lines, config={"on_workers": [0]})
    topology.bolt("split", Split, inputs="source", config={"on_workers": [0]})
    topology.bolt("sink", Count, inputs={"split": grouping.fields("word")}, config={"on_workers": [1]})
    return topology


class Numbers(Timed):
    def open(self, context):  # noqa: ARG002 - a hook
        self.n, self.total = 0, PARAMS["total"]

    def next_tuple(self):
        if self.began is None:
            self.begin()
        if self.n == self.total:
            self.end()
        else:
            self.n += 1
            self.emit(self.n, id=self.n)


class Burn(Bolt):
    """Loops a number of times that was measured to take 20 µs. A clock would count the time of others as its own."""

    def process(self, x):  # noqa: ARG002 - the work does not depend on it
        for _ in range(PARAMS["loops"]):
            pass


def burning():
    topology = Topology("burning")
    topology.spout("source", Numbers)
    topology.bolt("sink", Burn, inputs="source", parallelism=2)
    return topology


class Records(Numbers):
    """Emits in a loop, as the pair that it is compared with sends in one."""

    outputs = ["n", "value"]

    def next_tuple(self):
        if self.began is None:
            self.begin()
        upto = min(self.n + EMITTED_PER_CALL, self.total)
        if PARAMS["acked"]:
            for n in range(self.n + 1, upto + 1):
                self.emit(n, RECORD_TEXT, id=n)
        else:
            for n in range(self.n + 1, upto + 1):
                self.emit(n, RECORD_TEXT)
        self.n = upto
        if upto == self.total:
            self.end()


class Payloads(Numbers):
    outputs = ["n", "value"]

    def open(self, context):
        super().open(context)
        self.payload = os.urandom(PARAMS["bytes"])

    def next_tuple(self):
        if self.began is None:
            self.begin()
        if self.n == self.total:
            self.end()
        else:
            self.n += 1
            self.emit(self.n, self.payload, id=self.n)


class Arrive(Bolt):
    """Does nothing with what comes but note the time of the last."""

    last = None

    def process(self, n, value):
        if n == PARAMS["total"]:
            self.last = time.perf_counter()
            keep("arrived", {"last": self.last, "bytes": len(value), "digest": digest(value)})


def digest(value):
    """What both ends say of a value, so that a damaged one shows."""
    return hashlib.blake2b(value if isinstance(value, bytes) else value.encode(), digest_size=8).hexdigest()


def _join(topology, spout, sink):
    """A spout in one worker, a bolt in the other. Workers find a topology by the function that makes it: not here."""
    topology.spout("source", spout, config={"on_workers": [0]})
    topology.bolt("sink", sink, inputs="source", config={"on_workers": [1]})
    return topology


def records():
    return _join(Topology("records"), Records, Arrive)


def payloads():
    return _join(Topology("payloads"), Payloads, Arrive)


class Due(Timed):
    """Every tuple has a time at which it is due, whether or not the engine keeps up; its latency counts from there."""

    def open(self, context):  # noqa: ARG002 - a hook
        self.n, self.total, self.interval = 0, PARAMS["total"], 1 / PARAMS["rate"]
        self.latencies = []

    def next_tuple(self):
        if self.began is None:
            self.begin()
            self.start = self.began + 0.05
        due = min(self.total, int((time.perf_counter() - self.start) / self.interval))
        while self.n < due:
            self.emit(self.n, id=self.n)
            self.n += 1
        if self.n == self.total:
            self.end()

    def ack(self, n):
        self.latencies.append(time.perf_counter() - self.start - (n + 1) * self.interval)  # tuple 0 is due after one

    def facts(self):
        return {**super().facts(), "latencies": sorted(self.latencies)}


class AtOnce(Due):
    def next_tuple(self):
        if self.began is None:
            self.begin()
            self.start = self.began
        for _ in range(EMITTED_PER_CALL):
            self.emit(self.n, id=self.n)
            self.n += 1
        if self.n >= self.total:
            self.end()


class Null(Bolt):
    def process(self, x):
        pass


def at_once():
    return _join(Topology("latency"), AtOnce, Null)


def due():
    return _join(Topology("latency"), Due, Null)


class Endless(Timed):
    """Emits without end; keeps the gaps between acks, and how many acks there were in each twentieth of a second."""

    def open(self, context):  # noqa: ARG002 - a hook
        self.n, self.last, self.gaps, self.acks = 0, None, [], {}

    def next_tuple(self):
        if self.began is None:
            self.begin()
        self.n += 1
        self.emit(self.n, id=self.n)

    def ack(self, n):  # noqa: ARG002 - a hook
        now = time.perf_counter()
        if self.last is None or now - self.last > GAP_S:
            self.gaps.append((self.last, now))
        self.last = now
        bucket = int(now / BUCKET_S)
        self.acks[bucket] = self.acks.get(bucket, 0) + 1

    def facts(self):
        return {**super().facts(), "gaps": self.gaps, "acks": sorted(self.acks.items())}


def endless():
    return _join(Topology("endless"), Endless, Null)


class Nothing(Spout):
    outputs = ["x"]

    def next_tuple(self):
        pass


def idle():
    return _join(Topology("idle"), Nothing, Null)
