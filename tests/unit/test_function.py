"""Marked functions, and their adaptors: `FunctionBolt` calls nothing of ours, `GeneratorSpout` never blocks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from rainband import IDLE, At, EmitError, TaskContext, Topology, bolt, spout, to
from rainband.function import CAPACITY, MOVES, FunctionBolt, GeneratorSpout, mark_of
from rainband.plan import compile_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CONTEXT = TaskContext(topology="t", component="s")


class Sink:
    """Takes what a spout calls."""

    def __init__(self) -> None:
        self.emitted: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.ended = 0

    def emit(self, *values: Any, **more: Any) -> None:
        self.emitted.append((values, more))

    def end(self) -> None:
        self.ended += 1

    @property
    def values(self) -> list[Any]:
        return [values[0] if len(values) == 1 else values for values, _ in self.emitted]


class Driver:
    """Does what the engine does: calls `next_tuple`, sleeps while it finds nothing, is woken by `_wake`."""

    def __init__(
        self, function: Callable[..., Iterable[Any]], fields: tuple[str, ...] = ("n",), context: TaskContext = CONTEXT
    ) -> None:
        self.sink = Sink()
        self.spout = GeneratorSpout(function, context_parameter=None, fields=fields)
        self.spout._attach(self.sink)
        self.woken = threading.Event()
        self.spout._wake = self.woken.set
        self.spout.open(context)

    def run(self, until: int | None = None) -> Sink:
        """Until the end, or until so many values were emitted."""
        sink = self.sink
        while not sink.ended and (until is None or len(sink.emitted) < until):
            before = len(sink.emitted)
            self.spout.next_tuple()
            if len(sink.emitted) == before and not sink.ended:
                assert self.woken.wait(10), "nobody woke the engine"
                self.woken.clear()
        return sink


def test_marked_functions_stay_as_they_were() -> None:
    @bolt(outputs=["word"], concurrency=3)
    def split(line: str) -> Iterator[str]:
        """Words of a line."""
        yield from line.split()

    assert list(split("a b")) == ["a", "b"]
    assert split.__doc__ == "Words of a line."
    assert mark_of(split) is not None
    assert mark_of(len) is None


def test_bare_marks() -> None:
    @bolt
    def show(line: str) -> None: ...

    @spout
    def numbers() -> Iterator[int]:
        yield 1

    topology = Topology("t")
    topology.spout("numbers", numbers, outputs=["line"])
    topology.bolt("show", show, inputs="numbers")
    plan = compile_plan(topology)
    assert plan.core["components"][1]["streams"] == []


@pytest.mark.parametrize("mark", [bolt, spout])
def test_only_functions_can_be_marked(mark: Any) -> None:
    with pytest.raises(TypeError, match=rf"@{mark.__name__} marks functions, got the class int; a subclass of Spout"):
        mark(outputs=["n"])(int)
    with pytest.raises(TypeError, match=rf"@{mark.__name__} marks functions, got functools.partial"):
        mark(partial(int))


def test_the_process_of_a_function_bolt_is_the_function() -> None:
    @bolt(outputs=["word"])
    def split(line: str) -> Iterator[str]:
        yield from line.split()

    made = compile_bolt(split)
    assert isinstance(made, FunctionBolt)
    assert made.process is split


def test_a_function_bolt_with_a_context() -> None:
    @bolt(outputs=["word", "task"])
    def tag(context: TaskContext, word: str) -> Any:
        return word, context.task_index

    made = compile_bolt(tag)
    assert made.process(word="a") == ("a", 0)
    assert made.process.func is tag


def compile_bolt(function: Any) -> Any:
    topology = Topology("t")
    topology.spout("s", partial(count_to, 3), outputs=["line", "word"])
    topology.bolt("b", function, inputs="s")
    return compile_plan(topology).component("b").build(TaskContext(topology="t", component="b"))


@spout(outputs=["n"])
def count_to(stop: int) -> Iterator[int]:
    yield from range(stop)


def test_values_are_numbered_and_in_order() -> None:
    sink = Driver(partial(count_to, 5000)).run()
    assert sink.values == list(range(5000))
    assert [more for _, more in sink.emitted] == [{"id": n} for n in range(5000)]
    assert sink.ended == 1


def test_several_fields_other_streams_and_positions() -> None:
    def rows() -> Iterator[Any]:
        yield "a", 1
        yield ["b", 2]
        yield At(7, ("c", 3))
        yield to("late", "d")
        yield At(8, to("late", "e"))

    sink = Driver(rows, ("word", "n")).run()
    assert sink.emitted == [
        (("a", 1), {"id": 0}),
        (("b", 2), {"id": 1}),
        (("c", 3), {"id": 2, "position": 7}),
        (("d",), {"id": 3, "stream": "late"}),
        (("e",), {"id": 4, "position": 8, "stream": "late"}),
    ]


def test_a_tuple_is_one_value_of_one_field() -> None:
    assert Driver(lambda: iter([("a", 1), ["b"]])).run().emitted[0] == ((("a", 1),), {"id": 0})


@pytest.mark.parametrize("value", ["ab", 5, ("a", 1, 2), None])
def test_a_value_that_does_not_fit_the_fields(value: Any) -> None:
    with pytest.raises(EmitError, match="yielded"):
        Driver(lambda: iter([value]), ("word", "n")).run()


def test_several_move_in_one_call_and_never_more_than_the_limit() -> None:
    driver = Driver(partial(count_to, 1000))
    thread = driver.spout._thread
    assert thread is not None
    thread.join(10)
    driver.spout.next_tuple()
    assert len(driver.sink.emitted) == MOVES


def test_a_small_max_pending_is_not_overshot() -> None:
    context = TaskContext(topology="t", component="s", config={"max_pending": 1})
    driver = Driver(partial(count_to, 10), context=context)
    for n in range(1, 11):
        driver.run(until=n)
        assert len(driver.sink.emitted) == n
        assert len(driver.spout._ready) <= 1
    assert driver.run().values == list(range(10))


def test_read_ahead_is_bounded() -> None:
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    driver = Driver(endless)
    wait_until(lambda: driver.spout._parked)
    assert len(driver.spout._ready) == CAPACITY
    assert read == CAPACITY
    driver.run(until=5 * CAPACITY)
    assert driver.sink.values == list(range(1, len(driver.sink.values) + 1))
    driver.spout.close()
    assert driver.spout._thread is not None
    assert not driver.spout._thread.is_alive()


def test_a_blocked_source_does_not_block_next_tuple_and_is_handed_over_at_once() -> None:
    gate = threading.Semaphore(0)

    def slow() -> Iterator[int]:
        for n in range(3):
            assert gate.acquire(timeout=10)
            yield n

    driver = Driver(slow)
    for n in range(3):
        for _ in range(5):
            driver.spout.next_tuple()
        assert len(driver.sink.emitted) == n
        gate.release()
        driver.run(until=n + 1)
    assert driver.run().values == [0, 1, 2]


def test_one_thread_reads_from_the_first_to_the_last_line() -> None:
    seen: set[int] = set()

    def source() -> Iterator[int]:
        try:
            for n in range(3):
                seen.add(threading.get_ident())
                yield n
        finally:
            seen.add(threading.get_ident())

    Driver(source).run()
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_idle_is_not_emitted_and_rests() -> None:
    polls = 0

    def polling() -> Iterator[Any]:
        nonlocal polls
        for _ in range(30):
            polls += 1
            yield IDLE
        yield "value"

    started = time.monotonic()
    assert Driver(polling).run().values == ["value"]
    assert polls == 30
    # 1 + 2 + 4 + 8 + 16 ms, then 20 ms each; a source that polls must not burn a core.
    assert time.monotonic() - started > 0.4
    assert repr(IDLE) == "IDLE"


def test_an_exception_surfaces_after_what_was_yielded_with_the_users_traceback() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("the source is gone")

    driver = Driver(broken)
    with pytest.raises(LookupError, match="the source is gone") as caught:
        driver.run()
    assert driver.sink.values == [1, 2]
    assert driver.sink.ended == 0
    assert "broken" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_the_source_raises_surfaces(error: BaseException) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise error

    with pytest.raises(type(error)):
        Driver(broken).run()


def test_a_function_that_returns_an_iterable_and_one_that_does_not() -> None:
    assert Driver(lambda: [1, 2]).run().values == [1, 2]
    nothing: Any = lambda: None  # noqa: E731
    with pytest.raises(TypeError, match="a spout function yields its values or returns an iterable, got None"):
        Driver(nothing).run()


def test_close_runs_the_finally_of_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    driver = Driver(source)
    driver.run(until=10)
    driver.spout.close()
    assert closed.wait(5)


def test_close_does_not_wait_for_a_blocked_source() -> None:
    gate = threading.Event()

    def blocked() -> Iterator[int]:
        gate.wait(30)
        yield 1

    driver = Driver(blocked)
    started = time.monotonic()
    driver.spout.close()
    assert time.monotonic() - started < 5
    gate.set()


def test_a_blocked_source_does_not_keep_the_interpreter() -> None:
    script = """
