"""The loop of async bolts against an executor that a test plays."""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from rainband import Bolt, TaskContext, Tuple
from rainband.aio import AsyncTask, close_loop, install, settle
from rainband.binding import WHOLE_TUPLE
from rainband.component import overrides
from rainband.runtime import TaskSpec


class Sink:
    """Takes what the bolt calls, with the anchors of each emit."""

    def __init__(self) -> None:
        self.emitted: list[tuple[Any, list[int]]] = []
        self.acked: list[int] = []
        self.failed: list[int] = []

    def emit(self, *values: Any, anchors: Any = ()) -> None:
        self.emitted.append((values[0] if len(values) == 1 else values, [tup["n"] for tup in anchors]))

    def ack(self, tup: Tuple) -> None:
        self.acked.append(tup["n"])

    def fail(self, tup: Tuple, reason: str = "error", retry: bool = True) -> None:
        self.failed.append(tup["n"])


class PlayedExecutor:
    """Hands out tuples as room is asked for; over when its script says so, called after every slice."""

    def __init__(self, script: Callable[["PlayedExecutor"], float | None]) -> None:
        self.inbox: deque[tuple[int, Tuple]] = deque()
        self.taken: list[int] = []
        self.slices = self.ticking = 0
        self.is_resting = False
        self._script = script
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)

    def put(self, *numbers: int, task: int = 0) -> list[Tuple]:
        made = [Tuple([n], ["n"]) for n in numbers]
        self.inbox.extend((task, tup) for tup in made)
        os.write(self._write, b"x")
        return made

    def take(self, task_id: int, max_n: int) -> list[Tuple]:
        found = [entry for entry in self.inbox if entry[0] == task_id][:max_n]
        self.inbox = deque(entry for entry in self.inbox if not any(entry is other for other in found))
        self.taken.append(len(found))
        return [tup for _, tup in found]

    def works(self) -> None:
        assert self.is_resting
        self.is_resting = False

    def rests(self) -> None:
        assert not self.is_resting
        self.is_resting = True

    def is_stopping(self) -> bool:
        return False

    def background(self, task_id: int, change: int) -> None:
        self.ticking += change
        assert self.ticking in {0, 1}

    def fd(self) -> int:
        return self._read

    def clear(self) -> None:
        os.read(self._read, 4096)

    def after_slice(self) -> float | None:
        self.slices += 1
        return self._script(self)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Rig:
    """One async bolt on its loop."""

    def __init__(self, bolt: Bolt, concurrency: int = 16, task_id: int = 0, *, auto_ack: bool = True) -> None:
        self.bolt = bolt
        self.sink = Sink()
        self.raised: list[tuple[str, BaseException]] = []
        bolt._attach(self.sink)
        hooks = ("tick", "flush", "finish", "close")
        own: dict[str, Any] = {hook: getattr(bolt, hook) if overrides(bolt, hook) else None for hook in hooks}
        context = TaskContext(topology="t", component="b")
        self.spec = TaskSpec(bolt, open=partial(bolt.prepare, context), process=bolt.process, auto_ack=auto_ack, **own)
        self.task: AsyncTask = install(
            self.spec,
            bolt,
            task_id=task_id,
            concurrency=concurrency,
            binding_of=lambda _: WHOLE_TUPLE,
            streams={"default": ("n",)},
            on_raise=lambda where, error: self.raised.append((where, error)),
        )

    def run(self, script: Callable[[PlayedExecutor], float | None], *numbers: int) -> PlayedExecutor:
        executor = PlayedExecutor(script)
        executor.put(*numbers)
        self.spec.open()
        assert self.spec.loop is not None
        limit = threading.Timer(20, lambda: os._exit(3))
        limit.start()
        try:
            self.spec.loop(executor)
        finally:
            limit.cancel()
            assert self.spec.close is not None
            self.spec.close()
            executor.close()
        return executor


def until(rig: Rig, count: int) -> Callable[[PlayedExecutor], float | None]:
    return lambda _: -1.0 if len(rig.sink.acked) + len(rig.sink.failed) >= count else None


class Waits(Bolt):
    """Emits before and after it waited; the larger the number, the shorter."""

    def __init__(self) -> None:
        self.in_flight = self.most = 0

    async def process(self, tup: Tuple) -> None:
        n = tup["n"]
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            self.emit(("before", n))
            await asyncio.sleep(0.02 / (n + 1))
            self.emit(("after", n))
        finally:
            self.in_flight -= 1


def test_each_emit_is_anchored_to_its_own_tuple() -> None:
    rig = Rig(Waits())
    rig.run(until(rig, 8), *range(8))
    assert sorted(rig.sink.acked) == list(range(8))
    assert len(rig.sink.emitted) == 16
    assert all(anchors == [n] for (_, n), anchors in rig.sink.emitted)


def test_no_more_than_concurrency_are_in_flight() -> None:
    bolt = Waits()
    rig = Rig(bolt, concurrency=3)
    executor = rig.run(until(rig, 20), *range(20))
    assert bolt.most == 3
    assert max(executor.taken) <= 3
    assert sorted(rig.sink.acked) == list(range(20))


