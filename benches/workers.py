"""Two worker processes: word count and busy bolts against one, records and payloads against bare pyzmq, latency.

Word count runs against the floor right before, busy bolts against one worker right before and after. Records and
payloads are sent by a spout in one worker to a bolt in the other; the pair of pyzmq beside it runs right before. The
latency is that of latency.py, across a link. `across` has the topologies and says where times begin and end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import across
import floor
import pairs
from measure import Figure, check, main, seconds
from worker_runs import begin, finish, found, plain_tcp, told

BURN_NS = 20_000
PAYLOAD_BYTES = 10_000_000


def word_count(options):
    share = Figure("word count on 2 workers, acked ÷ floor", at_least=2.0)
    rate = Figure("word count on 2 workers, acked, lines/s", unit="k/s", digits=0)
    lines = floor.zipf_lines(options.size(floor.LINES))
    expected = floor.counted(lines)
    with tempfile.TemporaryDirectory(prefix="rainband-bench-") as folder:
        text = Path(folder) / "text"
        text.write_text("\n".join(lines))
        for _ in range(options.rounds):
            reference = seconds(lambda: floor.word_count(lines))
            with told(text=str(text)) as kept:
                finish(begin(across.word_count), expected.total(), len(lines))
                check(found(kept, "counts") == expected, "words were counted wrong")
                took = lasted(kept)
            share.add(reference / took)
            rate.add(len(lines) / took / 1000)
    return [share, rate]


def lasted(kept):
    """Seconds from the first `next_tuple` to the spout's end."""
    spout = found(kept, "spout")
    return spout["ended"] - spout["began"]


def loops_of(ns):
    """How often `Burn` has to loop for so long."""
    n = 1_000_000
    start = time.perf_counter_ns()
    for _ in range(n):
        pass
    return int(ns / ((time.perf_counter_ns() - start) / n))


BARE = "import time; t = time.perf_counter()\nfor _ in range({}): pass\nprint(time.perf_counter() - t)"