import time
from rainband import TaskContext
from rainband.function import GeneratorSpout
def blocked():
    time.sleep(60)
    yield 1
GeneratorSpout(blocked, context_parameter=None, fields=["n"]).open(TaskContext(topology="t", component="s"))
print("last line")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == ("last line\n", "")


def test_the_context_reaches_the_function() -> None:
    @spout(outputs=["n"])
    def share(stop: int, context: TaskContext) -> Iterator[int]:
        yield from range(context.task_index, stop, len(context.tasks_of("s")))

    topology = Topology("t")
    topology.spout("s", partial(share, 10), parallelism=2)
    plan = compile_plan(topology)
    context = TaskContext(topology="t", component="s", task_id=1, task_index=1, tasks=plan.tasks)
    made: Any = plan.components[0].build(context)
    sink = Sink()
    made._attach(sink)
    made.open(context)
    made._thread.join(10)
    made.next_tuple()
    assert sink.values == [1, 3, 5, 7, 9]


def test_no_wake_up_is_lost() -> None:
    """Producer and consumer race for the same flags; a lost wake-up would hang the driver."""

    def bursts() -> Iterator[int]:
        for n in range(3000):
            if n % 7 == 0:
                time.sleep(0)
            yield n

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert Driver(bursts).run().values == list(range(3000))
    finally:
        sys.setswitchinterval(before)


def wait_until(condition: Callable[[], bool], deadline_s: float = 10) -> None:
    limit = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)
