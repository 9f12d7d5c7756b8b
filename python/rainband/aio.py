"""The loop of executors that run `async` bolts: many tuples in flight on one thread, each with its own anchors.

Stage 5 of a tuple's path, in place of the core's own loop. One asyncio loop lives on the executor's thread and is
shared by the tasks that the executor runs. The core gives primitives (`Executor` below): take tuples, a file
descriptor that is readable when there is news, and `after_slice`, which flushes what was emitted and acked, runs
ticks and signals, and says when it wants to be called again. Between two calls of `after_slice` the loop turns until
a step of a coroutine was made, news came or that time passed.

Whose tuple an `emit` belongs to is a context variable, not the core's "tuple in hand": between two steps of one
coroutine others run, and child tasks (`gather`, `TaskGroup`) inherit the variable from the coroutine that started
them.

Guarantees: at most `concurrency` tuples of a task are in flight; each is acked when its coroutine ends and failed
when it raises, with whatever it raises, also SystemExit; one that times out is cancelled; ticks do not pile up;
`finish` begins when nothing of the task is in flight. Not promised: order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .aio_loop import ExecutorLike, Loop, close_loop, loop_of_thread
from .batching import fail_with
from .yielded import emit_yielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from ._core import Tuple
    from .binding import Binding
    from .component import Bolt
    from .runtime import TaskSpec

__all__ = ["AsyncTask", "ExecutorLike", "close_loop", "install", "settle"]

_current: ContextVar[Tuple | None] = ContextVar("rainband_tuple", default=None)
_MISSING: Final = object()


def install(
    spec: TaskSpec,
    bolt: Bolt,
    *,
    task_id: int,
    concurrency: int,
    binding_of: Callable[[Tuple], Binding],
    streams: Mapping[str, Sequence[str]],
    on_raise: Callable[[str, BaseException], None],
) -> AsyncTask:
    """Make `spec` run its tuples on this thread's asyncio loop.

    Args:
        spec: the task, with the user's hooks in place.
        bolt: its instance.
        task_id: under which the executor hands its tuples out.
        concurrency: tuples in flight at most.
        binding_of: how parameters of `process` are bound to the fields of a tuple.
        streams: the fields of each stream that the bolt declares.
        on_raise: told (hook, error) when user code raised outside a call of the core.
    """
    loop = loop_of_thread()
    task = AsyncTask(
        loop,
        bolt,
        task_id=task_id,
        concurrency=concurrency,
        auto_ack=spec.auto_ack,
        binding_of=binding_of,
        streams=streams,
        on_raise=on_raise,
    )
    loop.tasks[task_id] = task
    spec.mode = "async"
    spec.process = None
    spec.auto_ack = False
    spec.loop = loop.run
    spec.cancel = task.cancel
    spec.open = partial(task.run_hook, spec.open)
    spec.tick = None if spec.tick is None else partial(task.tick, spec.tick)
    spec.flush = None if spec.flush is None else partial(task.run_hook, spec.flush)
    spec.finish = partial(task.finish, spec.finish)
    spec.close = partial(loop.close_task, task_id, task, spec.close)
    return task


def settle(returned: object) -> Iterator[object] | None:
    """Run to its end what the `process` of a plain bolt returned: a coroutine, or an async generator to iterate.

    For a `process` that only shows when it is called that it is asynchronous (a decorated one). One at a time;
    declare it `async def` to have several in flight.

    Example:
        >>> async def numbers():
        ...     yield 1
        ...     yield 2
        >>> list(settle(numbers()))
        [1, 2]
    """
    loop = loop_of_thread()
    if inspect.isasyncgen(returned):
        return _iterate(loop, returned)
    if inspect.iscoroutine(returned):
        _refuse(loop.complete(lambda: returned))
        return None
    _refuse(returned)
    return None


def _iterate(loop: Loop, generator: AsyncIterator[object]) -> Iterator[object]:
    while True:
        item = loop.complete(lambda: _next_or(generator, _MISSING))
        if item is _MISSING:
            return
        yield item


async def _next_or(generator: AsyncIterator[object], default: object) -> object:
    return await anext(generator, default)


def _refuse(result: object) -> None:
    if result is not None:
        raise TypeError(
            f"process() returned {type(result).__name__}; what it returns is not emitted: yield it or emit it"
        )


def arguments(binding: Binding, tup: Tuple) -> tuple[list[Any], dict[str, Any]]:
    """What `process` is called with for a tuple.

    Example:
        >>> from rainband import Tuple
        >>> from rainband.binding import Binding
        >>> arguments(Binding((1, 0), ("word",)), Tuple(["a", 1], ["word", "at"]))
        ([1], {'word': 'a'})
    """
    values = tup.values
    found = [tup if source < 0 else values[source] for source in binding.args]
    n_positional = len(found) - len(binding.kwnames)
    return found[:n_positional], dict(zip(binding.kwnames, found[n_positional:], strict=True))


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


class AsyncTask:
    """One task of an `async` bolt: what it has in flight."""

    def __init__(
        self,
        loop: Loop,
        bolt: Bolt,
        *,
        task_id: int,
        concurrency: int,
        auto_ack: bool,
        binding_of: Callable[[Tuple], Binding],
        streams: Mapping[str, Sequence[str]],
        on_raise: Callable[[str, BaseException], None],
    ) -> None:
        self.concurrency = concurrency
        self.task_id = task_id
        self.waiting: deque[Tuple] = deque()  # taken and not begun
        self._loop = loop
        self._bolt = bolt
        self._auto_ack = auto_ack
        self._binding_of = binding_of
        self._streams = streams
        self._on_raise = on_raise
        self._in_flight: dict[int, asyncio.Task[None]] = {}  # by id() of the tuple, which the coroutine keeps alive
        self._timed_out: set[int] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._is_closed = False  # what is in flight then is the core's to settle
        self._emit = bolt.emit
        vars(bolt)["emit"] = self.emit

    @property
    def room(self) -> int:
        """How many more tuples this task may begin."""
        return self.concurrency - len(self._in_flight) - len(self.waiting)

    def emit(self, *values: Any, **more: Any) -> None:
        """The bolt's `emit`, anchored to the tuple of the coroutine that calls it."""
        current = _current.get()
        if current is not None and "anchors" not in more:
            more["anchors"] = (current,)
        self._emit(*values, **more)
        self._loop.wake()

    def begin_waiting(self) -> None:
        """Begin what waits for room."""
        while self.waiting and len(self._in_flight) < self.concurrency:
            self.begin(self.waiting.popleft())

    def begin(self, tup: Tuple) -> None:
        """Start the coroutine of one tuple."""
        task = self._loop.asyncio.create_task(self._handle(tup))
        self._in_flight[id(tup)] = task
        task.add_done_callback(partial(self._ended, tup))

    def _ended(self, tup: Tuple, _task: asyncio.Task[None]) -> None:
        self._in_flight.pop(id(tup), None)
        self._timed_out.discard(id(tup))
        self._loop.wake()

    async def _handle(self, tup: Tuple) -> None:
        if self._loop.is_stopping():
            return  # it stays un-acked; coroutines that were made together with one that failed begin after it
        token = _current.set(tup)
        try:
            await self._consume(self._call(tup))
        except BaseException as error:  # noqa: BLE001 - whatever user code raises fails the tuple, not the loop
            if not self._is_closed and id(tup) not in self._timed_out:
                self._raised(tup, error)
        else:
            if self._auto_ack and not self._is_closed and id(tup) not in self._timed_out:
                self._bolt.ack(tup)
        finally:
            _current.reset(token)

    async def _consume(self, returned: object) -> None:
        """Carry out what a hook returned: a coroutine, what a generator of either kind yields, or nothing."""
        if inspect.isasyncgen(returned):
            async for value in returned:
                emit_yielded(self.emit, self._streams, value)
        elif inspect.isgenerator(returned):
            for value in returned:
                emit_yielded(self.emit, self._streams, value)
        else:
            _refuse(await returned if inspect.iscoroutine(returned) else returned)

    def run_hook(self, hook: Callable[[], object]) -> None:
        """Call `prepare`, `flush`, `finish` or `close` and wait for its end."""
        returned = hook()
        if returned is not None:
            self._loop.complete(lambda: self._consume(returned))

    def _call(self, tup: Tuple) -> object:
        args, named = arguments(self._binding_of(tup), tup)
        return self._bolt.process(*args, **named)

    def run_one(self, tup: Tuple) -> None:
        """Handle one tuple to its end, for a test harness."""
        self._loop.complete(lambda: self._handle(tup))

    def run_ticks(self) -> None:
        """Wait for the end of a tick, for a test harness."""
        ticking = self._ticking
        if ticking is not None:
            self._loop.complete(partial(_ended, ticking))

    def _raised(self, tup: Tuple, error: BaseException) -> None:
        # The core does all that it does when a plain `process` raises: log, fail, `on_error`. A harness only fails.
        raised = getattr(self._bolt, "_raised", None)
        if raised is not None and raised(tup, error) is not False:
            return
        fail_with(self._bolt, self._bolt.fail, tup, error)
        self._on_raise("process", error)

    def cancel(self, tup: Tuple) -> None:
        """A tuple was held too long: the core has failed it, end its coroutine."""
        if any(waiting is tup for waiting in self.waiting):
            self.waiting = deque(waiting for waiting in self.waiting if waiting is not tup)
            return
        task = self._in_flight.get(id(tup))
        if task is not None:
            self._timed_out.add(id(tup))
            task.cancel()

    def tick(self, hook: Callable[[], object]) -> None:
        """Run the user's `tick`: at once if it is plain, beside the tuples if it is `async`; skipped while one runs."""
        if self._ticking is not None and not self._ticking.done():
            return
        returned = hook()
        if returned is not None:
            self._loop.background(self.task_id, 1)
            self._ticking = self._loop.asyncio.create_task(self._tick(returned))
            self._ticking.add_done_callback(self._tick_ended)

    def _tick_ended(self, _task: asyncio.Task[None]) -> None:
        self._loop.background(self.task_id, -1)
        self._loop.wake()

    async def _tick(self, returned: object) -> None:
        try:
            await self._consume(returned)
        except BaseException as error:  # noqa: BLE001 - as in _handle
            if not self._is_closed:
                self._on_raise("tick", error)

    def finish(self, hook: Callable[[], object] | None) -> None:
        """Wait for what is in flight (untracked tuples may be), then run the user's `finish`."""
        self._loop.complete(self._all_ended)
        if hook is not None:
            self.run_hook(hook)

    async def _all_ended(self) -> None:
        while self.waiting or self._in_flight or (self._ticking is not None and not self._ticking.done()):
            self.begin_waiting()
            rest: list[asyncio.Task[None]] = list(self._in_flight.values())
            await asyncio.wait(rest + ([self._ticking] if self._ticking is not None else []))
            await asyncio.sleep(0)  # for the callbacks that take the ended ones out

    def cancel_all(self) -> list[asyncio.Task[None]]:
        """Cancel everything, settle nothing any more; the asyncio tasks to wait for."""
        self._is_closed = True
        self.waiting.clear()
        rest = [*self._in_flight.values(), *([self._ticking] if self._ticking is not None else [])]
        for task in rest:
            task.cancel()
        return rest
