"""`Sequence`: numbers or values made on the spot, as fast as they are taken or at a fixed rate.

A spout's hooks, on its own thread. The rate is open loop: value n is due at start + n / rate whatever happened to
those before it, so a topology that falls behind sees a queue and not a slower source. Nothing here sleeps; what is
not due yet is left to the next call. Positions are the numbers, so a run with the same state folder goes on with the
next one.

    rate 100, 2 tasks: task 0 emits 0 2 4 … at 0, 20, 40 ms, task 1 emits 1 3 5 … at 10, 30, 50 ms
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, ClassVar

from rainband.component import Spout, TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Values

__all__ = ["Sequence"]

_EMITS = 32  # values that one call of next_tuple emits at most


class Sequence(Spout):
    """Numbers from `start` on, or values made of them.

    The tasks of a spout with parallelism take turns; `rate` and `count` are of the whole spout. A value is emitted as
    the one field of the stream, or spread over several if the wiring has several.

    Args:
        count: how many values, all of `values` if that is a list, endless if not given.
        rate: values per second; as many as are taken if not given.
        start: the first number.
        values: what to emit for number n: `values(n)` of a function, `values[n - start]` of a list, n itself if not
            given.

    Raises:
        ValueError: a rate that is not above 0, a count below 0, or a list that is shorter than `count`.

    Example:
        >>> from functools import partial
        >>> from rainband.testing import SpoutHarness
        >>> with SpoutHarness(partial(Sequence, 3, values=lambda n: f"user {n}")) as source:
        ...     source.run()
        ['user 0', 'user 1', 'user 2']
    """

    outputs: ClassVar[list[str]] = ["value"]
    on_error: ClassVar[str] = "stop"

    def __init__(
        self,
        count: int | None = None,
        *,
        rate: float | None = None,
        start: int = 0,
        values: Callable[[int], Any] | Values[Any] | None = None,
    ) -> None:
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"rate is {rate!r}; expected values per second, above 0")
        if count is not None and count < 0:
            raise ValueError(f"count is {count!r}; expected at least 0")
        self._make: Callable[[int], Any] | None = None
        if callable(values):
            self._make = values
        elif values is not None:
            listed = list(values)
            count = len(listed) if count is None else count
            if count > len(listed):
                raise ValueError(f"count is {count}, but there are only {len(listed)} values")
            self._make = lambda n: listed[n - start]
        self._start = start
        self._stop = math.inf if count is None else start + count
        self._rate = rate
        self._clock = time.monotonic

    def open(self, context: TaskContext, /) -> None:
        """Go to the first number of this task, or behind the stored position."""
        self._step = max(1, len(context.tasks.get(context.component, ())))
        self._index = context.task_index
        self._next: int = self._start + self._index if context.position is None else context.position + self._step
        self._spread = len(context.streams.get("default", ("value",))) > 1
        self.activate()

    def activate(self) -> None:
        """Begin the schedule anew: what would have been due during a pause is not made up for."""
        if self._rate is not None:
            self._begun_s = self._clock() + self._index / self._rate
            self._begun_at = self._next

    def next_tuple(self) -> None:
        """Emit what is due, up to 32 values."""
        emit, n, make, spread = self.emit, self._next, self._make, self._spread
        until = min(self._stop, n + _EMITS * self._step, self._due())
        try:
            while n < until:
                value: Any = n if make is None else make(n)
                if spread:
                    emit(*value, id=n, position=n)
                else:
                    emit(value, id=n, position=n)
                n += self._step
        finally:
            self._next = n
        if n >= self._stop:
            self.end()

    def _due(self) -> float:
        """The number before which everything is due."""
        if self._rate is None:
            return math.inf
        passed_s = self._clock() - self._begun_s
        turns = math.floor(passed_s * self._rate / self._step) + 1 if passed_s >= 0 else 0
        return self._begun_at + turns * self._step
