"""Functions as components: the marks `@bolt` and `@spout`, what spout functions yield, the adaptors that run them.

A mark leaves the function as it was and only writes down, on the function, what check.py needs. The adaptors are made
when a plan is compiled. `FunctionBolt.process` is the user's function itself, so that a tuple costs no call of ours.
`GeneratorSpout` lets a spout function block: a daemon thread of its own reads it into a bounded deque, and `next_tuple`
moves what is there.

    helper thread:   generator ──append──▶ deque (≤ capacity) ──popleft──▶ emit     executor thread, in next_tuple

Who waits for whom: the helper sleeps on a Condition when the deque is full and is notified when it is half empty.
`next_tuple` never sleeps: when it finds nothing it sets `_starving` and returns, and the helper calls `_wake` (set by
the engine) after the next append. Each side first writes its flag and then looks at the deque again, so no wake-up is
lost.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from time import sleep
from types import FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, final, overload

from ._core import To
from .component import Bolt, Spout, TaskContext
from .yielded import emit_yielded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .component import Stream

    Outputs = Sequence[str] | Mapping[str, Any]
    Streams = Mapping[str, Stream | Sequence[str] | Mapping[str, Any]]

F = TypeVar("F", bound="Callable[..., Any]")

MARK = "__rainband__"
CAPACITY = 1024
"""Values read ahead of a spout function at most; never more than `max_pending`."""
MOVES = 64
"""Values that one call of `next_tuple` moves at most; never more than an eighth of `max_pending`."""
IDLE_NAP_S = (0.001, 0.02)
"""First and longest rest of the helper thread after `yield IDLE`; it doubles while the function stays idle."""
CLOSE_WAIT_S = 0.2
"""How long `close` waits for the function's `finally`; one that blocks longer is left on its daemon thread."""


@final
class _Idle:
    """The type of `IDLE`."""

    def __repr__(self) -> str:
        return "IDLE"


IDLE: Final = _Idle()
"""What a spout function yields to say that there is nothing now."""


@final
@dataclass(frozen=True, slots=True)
class At:
    """What a spout function yields to say where in its source a value stands.

    The engine stores the highest position with everything at or before it resolved, and gives it back as
    `context.position` to the next run with the same state folder. Positions increase.

    Example:
        >>> from rainband import TaskContext, spout
        >>> @spout(outputs=["row"])
        ... def rows(count: int, context: TaskContext):
        ...     for n in range((context.position or 0) + 1, count + 1):
        ...         yield At(n, f"row {n}")
        >>> next(rows(3, TaskContext(topology="t", component="rows", position=2)))
        At(position=3, value='row 3')
    """

    position: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Mark:
    """What `@bolt` and `@spout` write down on a function."""

    kind: str
    outputs: Outputs | None = None
    streams: Streams | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@overload
def bolt(function: F, /) -> F: ...
@overload
def bolt(*, outputs: Outputs | None = None, streams: Streams | None = None, **config: Any) -> Callable[[F], F]: ...
def bolt(
    function: F | None = None, /, *, outputs: Outputs | None = None, streams: Streams | None = None, **config: Any
) -> F | Callable[[F], F]:
    """Mark a function as a bolt: its parameters are fields of the input, what it yields is emitted.

    The function stays callable as before. Bare `@bolt` marks one without outputs. A parameter annotated `TaskContext`
    receives it.

    Args:
        function: the function, when used bare.
        outputs: fields of the stream "default", as names or a mapping name → type.
        streams: further streams.
        config: settings of the component, as `tick_interval_s` or `concurrency`.

    Raises:
        TypeError: what is marked is not a plain function.

    Example:
        >>> @bolt(outputs=["word"])
        ... def split(line: str):
        ...     yield from line.split()
        >>> list(split("a b"))
        ['a', 'b']
    """
    mark = Mark("bolt", outputs, streams, config)
    return _marked(function, mark) if function is not None else lambda function: _marked(function, mark)


@overload
def spout(function: F, /) -> F: ...
@overload
def spout(*, outputs: Outputs | None = None, streams: Streams | None = None, **config: Any) -> Callable[[F], F]: ...
def spout(
    function: F | None = None, /, *, outputs: Outputs | None = None, streams: Streams | None = None, **config: Any
) -> F | Callable[[F], F]:
    """Mark a generator function as a spout: what it yields is numbered, emitted and replayed. It may block.

    Its arguments come from `partial(lines, "book.txt")` or a file's `with:`; a parameter annotated `TaskContext`
    receives it. Bare `@spout` leaves the outputs to the wiring.

    Args:
        function: the function, when used bare.
        outputs: fields of the stream "default", as names or a mapping name → type.
        streams: further streams.
        config: settings of the component, as `max_pending`.

    Raises:
        TypeError: what is marked is not a plain function.

    Example:
        >>> @spout(outputs={"n": int})
        ... def numbers(stop: int):
        ...     yield from range(stop)
        >>> list(numbers(2))
        [0, 1]
    """
    mark = Mark("spout", outputs, streams, config)
    return _marked(function, mark) if function is not None else lambda function: _marked(function, mark)


def _marked(function: F, mark: Mark) -> F:
    if not isinstance(function, FunctionType):
        what = f"the class {function.__name__}" if isinstance(function, type) else repr(function)
        raise TypeError(f"@{mark.kind} marks functions, got {what}; a subclass of Spout or Bolt needs no mark")
    setattr(function, MARK, mark)
    return function


def mark_of(function: object) -> Mark | None:
    """What `@bolt` or `@spout` wrote down on a function, None if it is not marked.

    Example:
        >>> @bolt(outputs=["word"], concurrency=4)
        ... def split(line): ...
        >>> mark_of(split).config
        {'concurrency': 4}
    """
    mark = getattr(function, MARK, None)
    return mark if isinstance(mark, Mark) else None