def test_child_tasks_inherit_the_anchor() -> None:
    class Gathers(Bolt):
        async def process(self, tup: Tuple) -> None:
            await asyncio.gather(self.part(tup["n"]), self.part(tup["n"]))

        async def part(self, n: int) -> None:
            await asyncio.sleep(0.001)
            self.emit(n)

    rig = Rig(Gathers())
    rig.run(until(rig, 4), *range(4))
    assert sorted(rig.sink.emitted) == sorted((n, [n]) for n in (0, 0, 1, 1, 2, 2, 3, 3))


def test_an_async_generator_emits_what_it_yields() -> None:
    class Yields(Bolt):
        async def process(self, tup: Tuple) -> AsyncIterator[int]:
            yield tup["n"]
            await asyncio.sleep(0)
            yield -tup["n"]

    rig = Rig(Yields())
    rig.run(until(rig, 2), 1, 2)
    assert sorted(rig.sink.emitted) == [(-2, [2]), (-1, [1]), (1, [1]), (2, [2])]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_is_raised_fails_the_tuple_and_not_the_loop(error: BaseException) -> None:
    class Raises(Bolt):
        async def process(self, tup: Tuple) -> None:
            await asyncio.sleep(0)
            if tup["n"] == 1:
                raise error

    rig = Rig(Raises())
    rig.run(until(rig, 3), 0, 1, 2)
    assert sorted(rig.sink.acked) == [0, 2]
    assert rig.sink.failed == [1]
    assert rig.raised == [("process", error)]


def test_the_core_is_told_what_was_raised() -> None:
    class Raises(Bolt):
        async def process(self, tup: Tuple) -> None:
            raise ValueError(tup["n"])

    told: list[tuple[int, str]] = []
    rig = Rig(Raises())
    vars(rig.bolt)["_raised"] = lambda tup, error: told.append((tup["n"], str(error)))
    rig.run(lambda _: -1.0 if told else None, 1)
    assert told == [(1, "1")]
    assert (rig.sink.failed, rig.raised) == ([], [])


def test_a_returned_value_fails_the_tuple() -> None:
    class Returns(Bolt):
        async def process(self, tup: Tuple) -> int:
            return 5

    rig = Rig(Returns())
    rig.run(until(rig, 1), 1)
    assert rig.sink.failed == [1]
    assert str(rig.raised[0][1]) == "process() returned int; what it returns is not emitted: yield it or emit it"


def test_a_plain_process_beside_async_hooks() -> None:
    class Mixed(Bolt):
        async def prepare(self, context: TaskContext) -> None:
            await asyncio.sleep(0)
            self.is_ready = True

        def process(self, tup: Tuple) -> Iterator[int]:
            assert self.is_ready
            yield tup["n"]

    rig = Rig(Mixed())
    rig.run(until(rig, 1), 1)
    assert rig.sink.emitted == [(1, [1])]


def test_manual_acks_are_left_to_the_bolt() -> None:
    rig = Rig(Waits(), auto_ack=False)
    rig.run(lambda _: -1.0 if len(rig.sink.emitted) == 4 else None, 1, 2)
    assert rig.sink.acked == []


def test_a_tuple_that_timed_out_is_cancelled_and_not_settled_again() -> None:
    class Hangs(Bolt):
        cancelled = False

        async def process(self, tup: Tuple) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    bolt = Hangs()
    rig = Rig(bolt)
    tuples: list[Tuple] = []

    def script(executor: PlayedExecutor) -> float | None:
        if executor.slices == 2:
            assert rig.spec.cancel is not None
            rig.spec.cancel(tuples[0])
        return -1.0 if executor.slices >= 3 and bolt.cancelled else 0.001

    executor = PlayedExecutor(script)
    tuples += executor.put(1)
    rig.spec.open()
    assert rig.spec.loop is not None
    assert rig.spec.close is not None
    rig.spec.loop(executor)
    rig.spec.close()
    executor.close()
    assert bolt.cancelled
    assert (rig.sink.acked, rig.sink.failed, rig.raised) == ([], [], [])


def test_the_end_cancels_what_is_in_flight_without_settling_it() -> None:
    class Hangs(Bolt):
        ended = False

        async def process(self, tup: Tuple) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                self.ended = True

    bolt = Hangs()
    rig = Rig(bolt)
    rig.run(lambda executor: -1.0 if executor.slices > 2 else 0.001, 1)
    assert bolt.ended
    assert (rig.sink.acked, rig.sink.failed, rig.raised) == ([], [], [])


def test_a_restarted_task_begins_anew_on_the_same_loop() -> None:
    class Hangs(Bolt):
        async def process(self, tup: Tuple) -> None:
            await asyncio.sleep(60)

    old = Rig(Hangs())
    new: list[Rig] = []

    def script(executor: PlayedExecutor) -> float | None:
        if executor.slices == 2:
            assert old.spec.close is not None
            old.spec.close()
            new.append(Rig(Waits()))
            executor.put(2)
        return -1.0 if new and new[0].sink.acked else 0.001

    executor = PlayedExecutor(script)
    executor.put(1)
    assert old.spec.loop is not None
    old.spec.loop(executor)
    assert new[0].spec.close is not None
    new[0].spec.close()
    executor.close()
    assert (old.sink.acked, old.sink.failed, old.raised) == ([], [], [])
    assert new[0].sink.acked == [2]