def burnt_s(processes, loops):
    """Seconds until so many bare processes have looped as often, taken together."""
    command = [sys.executable, "-c", BARE.format(loops // processes)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    return max(float(each.communicate()[0]) for each in running)


def busy_bolts(options):
    share = Figure("bolt that burns 20 µs, 2 tasks on 2 workers ÷ on 1", at_least=1.7)
    bare = Figure("the same loops in bare processes, 2 ÷ 1")
    total = options.size(60_000)
    for _ in range(options.rounds):
        loops, took = loops_of(BURN_NS), []
        for workers in (1, 2, 1):  # the pace of the machine changes within a round
            with told(total=total, loops=loops) as kept:
                finish(begin(across.burning, workers=workers), total, total)
                took.append(lasted(kept))
        share.add((took[0] + took[2]) / 2 / took[1])
        bare.add(burnt_s(1, total * loops) / burnt_s(2, total * loops))
    return [share, bare]


def record_rate(total, *, acked, config=None, launcher=None):
    """Records per second that arrive at the other worker; until the last ack where they are acked."""
    with told(total=total, acked=acked) as kept:
        finish(begin(across.records, config=config, launcher=launcher), total, total if acked else 0)
        spout, arrived = found(kept, "spout"), found(kept, "arrived")
        check(arrived["digest"] == across.digest(across.RECORD_TEXT), "the last record was damaged")
        return total / ((spout["ended"] if acked else arrived["last"]) - spout["began"])


def records(options):
    names = {False: "untracked", True: "acked"}
    share = {
        acked: Figure(f"records of 100 B, {name} ÷ pyzmq with msgspec", at_least=3) for acked, name in names.items()
    }
    rate = {
        acked: Figure(f"records of 100 B, {name}, records/s", unit="k/s", digits=0) for acked, name in names.items()
    }
    base = Figure("pyzmq with msgspec, records/s", unit="k/s", digits=0)
    total = options.size(1_000_000)
    for _ in range(options.rounds):
        for acked in names:
            reference = total / pairs.records_s(total)
            found_rate = record_rate(total, acked=acked)
            share[acked].add(found_rate / reference)
            rate[acked].add(found_rate / 1000)
            base.add(reference / 1000)
    return [*share.values(), *rate.values(), base]


def encryption(options):
    share = Figure("records of 100 B over tcp, encrypted ÷ plain", at_least=0.5)
    rate = Figure("records of 100 B over encrypted tcp, acked, records/s", unit="k/s", digits=0)
    config, total = {"transport": "tcp"}, options.size(1_000_000)
    for _ in range(options.rounds):
        plain = record_rate(total, acked=True, config=config, launcher=plain_tcp())
        encrypted = record_rate(total, acked=True, config=config)
        share.add(encrypted / plain)
        rate.add(encrypted / 1000)
    return [share, rate]


def payload_rate(total, config):
    """Megabytes a second from the first `next_tuple` to the last arrival."""
    with told(total=total, bytes=PAYLOAD_BYTES) as kept:
        finish(begin(across.payloads, config=config), total, total)
        arrived = found(kept, "arrived")
        check(arrived["bytes"] == PAYLOAD_BYTES, "the last payload was damaged")
        return total * PAYLOAD_BYTES / 1e6 / (arrived["last"] - found(kept, "spout")["began"])


def payloads(options):
    share = Figure("payloads of 10 MB ÷ pyzmq, copy=True", at_least=0.8)
    views = Figure("payloads of 10 MB ÷ pyzmq, copy=False")
    wide = Figure("payloads of 10 MB with link_bytes of 64 MB ÷ pyzmq, copy=True")
    rate = Figure("payloads of 10 MB, MB/s", unit="MB/s", digits=0)
    total = options.size(300)
    for _ in range(options.rounds):
        megabytes = (total - 1) * PAYLOAD_BYTES / 1e6
        reference = megabytes / pairs.payloads_s(total, PAYLOAD_BYTES, copy=True)
        ours = payload_rate(total, None)
        share.add(ours / reference)
        rate.add(ours)
        wide.add(payload_rate(total, {"link_bytes": 64 << 20}) / reference)
        views.add(ours / (megabytes / pairs.payloads_s(total, PAYLOAD_BYTES, copy=False)))
    return [share, views, wide, rate]


def latencies(make, total, rate):
    """Latencies of all tuples, sorted, and the seconds that they took."""
    with told(total=total, rate=rate) as kept:
        at_sink = -(-total // across.EMITTED_PER_CALL) * across.EMITTED_PER_CALL if make is across.at_once else total
        finish(begin(make), at_sink, at_sink)
        spout = found(kept, "spout")
        check(len(spout["latencies"]) == at_sink, f"{len(spout['latencies'])} acks of {at_sink} tuples")
        return spout["latencies"], spout["ended"] - spout["began"]


def open_loop(options):
    p50 = Figure("source to ack across workers at half of the highest rate, p50", unit="ms", at_most=1, digits=3)
    p99 = Figure("source to ack across workers at half of the highest rate, p99", unit="ms", at_most=10, digits=3)
    low50 = Figure("source to ack across workers at 1,000/s, p50", unit="ms", digits=3)
    low99 = Figure("source to ack across workers at 1,000/s, p99", unit="ms", digits=3)
    highest = Figure("the highest rate, acks seen by the spout", unit="k/s", digits=0)
    total, lasting_s = options.size(500_000), 1 if options.quick else 2
    for _ in range(options.rounds):
        all_acks, took = latencies(across.at_once, total, 1e6)
        rate = len(all_acks) / took
        highest.add(rate / 1000)
        for load, median, tail in ((rate / 2, p50, p99), (1000, low50, low99)):
            found_latencies, _ = latencies(across.due, int(load * lasting_s), load)
            median.add(found_latencies[len(found_latencies) // 2] * 1000)
            tail.add(found_latencies[len(found_latencies) * 99 // 100] * 1000)
    return [p50, p99, low50, low99, highest]


def body(options):
    parts = (word_count, busy_bolts, records, encryption, payloads, open_loop)
    return [figure for part in parts for figure in part(options)]


if __name__ == "__main__":
    main(__doc__.splitlines()[0], body)