class FunctionBolt(Bolt):
    """A bolt whose `process` is a marked function. Made by `of` when a plan is compiled.

    Example:
        >>> @bolt(outputs=["word"])
        ... def split(line):
        ...     yield from line.split()
        >>> FunctionBolt.of(split, None, None).process is split
        True
    """

    @classmethod
    def of(
        cls, function: Callable[..., Any], context_parameter: str | None, context: TaskContext | None
    ) -> FunctionBolt:
        """An instance for one task; with a context parameter `process` is a partial of the function."""
        made = cls()
        given = {context_parameter: context} if context_parameter is not None else {}
        given = {context_parameter: context} if context_parameter is not None else {}
        vars(made)["process"] = partial(function, **given) if given else function
        return made


class GeneratorSpout(Spout):
    """A spout that emits what a function yields. Made when a plan is compiled; see the head of this file.

    An exception of the function surfaces in `next_tuple`, after everything yielded before it was emitted, and stops the
    run: a generator cannot be resumed.

    Example:
        >>> import time
        >>> class Sink:
        ...     def emit(self, *values, id):
        ...         print(id, values)
        ...     def end(self):
        ...         print("end")
        >>> spout = GeneratorSpout(lambda: iter("ab"), context_parameter=None, fields=["letter"])
        >>> spout._attach(Sink())
        >>> spout.open(TaskContext(topology="t", component="letters"))
        >>> spout._thread.join()
        >>> spout.next_tuple(); spout.next_tuple()
        0 ('a',)
        1 ('b',)
        end
    """

    on_error: ClassVar[str] = "stop"

    def __init__(
        self, function: Callable[..., Iterable[Any]], *, context_parameter: str | None, fields: Sequence[str]
    ) -> None:
        self._function = function
        self._context_parameter = context_parameter
        self._streams = {"default": tuple(fields)}
        self._ready: deque[Any] = deque()
        self._room = threading.Condition()
        self._capacity = CAPACITY
        self._moves = MOVES
        self._number = 0
        self._wake: Callable[[], object] | None = None
        self._starving = False
        self._parked = False
        self._closed = False
        self._done = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def open(self, context: TaskContext, /) -> None:
        """Start the helper thread."""
        pending = context.config.get("max_pending", CAPACITY)
        self._capacity = max(1, min(CAPACITY, pending))
        self._moves = max(1, min(MOVES, pending // 8))
        function = self._function
        if self._context_parameter is not None:
            function = partial(function, **{self._context_parameter: context})
        name = f"{context.component}[{context.task_index}] source"
        self._thread = threading.Thread(target=self._read, args=(function,), name=name, daemon=True)
        self._thread.start()

    def next_tuple(self) -> None:
        """Move up to `_moves` values from the deque to `emit`; when there is none, ask to be woken."""
        ready = self._ready
        count = len(ready)
        if not count:
            self._starving = True
            if not ready:
                if self._done and not ready:
                    self._finish()
                return
            self._starving = False
            count = len(ready)
        emit, take, number = self.emit, ready.popleft, self._number
        one_field = len(self._streams["default"]) == 1
        try:
            for _ in range(min(count, self._moves)):
                value = take()
                if one_field and value.__class__ not in _SPECIAL:
                    emit(value, id=number)
                else:
                    self._emit_other(value, number)
                number += 1
        finally:
            self._number = number
        if self._parked and len(ready) <= self._capacity // 2:
            with self._room:
                self._room.notify()

    def close(self) -> None:
        """Let the helper end. A function that blocks is left on its daemon thread, which dies with the process."""
        with self._room:
            self._closed = self._starving = True  # both, so that the helper looks at one flag per value
            self._room.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _finish(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.end()

    def _emit_other(self, value: Any, number: int) -> None:
        if value.__class__ is At:
            emit_yielded(partial(self.emit, id=number, position=value.position), self._streams, value.value)
        elif value.__class__ is tuple and len(value) == len(self._streams["default"]) != 1:
            self.emit(*value, id=number)
        else:
            emit_yielded(partial(self.emit, id=number), self._streams, value)

    def _read(self, function: Callable[[], Iterable[Any]]) -> None:
        """Body of the helper thread."""
        try:
            values = function()
            if not hasattr(values, "__iter__"):
                raise TypeError(f"a spout function yields its values or returns an iterable, got {values!r}")  # noqa: TRY301
            try:
                self._pump(values)
            finally:
                if isinstance(values, GeneratorType):
                    values.close()
        except BaseException as error:  # noqa: BLE001 - surfaces in next_tuple, whatever it is
            self._error = error
        self._done = True
        self._call_wake()

    def _pump(self, values: Iterable[Any]) -> None:
        append, ready, idle = self._ready.append, self._ready, IDLE
        room = self._capacity
        nap = IDLE_NAP_S[0]
        for value in values:
            if value is idle:
                if self._closed:
                    return
                sleep(nap)
                nap = min(nap * 2, IDLE_NAP_S[1])
                continue
            nap = IDLE_NAP_S[0]
            append(value)
            if self._starving:
                if self._closed:
                    return
                self._call_wake()
            room -= 1
            if not room:
                room = self._capacity - len(ready)
                if not room and not (room := self._wait_for_room()):
                    return

    def _wait_for_room(self) -> int:
        """Sleep until half of the deque is free; 0 means closed."""
        half = self._capacity // 2
        with self._room:
            self._parked = True
            while len(self._ready) > half and not self._closed:
                self._room.wait()
            self._parked = False
            return 0 if self._closed else self._capacity - len(self._ready)

    def _call_wake(self) -> None:
        self._starving = False
        wake = self._wake
        if wake is not None:
            wake()


_SPECIAL = frozenset({At, To})