def test_outputs_are_flushed_as_they_come_and_not_at_the_end_of_a_call() -> None:
    seen: list[int] = []
    rig = Rig(Waits())

    def script(_: PlayedExecutor) -> float | None:
        seen.append(len(rig.sink.emitted))
        return -1.0 if rig.sink.acked else None

    rig.run(script, 0)
    assert 1 in seen


def test_news_wakes_an_idle_loop_and_nothing_else_does() -> None:
    rig = Rig(Waits())
    executor = PlayedExecutor(until(rig, 1))
    rig.spec.open()
    threading.Timer(0.2, executor.put, [5]).start()
    assert rig.spec.loop is not None
    assert rig.spec.close is not None
    before = time.process_time()
    rig.spec.loop(executor)
    assert time.process_time() - before < 0.1
    rig.spec.close()
    executor.close()
    assert rig.sink.acked == [5]
    assert executor.slices < 10


def test_after_slice_is_called_again_when_it_asked_to_be() -> None:
    rig = Rig(Waits())
    begun = time.monotonic()
    executor = rig.run(lambda executor: -1.0 if executor.slices > 5 else 0.02)
    assert 0.08 <= time.monotonic() - begun < 2
    assert executor.slices == 6


class Ticks(Bolt):
    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def process(self, tup: Tuple) -> None: ...

    async def tick(self) -> None:
        self.begun += 1
        await asyncio.sleep(0.03)
        self.emit("tick")
        self.ended += 1

    async def finish(self) -> None:
        await asyncio.sleep(0)
        self.emit(("finish", self.ended))


def test_ticks_run_beside_tuples_do_not_pile_up_and_end_before_finish() -> None:
    bolt = Ticks()
    rig = Rig(bolt)

    def script(executor: PlayedExecutor) -> float | None:
        assert rig.spec.tick is not None
        assert rig.spec.finish is not None
        if executor.slices <= 5:
            rig.spec.tick()
            return 0.001
        if rig.sink.acked:
            rig.spec.finish()
            return -1.0
        return None

    rig.run(script, 1)
    assert rig.sink.acked == [1]
    assert bolt.begun == bolt.ended == 1
    assert rig.sink.emitted == [("tick", []), (("finish", 1), [])]


def test_finish_waits_for_tuples_in_flight() -> None:
    class Slow(Bolt):
        async def process(self, tup: Tuple) -> None:
            await asyncio.sleep(0.02)
            self.emit(tup["n"])

        def finish(self) -> None:
            self.emit("finish")

    rig = Rig(Slow(), concurrency=2)

    def script(executor: PlayedExecutor) -> float | None:
        if executor.slices < 2:
            return 0.0
        assert rig.spec.finish is not None
        rig.spec.finish()
        return -1.0

    rig.run(script, 1, 2)
    assert rig.sink.emitted == [(1, [1]), (2, [2]), ("finish", [])]


def test_a_flush_that_raises_raises_to_the_core() -> None:
    class Flushes(Bolt):
        async def process(self, tup: Tuple) -> None: ...

        async def flush(self) -> None:
            await asyncio.sleep(0)
            raise SystemExit(3)

    rig = Rig(Flushes())
    seen: list[BaseException] = []

    def script(_: PlayedExecutor) -> float | None:
        assert rig.spec.flush is not None
        try:
            rig.spec.flush()
        except SystemExit as error:
            seen.append(error)
        return -1.0

    rig.run(script)
    assert [error.code for error in seen if isinstance(error, SystemExit)] == [3]


def test_tasks_of_one_executor_share_its_loop() -> None:
    one, two = Rig(Waits(), 2, 0), Rig(Waits(), 2, 1)
    executor = PlayedExecutor(lambda _: -1.0 if len(one.sink.acked) + len(two.sink.acked) == 6 else None)
    executor.put(1, 2, 3, 4, task=0)
    executor.put(5, 6, task=1)
    assert one.spec.loop == two.spec.loop
    assert one.spec.loop is not None
    one.spec.loop(executor)
    for rig in (one, two):
        assert rig.spec.close is not None
        rig.spec.close()
    executor.close()
    assert sorted(one.sink.acked) == [1, 2, 3, 4]
    assert sorted(two.sink.acked) == [5, 6]


def test_what_a_plain_process_returned_is_settled() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def wrong() -> int:
        return 5

    assert settle(work()) is None
    assert list(settle(numbers()) or ()) == [1, 2]
    with pytest.raises(TypeError, match=r"process\(\) returned int; what it returns is not emitted"):
        settle(wrong())
    with pytest.raises(TypeError, match=r"process\(\) returned int; what it returns is not emitted"):
        settle(5)
    close_loop()
    close_loop()
