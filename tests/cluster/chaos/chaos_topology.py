"""The topology of the fault tests, imported by every process of a run: numbered records that leave tracks in files.

    numbers (worker 0) ──▶ halves (worker 1) ──▶ sink (worker 2, two tasks)

`numbers` gives each record its number as id and position. `halves` makes two tuples of it, `sink` appends a row for
each to a file of its process before it acks. Rows are written with one `write` to a file opened for appending, so they
survive the process; `chaos_check` reads nothing else. Times are of the monotonic clock, the same in all processes.

    source-PID   "o POSITION T" opened · "e N T" emitted · "a N T" acked · "d N T" dead · "f N T REASON" failed ·
                 "end N T" all emitted
    sink-PID     "N HALF DIGEST TASK T"

Where the environment says so (`CHAOS_FAULTS`, see `at`), the code harms its own process at a chosen point.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import re
import resource
import signal
import time
from pathlib import Path
from typing import Any

import chaos_proxy

from rainband import BatchBolt, Bolt, Failure, Reject, Spout, TaskContext, Topology, Tuple, codec, grouping

FOLDER = Path(os.environ.get("CHAOS_FOLDER", "."))
STOP = int(os.environ.get("CHAOS_STOP", "1000"))  # the last record; 0: go on until the file `enough` is there
PACE = float(os.environ.get("CHAOS_PACE", "0"))  # records a second; 0: as fast as it goes
FAULTS: list[dict[str, Any]] = json.loads(os.environ.get("CHAOS_FAULTS", "[]"))
HANG_S = 3600.0

if os.environ.get("CHAOS_CLOCK"):  # the wall clock jumps about; nothing in the engine may care
    _jumps = iter(range(10**9))
    time.time = lambda: 1e9 * (next(_jumps) % 7)


class Rows:
    """Appends rows to a file of this process."""

    def __init__(self, name: str) -> None:
        path = FOLDER / f"{name}-{os.getpid()}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())

    def __del__(self) -> None:
        os.close(self._fd)


chaos_proxy.from_settings(
    json.loads(os.environ.get("CHAOS_WEATHER", "{}")), lambda what: Rows("weather").add(what, time.monotonic_ns())
)


class Body:
    """What records carry: its encoding is code of the user's inside `emit`."""

    def __init__(self, text: str) -> None:
        self.text = text


def _encode(body: Body) -> str:
    at("encode", int(body.text.partition(":")[0]))
    return body.text


codec.register(Body, name="body", encode=_encode, decode=Body)


def text_of(n: int) -> str:
    return f"{n}:" + "x" * (n % 97)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def at(point: str, n: int = 0) -> None:
    """Harm this process if a fault is planted at this point.

    A fault is a dict: `at` the point, `n` the number of the record (0 for any), `do` what happens, `times` how often in
    the whole run (1), counted by files so that the next incarnation knows.
    """
    for index, fault in enumerate(FAULTS):
        if fault["at"] != point or fault.get("n", 0) not in {0, n}:
            continue
        for time_ in range(fault.get("times", 1)):
            try:
                os.close(os.open(FOLDER / f"fault-{index}-{time_}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            HARM[fault["do"]]()
            break


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _leave() -> None:
    os._exit(7)


def _run_out_of_memory() -> None:
    """What C code does that gets no memory and does not expect that."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
    kept: list[bytearray] = []
    try:
        while True:
            kept.append(bytearray(2**16))
    except MemoryError:
        os.abort()


def _hang() -> None:
    time.sleep(HANG_S)


def _hang_in_c() -> None:
    """Holds the interpreter: a regular expression that backtracks for longer than anybody lives."""
    re.match(r"(a|a)*$", "a" * 200 + "b")


def _reject() -> None:
    raise Reject("planted")


HARM = {
    "kill": _kill,
    "segfault": _segfault,
    "exit": _leave,
    "memory": _run_out_of_memory,
    "hang": _hang,
    "hang-in-c": _hang_in_c,
    "reject": _reject,
}


class Numbers(Spout):
    outputs = ["n", "body"]

    def open(self, context: TaskContext) -> None:
        self.n = context.position or 0
        self.rows = Rows("source")
        self.rows.add("o", self.n, time.monotonic_ns())
        self.first, self.began = self.n, time.monotonic()
        at("open")

    def next_tuple(self) -> None:
        if self.n == STOP if STOP else (FOLDER / "enough").exists():
            self.rows.add("end", self.n, time.monotonic_ns())
            self.end()
            return
        if PACE and self.n - self.first > (time.monotonic() - self.began) * PACE:
            return
        self.n += 1
        self.rows.add("e", self.n, time.monotonic_ns())
        at("emit", self.n)
        self.emit(self.n, Body(text_of(self.n)), id=self.n, position=self.n)
        at("emitted", self.n)

    def ack(self, n: int) -> None:
        self.rows.add("a", n, time.monotonic_ns())
        at("acked", n)

    def fail(self, n: int, failure: Failure) -> None:
        self.rows.add("f", n, time.monotonic_ns(), failure.reason.replace(" ", "-"))

    def dead(self, n: int, failure: Failure) -> None:
        self.rows.add("d", n, time.monotonic_ns())


class Halves(Bolt):
    outputs = ["n", "half", "body"]

    def prepare(self, context: TaskContext) -> None:
        at("halves-prepare")

    def process(self, n: int, body: Body) -> None:
        at("halves", n)
        self.emit(n, 0, body)
        at("between", n)
        self.emit(n, 1, body)
        at("behind", n)

    def flush(self) -> None:
        at("halves-flush")

    def finish(self) -> None:
        at("halves-finish")


class HalvesInBatches(BatchBolt):
    outputs = ["n", "half", "body"]
    batch_size = 20
    batch_interval_s = 0.05

    def process_batch(self, tuples: list[Tuple]) -> None:
        for each in tuples:
            at("halves", each["n"])
            self.emit(each["n"], 0, each["body"], anchors=[each])
            at("between", each["n"])
            self.emit(each["n"], 1, each["body"], anchors=[each])


class HalvesAsync(Bolt):
    outputs = ["n", "half", "body"]

    async def process(self, n: int, body: Body) -> None:
        self.emit(n, 0, body)
        await asyncio.sleep(0.001)
        at("between", n)
        self.emit(n, 1, body)


class Sink(Bolt):
    def prepare(self, context: TaskContext) -> None:
        self.task = context.task_id
        at("sink-prepare")
        self.rows = Rows("sink")

    def process(self, n: int, half: int, body: Body) -> None:
        at("before-write", n)
        self.rows.add(n, half, digest_of(body.text), self.task, time.monotonic_ns())
        at("after-write", n)

    def flush(self) -> None:
        at("sink-flush")

    def finish(self) -> None:
        at("sink-finish")

    def close(self) -> None:
        at("sink-close")


KINDS: dict[str, type[Bolt]] = {"plain": Halves, "batches": HalvesInBatches, "async": HalvesAsync}

topology = Topology("chaos")
topology.spout("numbers", Numbers, config={"on_workers": [0]})
topology.bolt("halves", KINDS[os.environ.get("CHAOS_KIND", "plain")], inputs="numbers", config={"on_workers": [1]})
topology.bolt("sink", Sink, inputs={"halves": grouping.fields("n")}, parallelism=2, config={"on_workers": [2]})
