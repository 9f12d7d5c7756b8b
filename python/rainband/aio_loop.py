"""The asyncio loop of an executor's thread, shared by the tasks of `async` bolts that run there.

Turns between two calls of the core: until a step of a coroutine was made, news came, or the time passed that the core
asked for. Called by aio.py, which runs the tuples on it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._core import Tuple
    from .aio import AsyncTask

__all__ = ["ExecutorLike", "Loop", "close_loop", "loop_of_thread"]

_thread = threading.local()
_CANCEL_S: Final = 1.0  # for coroutines to end after they were cancelled
_log = logging.getLogger("rainband.aio")


class ExecutorLike(Protocol):
    """What the core gives to the loop of an executor."""

    def take(self, task_id: int, max_n: int) -> list[Tuple]:
        """Up to `max_n` manual-ack tuples of a task; their time runs from now on. Does not wait."""

    def works(self) -> None:
        """The loop is about to run steps of coroutines."""

    def rests(self) -> None:
        """The loop is about to wait."""

    def background(self, task_id: int, change: int) -> None:
        """So many more ticks run beside the tuples of a task: it has not ended."""

    def is_stopping(self) -> bool:
        """Whether the run was stopped: no further call is to be begun."""

    def fd(self) -> int:
        """A descriptor that is readable when there is news: tuples, signals, a stop."""

    def clear(self) -> None:
        """Take the news back; called before `take`, so that none is missed."""

    def after_slice(self) -> float | None:
        """Flush, tick, expire; seconds until the next call is due, None: at news only, negative: it is over."""


class Loop:
    """The asyncio loop of one executor's thread, and the tasks on it."""

    def __init__(self) -> None:
        self.asyncio = asyncio.new_event_loop()
        if isinstance(self.asyncio, asyncio.SelectorEventLoop):
            # Not with a loop of another kind (uvloop): there a step that blocks is found by nobody.
            self.asyncio._selector = _Watched(self, self.asyncio._selector)  # type: ignore[attr-defined]  # noqa: SLF001
        self._executor: ExecutorLike | None = None
        self.tasks: dict[int, AsyncTask] = {}
        self._has_news = False  # since the last `take`
        self._is_turning = False  # between `run_forever` and its `stop`; `complete` must not be stopped
        self._is_running = False

    def wake(self) -> None:
        """There is something for `after_slice`, or room for more: let the loop end its turn."""
        self._has_news = True
        if self._is_turning:
            self.asyncio.stop()

    def run(self, executor: ExecutorLike) -> None:
        """The body of the executor's thread, until it is over."""
        self._is_running = True
        self._executor = executor
        descriptor = executor.fd()
        self.asyncio.add_reader(descriptor, self._on_news, executor)
        try:
            while True:
                self._has_news = False
                self._begin(executor)
                delay_s = executor.after_slice()
                if delay_s is not None and delay_s < 0:
                    break
                self._turn(0.0 if self._has_news else delay_s)
        finally:
            self.asyncio.remove_reader(descriptor)
            self._cancel(list(self.tasks.values()))
            self._is_running = False
            self._executor = None

    def _on_news(self, executor: ExecutorLike) -> None:
        executor.clear()
        self.wake()

    def _begin(self, executor: ExecutorLike) -> None:
        for task_id, task in self.tasks.items():
            if task.room > 0:
                task.waiting.extend(executor.take(task_id, task.room))
            task.begin_waiting()

    def background(self, task_id: int, change: int) -> None:
        """So many more ticks run beside the tuples of a task."""
        if self._executor is not None:
            self._executor.background(task_id, change)

    def is_stopping(self) -> bool:
        """Whether the run was stopped: no further call is to be begun."""
        return self._executor is not None and self._executor.is_stopping()

    def select(self, wait: Callable[[], Any]) -> Any:
        """Wait, and let the core know: what runs between two waits is a call of user code, which may last too long."""
        if self._executor is None or not self._is_turning:
            return wait()
        self._executor.rests()
        try:
            return wait()
        finally:
            self._executor.works()

    def _turn(self, delay_s: float | None) -> None:
        limit = None if delay_s is None else self.asyncio.call_later(delay_s, self.asyncio.stop)
        self._is_turning = True
        try:
            self.asyncio.run_forever()
        finally:
            self._is_turning = False
            if limit is not None:
                limit.cancel()

    def complete(self, hook: Callable[[], object]) -> object:
        """Call a hook; if it gives a coroutine, run the loop until that ends."""
        returned = hook()
        if not inspect.iscoroutine(returned):
            return returned
        turning, self._is_turning = self._is_turning, False
        try:
            return self.asyncio.run_until_complete(_caught(returned)).get()
        finally:
            self._is_turning = turning

    def _cancel(self, tasks: list[AsyncTask]) -> None:
        rest = [ended for task in tasks for ended in task.cancel_all() if not ended.done()]
        if rest:
            self.asyncio.run_until_complete(asyncio.wait(rest, timeout=_CANCEL_S))
            left = sum(not task.done() for task in rest)
            if left:
                _log.error("%d coroutines went on after they were cancelled; they are left behind", left)

    def close_task(self, task_id: int, task: AsyncTask, hook: Callable[[], object] | None) -> None:
        """End what a task has in flight and run the user's `close`; with the last task the loop itself is closed."""
        try:
            self._cancel([task])
            if hook is not None:
                task.run_hook(hook)
        finally:
            if self.tasks.get(task_id) is task:
                del self.tasks[task_id]
            if not self.tasks and not self._is_running:
                self.close()

    def close(self) -> None:
        """Close the asyncio loop; the thread may make another."""
        self.asyncio.run_until_complete(self.asyncio.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        self.asyncio.close()
        _thread.loop = None


class _Watched:
    """A selector whose waits go through the loop's `select`."""

    def __init__(self, loop: Loop, selector: Any) -> None:
        self._loop = loop
        self._selector = selector

    def select(self, timeout: float | None = None) -> Any:
        return self._loop.select(lambda: self._selector.select(timeout))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


class _Outcome:
    __slots__ = ("error", "value")

    def __init__(self, value: object = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    def get(self) -> object:
        if self.error is not None:
            raise self.error
        return self.value


async def _caught(coroutine: Coroutine[Any, Any, object]) -> _Outcome:
    # asyncio throws SystemExit and KeyboardInterrupt of a task through the loop and leaves it half run.
    try:
        return _Outcome(await coroutine)
    except BaseException as error:  # noqa: BLE001 - raised again by `get`
        return _Outcome(error=error)


def loop_of_thread() -> Loop:
    """The loop of the calling thread; made at the first call, and closed with its last task or by `close_loop`."""
    loop: Loop | None = getattr(_thread, "loop", None)
    if loop is None:
        loop = _thread.loop = Loop()
        asyncio.set_event_loop(loop.asyncio)
    return loop


def close_loop() -> None:
    """Close the loop of this thread, if one is left: `settle` leaves it open for the next call."""
    loop: Loop | None = getattr(_thread, "loop", None)
    if loop is not None:
        loop.close()
