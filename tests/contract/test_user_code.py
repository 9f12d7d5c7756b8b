"""What user code may do to the engine, and what becomes of its tuples: ENGINE 6.2 and 6.5, on the real engine."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from rig import Burst, Collect, Identity, Notes, Numbers, Quiet, in_one_process, is_caused_by, traceback_of, wait_until

from rainband import Bolt, EmitError, Reject, RunError, Spout, TaskContext, Tuple, bolt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Runs
    from rig import Rig


def deep(n: int) -> int:
    return 1 + deep(n + 1)


def deep_in_c(n: int) -> Any:
    """Recursion with a C frame between two Python ones each time."""
    return max(map(deep_in_c, [n + 1]))


class Naughty:
    """An exception whose repr and str raise."""

    class Error(Exception):
        def __repr__(self) -> str:
            raise ValueError("no repr")

        __str__ = __repr__


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def naughty() -> None:
    raise Naughty.Error


def stop_iteration() -> None:
    raise StopIteration


def generator_exit() -> None:
    raise GeneratorExit


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda: 1 / 0, "ZeroDivisionError('division by zero')"),
        (leave, "SystemExit(3)"),
        (interrupt, "KeyboardInterrupt()"),
        (partial(deep, 0), "RecursionError("),
        (partial(deep_in_c, 0), "RecursionError("),
        (naughty, "an exception whose repr() raises"),
        (stop_iteration, "StopIteration()"),
        (generator_exit, "GeneratorExit()"),
        (
            lambda: "a string",
            "TypeError('process() returned str; what it returns is not emitted: yield it or emit it')",
        ),
        (lambda: 0, "TypeError('process() returned int; what it returns is not emitted: yield it or emit it')"),
        (lambda: [1], "TypeError('process() returned list; what it returns is not emitted: yield it or emit it')"),
    ],
)
def test_whatever_process_does_fails_the_tuple_alone(rig: Rig, act: Callable[[], Any], text: str) -> None:
    """ENGINE 6.2: exceptions, sys.exit, Ctrl-C, deep recursion, nonsense returned: only this tuple fails."""
    notes = Notes()
    threads: set[int] = set()

    class Acts(Bolt):
        def process(self, n: int, tup: Tuple) -> Any:
            threads.add(threading.get_ident())
            return act() if n == 2 else None

    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Numbers, 4, notes=notes))
    topology.bolt("acts", Acts, inputs="numbers")
    report = rig.run(topology)
    assert sorted(notes.acked) == [1, 3, 4]
    [(_, failure)] = notes.dead
    assert failure.error.startswith(text)
    assert (failure.reason, failure.attempt) == ("error", 2)
    assert report.components["acts"].failed == {"error": 2}
    assert len(threads) == 1


def test_a_generator_that_raises_in_the_middle(rig: Rig) -> None:
    """ENGINE 6.2: what it yielded before went out and belongs to the attempt that failed; a replay yields all again."""
    seen: list[str] = []

    class Breaks(Bolt):
        outputs = ["n"]

        def process(self, n: int, tup: Tuple) -> Iterator[str]:
            yield f"{n} a"
            if tup.attempt == 1:
                raise ValueError(n)
            yield f"{n} b"

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 2))
    topology.bolt("breaks", Breaks, inputs="numbers")
    topology.bolt("seen", partial(Collect, seen), inputs="breaks")
    report = rig.run(topology)
    assert sorted(seen) == ["1 a", "1 a", "1 b", "2 a", "2 a", "2 b"]
    assert report.components["numbers"].roots.acked == 2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda b: b.emit(), r"expected 2 values \(a, b\), got 0"),
        (lambda b: b.emit(1), r"expected 2 values \(a, b\), got 1"),
        (lambda b: b.emit(1, 2, 3), r"expected 2 values \(a, b\), got 3"),
        (lambda b: b.emit(1, 2, stream="nowhere"), 'no stream "nowhere"; it declares "default"'),
        (lambda b: b.emit(1, 2, stream=7), "takes the name of a stream"),
        (lambda b: b.emit(1, 2, id=3), "unexpected keyword argument"),
        (lambda b: b.emit(1, 2, anchors=[1]), "takes Tuples that process"),
        (lambda b: b.emit(1, 2, anchors=3), "not iterable"),
        (lambda b: b.ack("x"), "takes a Tuple that process"),
        (lambda b: b.emit(1, 2, anchors=Tuple([1], ["n"])), "was not received by this task"),
    ],
)
def test_a_wrong_call_raises_where_it_stands(rig: Rig, wrong: Callable[[Any], None], text: str) -> None:
    """ENGINE 6.2: wrong count, stream, keyword or anchor raise at the call; caught, the tuple is none the worse."""
    caught: list[BaseException] = []

    class Wrong(Bolt):
        outputs = ["a", "b"]

        def process(self, n: int) -> None:
            try:
                wrong(self)
            except (EmitError, TypeError) as error:
                caught.append(error)
            self.emit(n, n)

    rows: list[Any] = []

    @bolt
    def rows_of(a: int, b: int) -> None:
        rows.append((a, b))

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("wrong", Wrong, inputs="numbers")
    topology.bolt("rows", rows_of, inputs="wrong")
    report = rig.run(topology)
    [error] = caught
    with pytest.raises(type(error), match=text):
        raise error
    assert rows == [(1, 1)]
    assert report.components["numbers"].roots.acked == 1


@pytest.mark.parametrize("yielded", [1, "ab", (1,), (1, 2, 3), None])
def test_a_wrong_yield_fails_the_tuple(rig: Rig, yielded: Any) -> None:
    """ENGINE 6.2: with two fields a sequence of two is yielded, and a string is none."""
    notes = Notes()

    class Yields(Bolt):
        outputs = ["a", "b"]

        def process(self, n: int) -> Iterator[Any]:
            yield yielded

    topology = rig.topology(max_attempts=1)
    topology.spout("numbers", partial(Numbers, 1, notes=notes))
    topology.bolt("yields", Yields, inputs="numbers")
    topology.bolt("quiet", Quiet, inputs="yields")
    rig.run(topology)
    [(_, failure)] = notes.dead
    assert failure.error.startswith("EmitError(")


class Counting(Bolt):
    """Raises on 3 and notes instances."""

    outputs = ["n"]

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.number = len([event for event in events if event.startswith("init")])
        events.append(f"init {self.number}")

    def prepare(self, context: TaskContext) -> None:
        self.events.append(f"prepare {self.number}")

    def process(self, n: int, tup: Tuple) -> None:
        if n == 3 and tup.attempt == 1:
            raise ValueError(n)
        self.events.append(f"{n} by {self.number}")

    def close(self) -> None:
        self.events.append(f"close {self.number}")


def test_on_error_restart_gives_a_fresh_instance(rig: Rig) -> None:
    """ENGINE 6.2: the old instance is closed, a new one prepared, and `process` is called on that one only."""
    events: list[str] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 5))
    topology.bolt("counting", partial(Counting, events), inputs="numbers", config={"on_error": "restart"})
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 5
    changed = events.index("close 0")
    assert events[:2] == ["init 0", "prepare 0"]
    assert events[changed : changed + 3] == ["close 0", "init 1", "prepare 1"]
    assert all(event.endswith(" 1") for event in events[changed + 1 :])
    assert events[-1] == "close 1"


def test_what_a_replaced_instance_held_fails(rig: Rig) -> None:
    """ENGINE 6.2: tuples that the old instance held come back to the new one."""
    notes = Notes()

    class Holds(Bolt):
        auto_ack = False
        on_error = "restart"

        def prepare(self, context: TaskContext) -> None:
            self.held: list[Tuple] = []

        def process(self, tup: Tuple) -> None:
            if tup.attempt == 2:
                self.ack(tup)
                return
            keep.append(tup)  # or they would be forgotten
            self.held.append(tup)
            if len(self.held) == 5:
                raise ValueError(5)

    keep: list[Tuple] = []
    topology = rig.topology(ack_timeout_s=60.0)
    topology.spout("numbers", partial(Numbers, 5, notes=notes))
    topology.bolt("holds", Holds, inputs="numbers")
    rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3, 4, 5]
    assert sorted(notes.reasons) == ["error"] + ["restarted"] * 4


def test_on_error_stop_stops_with_the_users_exception(rig: Rig) -> None:
    """ENGINE 6.2: `stop` fails the run; its cause is the exception, its text says where."""
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 5))
    topology.bolt("counting", partial(Counting, []), inputs="numbers", config={"on_error": "stop"})
    error = rig.fails(topology)
    assert is_caused_by(error, ValueError)
    assert "raise ValueError" in traceback_of(error)
    assert 'bolt "counting" task 1: process() raised ValueError(3)' in str(error)


@pytest.mark.parametrize("hook", ["process", "tick"])
@pytest.mark.parametrize("on_error", ["stop", "restart"])
def test_no_call_is_begun_after_the_error_that_stops_the_run(rig: Rig, on_error: str, hook: str) -> None:
    """ENGINE 6.2: after `stop`, or a restart that cannot `prepare`, what waits behind stays pending, none is acked."""
    raised: list[int] = []
    prepared: list[int] = []
    after: list[int] = []

    class Breaks(Bolt):
        tick_interval_s = 0.002

        def prepare(self, context: TaskContext) -> None:
            prepared.append(1)
            if len(prepared) > 1:
                raise OSError("no database")
            self.last = 0

        def process(self, n: int) -> None:
            if raised:
                after.append(n)
                return
            if n == 129:
                if hook == "process":
                    self.fails()
                time.sleep(0.01)  # a tick is due then
            self.last = n

        def tick(self) -> None:
            if self.last >= 129 and hook == "tick":
                self.fails()

        def fails(self) -> None:
            raised.append(self.last)
            raise ValueError(self.last)

    topology = rig.topology()
    topology.spout("burst", partial(Burst, 256))
    topology.bolt("breaks", Breaks, inputs="burst", config={"on_error": on_error})
    error = rig.fails(topology)
    assert is_caused_by(error, ValueError if on_error == "stop" else OSError)
    assert after == []
    assert error.report is not None
    assert error.report.components["burst"].roots.acked <= raised[0] < 256


def test_no_coroutine_is_begun_after_the_error_that_stops_the_run(rig: Rig) -> None:
    """ENGINE 6.2: also of those that were made together with the one that raised."""
    begun: list[int] = []

    class Breaks(Bolt):
        async def process(self, n: int) -> None:
            begun.append(n)
            if n == 2:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("burst", partial(Burst, 64))
    topology.bolt("breaks", Breaks, inputs="burst", config={"on_error": "stop", "concurrency": 64})
    error = rig.fails(topology)
    assert is_caused_by(error, ValueError)
    assert begun[-1] == 2
    assert error.report is not None
    assert error.report.components["burst"].roots.acked < len(begun)


def test_restarts_are_limited(rig: Rig) -> None:
    """ENGINE 6.2: a task that raises at every tuple is not replaced for ever."""

    class Raises(Bolt):
        on_error = "restart"

        def process(self, n: int) -> None:
            raise ValueError(n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 100))
    topology.bolt("raises", Raises, inputs="numbers", config={"restart_limit": 3})
    assert "restarted 3 times in 60 s" in str(rig.fails(topology))


@pytest.mark.parametrize("place", ["init", "prepare", "open", "spout init"])
def test_errors_at_the_start_stop_the_topology_with_the_users_traceback(
    rig: Rig, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """ENGINE 6.2: `__init__`, `open` and `prepare` of the first start: the run fails within seconds."""

    def here(now: str) -> None:
        if now == place:
            raise LookupError(f"in {now}")

    class Source(Spout):
        outputs = ["n"]

        def __init__(self) -> None:
            here("spout init")

        def open(self, context: TaskContext) -> None:
            here("open")

        def next_tuple(self) -> None:
            self.emit(1, id=1)

    class Work(Bolt):
        def __init__(self) -> None:
            here("init")

        def prepare(self, context: TaskContext) -> None:
            here("prepare")

        def process(self, n: int) -> None: ...

    began = time.monotonic()
    topology = rig.topology()
    topology.spout("source", Source)
    topology.bolt("work", Work, inputs="source")
    error = rig.fails(topology)
    assert is_caused_by(error, LookupError)
    assert f"in {place}" in str(error)
    assert time.monotonic() - began < 5
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("hook", ["tick", "flush", "finish", "close", "ack", "fail", "dead", "activate"])
def test_errors_in_hooks_are_told_and_cost_nothing(  # noqa: C901
    rig: Rig, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    """ENGINE 6.2: hooks that raise, SystemExit too, are logged with their traceback; the run ends as ever."""
    calls: list[str] = []

    def act(now: str) -> None:
        calls.append(now)
        if now == hook:
            sys.exit(now)

    class Source(Numbers):
        def next_tuple(self) -> None:
            if "activate" in calls:
                super().next_tuple()

        def ack(self, id: int) -> None:  # noqa: A002
            act("ack")

        def fail(self, id: int, failure: Any) -> None:  # noqa: A002
            act("fail")

        def dead(self, id: int, failure: Any) -> None:  # noqa: A002
            act("dead")

        def activate(self) -> None:
            act("activate")

        def deactivate(self) -> None:
            act("deactivate")

    class Work(Bolt):
        tick_interval_s = 0.005

        def process(self, n: int) -> None:
            if n == 1:
                raise Reject("one")

        def tick(self) -> None:
            act("tick")

        def flush(self) -> None:
            act("flush")

        def finish(self) -> None:
            act("finish")

        def close(self) -> None:
            act("close")

    topology = rig.topology()
    topology.spout("source", partial(Source, 2))
    topology.bolt("work", Work, inputs="source")
    running = topology.start()
    wait_until(lambda: running.snapshot()["state"] == "running")  # workers cannot be paused before they begin
    running.deactivate()
    wait_until(lambda: "tick" in calls and "deactivate" in calls)  # a shorter pause is none
    running.activate()
    report = rig.finish(running)
    roots = report.components["source"].roots
    assert (roots.acked, roots.dead) == (1, 1)
    assert f"{hook}() raised SystemExit('{hook}')" in caplog.text
    assert set(calls) == {"tick", "flush", "finish", "close", "ack", "fail", "dead", "activate", "deactivate"}


class Value:
    """A payload that can be watched."""

    def __init__(self, n: int) -> None:
        self.n = n


@in_one_process("looks at the identity of objects")
def test_payloads_are_shared_and_let_go(rig: Rig) -> None:
    """ENGINE 6.5: every branch receives the very object that was emitted, and nobody keeps it afterwards."""
    alive: list[weakref.ref[Value]] = []
    seen: list[int] = []
    sent: list[int] = []

    class Objects(Numbers):
        def next_tuple(self) -> None:
            if self.n == self.stop:
                self.end()
                return
            self.n += 1
            value = Value(self.n)
            alive.append(weakref.ref(value))
            sent.append(id(value))
            self.emit(value, id=self.n)

    class Looks(Bolt):
        auto_ack = False

        def process(self, n: Value, tup: Tuple) -> None:
            seen.append(id(n))
            assert tup[0] is n
            if n.n % 5 == 0 and tup.attempt == 1:
                self.fail(tup)  # an exception would keep its frames, and they the value
            else:
                self.ack(tup)

    topology = rig.topology(max_pending=10_000)
    topology.spout("objects", partial(Objects, 100))
    topology.bolt("same", Identity, inputs="objects")
    topology.bolt("left", Looks, inputs="same")
    topology.bolt("right", Looks, inputs="objects")
    running = topology.start()
    rig.finish(running)
    assert set(seen) <= set(sent)
    assert len(seen) >= 200
    gc.collect()
    assert [ref for ref in alive if ref() is not None] == []
    assert running.report().state == "ended"


@in_one_process("looks at the identity of objects")
def test_what_is_discarded_at_a_stop_is_let_go(rig: Rig, runs: Runs) -> None:
    """ENGINE 6.5: queues, outboxes and held tables of a run that was stopped keep no object alive."""
    alive: list[weakref.ref[Value]] = []
    gate = threading.Event()

    class Objects(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            value = Value(len(alive))
            alive.append(weakref.ref(value))
            self.emit(value, id=len(alive))

    class Waits(Bolt):
        outputs = ["n"]
        auto_ack = False

        def process(self, n: Value, tup: Tuple) -> None:
            self.emit(n)
            gate.wait(10)

    topology = rig.topology(queue_capacity=10)
    topology.spout("objects", Objects)
    topology.bolt("waits", Waits, inputs="objects")
    topology.bolt("quiet", Quiet, inputs="waits")
    running = topology.start()
    while running.report().components["waits"].queue < 10:
        assert running.wait(0.001) is None
    threading.Timer(0.1, gate.set).start()
    report = running.stop(now=True)
    assert report.pending > 10
    runs.check()
    runs.all.clear()
    del running, report
    gc.collect()
    assert [ref for ref in alive if ref() is not None] == []


def test_tuples_take_part_in_garbage_collection(rig: Rig) -> None:
    """ENGINE 6.5: a cycle through a held Tuple is found by the collector, and the tuple is `forgotten` then."""
    notes = Notes()

    class Knots(Bolt):
        auto_ack = False

        def process(self, n: list[Any], tup: Tuple) -> None:
            if tup.attempt == 2:
                self.ack(tup)
                return
            n.append(tup)  # the payload refers to the tuple that refers to it

    class Lists(Numbers):
        def next_tuple(self) -> None:
            if self.n == self.stop:
                self.end()
                return
            self.n += 1
            self.emit([self.n], id=self.n)

    assert gc.is_tracked(Tuple([[]], ["n"]))
    topology = rig.topology(ack_timeout_s=60.0)
    topology.spout("lists", partial(Lists, 3, notes=notes))
    topology.bolt("knots", Knots, inputs="lists")
    running = topology.start()
    report = running.stop(now=True) if running.wait(0.3) is None else running.report()
    # The ledger refers to the payload while its root is pending: no garbage, so no forgetting either.
    assert report.pending == 3
    assert notes.failed == []
    alone: list[Any] = []
    tup = Tuple([alone], ["n"])
    alone.append(tup)
    gone = weakref.ref(tup)
    del tup, alone
    gc.collect()
    assert gone() is None


@in_one_process("its values cannot travel")
def test_destructors_that_run_user_code_do_no_harm(rig: Rig) -> None:  # noqa: C901
    """ENGINE 6.5: a payload whose `__del__` acks, emits, allocates and collects runs under no lock of the engine."""
    deleted: list[int] = []
    refused: list[str] = []
    held: list[tuple[Bolt, Tuple]] = []
    bolts: list[Any] = []

    class Wild:
        def __init__(self, n: int) -> None:
            self.n = n

        def __del__(self) -> None:
            deleted.append(self.n)
            if self.n % 50 == 0:
                gc.collect()
            while held:
                bolt, tup = held.pop()
                bolt.ack(tup)
            if bolts:
                try:
                    bolts[0].emit(-1)
                except EmitError as error:
                    refused.append(str(error))

    class Source(Numbers):
        def next_tuple(self) -> None:
            if self.n == self.stop:
                self.end()
                return
            self.n += 1
            self.emit(Wild(self.n), id=self.n)

    class Fans(Bolt):
        outputs = ["n"]

        def process(self, n: Wild) -> None:
            self.emit(n)

    class Holds(Bolt):
        auto_ack = False
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            bolts.append(self)

        def process(self, tup: Tuple) -> None:
            if tup["n"].n % 7 == 0 and tup.attempt == 1:
                self.fail(tup)
                return
            held.append((self, tup))
            if tup["n"].n % 10 == 0:
                self.flush()

        def flush(self) -> None:
            while held:
                bolt, tup = held.pop()
                bolt.ack(tup)

    topology = rig.topology(queue_capacity=5, max_pending=50)
    topology.spout("source", partial(Source, 300))
    topology.bolt("fans", Fans, inputs="source", parallelism=2)
    topology.bolt("holds", Holds, inputs="fans")
    topology.bolt("quiet", Quiet, inputs="holds")
    report = rig.run(topology)
    assert report.components["source"].roots.acked == 300
    bolts.clear()
    gc.collect()
    assert sorted(deleted) == list(range(1, 301))


def test_a_destructor_that_waits_in_the_timers_hand_over_does_no_harm(rig: Rig) -> None:
    """ENGINE 6.5: the timer passes on what a long call emitted; a payload that it has to drop may let go of the GIL."""
    deleted: list[int] = []

    class Slow:
        nbytes = 4000

        def __del__(self) -> None:
            time.sleep(0.02)
            deleted.append(1)

    class Loops(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            for _ in range(5):
                self.emit(Slow(), anchors=[])  # above `loop_bytes`: dropped
            time.sleep(0.02)  # the timer hands over in this
            self.emit(Slow(), anchors=[])

    topology = rig.topology(loop_bytes=1000)
    topology.spout("numbers", partial(Numbers, 3))
    topology.bolt("loops", Loops, inputs=["numbers", "loops"])
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 3
    assert report.counters["loop_dropped"] == 18
    assert len(deleted) == 18


def test_emit_before_prepare_is_refused_clearly(rig: Rig) -> None:
    """ENGINE 6.2: `emit` in `__init__`, `open` or `prepare` is too early; the text says so and the topology stops."""

    class Early(Bolt):
        outputs = ["n"]

        def __init__(self) -> None:
            self.emit(1)

        def process(self, n: int) -> None: ...

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 1))
    topology.bolt("early", Early, inputs="numbers")
    topology.bolt("quiet", Quiet, inputs="early")
    error = rig.fails(topology)
    assert isinstance(error, RunError)
    assert "emit() before prepare(): the component is not part of a running topology" in str(error)


class SpeaksInClose(Bolt):
    """Emits in `close`; fails the first attempt at 2."""

    outputs = ["n"]

    def __init__(self, refused: list[str]) -> None:
        self.refused = refused

    def process(self, n: int, tup: Tuple) -> None:
        if n == 2 and tup.attempt == 1:
            raise ValueError(n)

    def close(self) -> None:
        try:
            self.emit("last")
        except EmitError as error:
            self.refused.append(str(error))


@pytest.mark.parametrize(("on_error", "instances"), [("fail", 1), ("restart", 2)])
def test_emit_in_close_is_refused(rig: Rig, on_error: str, instances: int) -> None:
    """ENGINE 1.1, 6.2: nobody would deliver what `close` emits, of a task that is over or of an instance replaced."""
    refused: list[str] = []
    seen: list[Any] = []

    class Source(Numbers):
        def close(self) -> None:
            try:
                self.emit(99, id=99)
            except EmitError as error:
                refused.append(str(error))

    topology = rig.topology()
    topology.spout("source", partial(Source, 3))
    topology.bolt("speaks", partial(SpeaksInClose, refused), inputs="source", config={"on_error": on_error})
    topology.bolt("seen", partial(Collect, seen), inputs="speaks")
    report = rig.run(topology)
    assert len(refused) == 1 + instances
    assert all("close()" in text for text in refused)
    assert seen == []
    assert report.components["source"].roots.emitted == 3
    assert report.components["speaks"].roots.emitted == 0
