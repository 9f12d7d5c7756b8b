"""The classes that users derive from: `Spout`, `Bolt`, `BatchBolt`; and `Stream`, `TaskContext`, verdicts.

Stage 0 of a tuple's path: the calls that users make (`emit`, `ack`, `fail`, …) are methods of the Rust bases and are on
purpose not defined here, so that a lookup finds the Rust method at once. What stands here are the hooks that users
override. Their parameters are positional-only in the bases, so that an override may name them as it likes.

Each task builds its own instance where it runs, and one thread calls all of its hooks, from `open` or `prepare` to
`close`. Nothing here checks a topology; that is check.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ._core import BoltBase, Failure, SpoutBase, Tuple, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from logging import Logger
    from pathlib import Path

DEAD_LETTER = Verdict("dead_letter")
"""Verdict of `Spout.fail`: no more attempts, to the dead letters."""

DROP = Verdict("drop")
"""Verdict of `Spout.fail`: forget this root; it is counted as dropped."""


def retry(after_s: float | None = None) -> Verdict:
    """Verdict of `Spout.fail`: try again, after `after_s` seconds or, if that is not given, after the usual backoff.

    The attempt counts all the same; after `max_attempts` the root goes to the dead letters.

    Raises:
        ValueError: `after_s` is negative or not a number.

    Example:
        >>> retry(after_s=0.5).after_s
        0.5
    """
    if after_s is not None and not 0 <= after_s < float("inf"):
        raise ValueError(f"retry(after_s=…) takes a number of seconds of at least 0, got {after_s!r}")
    return Verdict("retry", after_s)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of a component: the names of its fields, or names with types, and what is special about it.

    Attributes:
        fields: names, or name → type.
        direct: the emitter chooses the task.
        pickle: values that the codec refuses travel to other workers as pickles. Whoever can send to a worker can then
            run any code in it; registering the type (`rainband.codec.register`) is better.

    Example:
        >>> class Split:
        ...     streams = {"late": Stream(["word", "at"]), "control": Stream(["command"], direct=True)}
        >>> Split.streams["control"].direct
        True
    """

    fields: Sequence[str] | Mapping[str, Any]
    direct: bool = field(default=False, kw_only=True)
    pickle: bool = field(default=False, kw_only=True)


class Counter:
    """A number of the user's own that the report shows; `TaskContext.counter` makes it.

    One counter belongs to one task and is added to on that task's thread.

    Example:
        >>> counter = Counter("misses")
        >>> counter.add()
        >>> counter.add(2)
        >>> counter.value
        3
    """

    __slots__ = ("name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0

    def add(self, n: int = 1) -> None:
        """Count `n` more."""
        self.value += n

    def __repr__(self) -> str:
        return f"Counter({self.name!r}, {self.value})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a task knows about itself; `open` and `prepare` receive it.

    Attributes:
        topology: name of the topology.
        component: name of the component.
        task_id: number of this task, unique in the run.
        task_index: number of this task within its component, from 0.
        parallelism: executors (threads) of the component.
        config: the merged configuration of the component, read-only.
        position: the highest position stored by an earlier incarnation of this spout task, None at its first start.
        state_dir: folder of this run for what must survive it, None where there is none (in a test harness).
        tasks: task ids of every component of the topology.
        streams: the streams of this component as they were wired: name → field → declared type (`Any` where none is).
        subscribed: those of `streams` that some bolt takes, None where that is not known (in a test harness).
        counters: counters made so far.

    Example:
        >>> tasks = {"count": range(2, 4)}
        >>> context = TaskContext(topology="t", component="count", task_id=3, task_index=1, tasks=tasks)
        >>> rows = ["a", "b", "c", "d"]
        >>> rows[context.task_index :: len(context.tasks_of("count"))]  # this task's share
        ['b', 'd']
        >>> context.counter("misses").add()
        >>> context.counter("misses").value
        1
    """

    topology: str
    component: str
    task_id: int = 0
    task_index: int = 0
    parallelism: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)
    position: Any = None
    state_dir: Path | None = None
    tasks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    subscribed: frozenset[str] | None = None
    counters: dict[str, Counter] = field(default_factory=dict, repr=False, compare=False)

    @property
    def logger(self) -> Logger:
        """The logger `rainband.<topology>.<component>`."""
        import logging  # noqa: PLC0415 - not needed by `import rainband`

        return logging.getLogger(f"rainband.{self.topology}.{self.component}")

    def counter(self, name: str) -> Counter:
        """The counter of that name of this task, made at the first call. Keep it: a lookup per tuple is not free."""
        found = self.counters.get(name)
        return self.counters.setdefault(name, Counter(name)) if found is None else found

    def tasks_of(self, component: str) -> Sequence[int]:
        """The task ids of a component, ascending.

        Raises:
            KeyError: the topology has no component of that name.
        """
        if component not in self.tasks:
            known = ", ".join(f'"{name}"' for name in self.tasks)
            raise KeyError(f'topology "{self.topology}" has no component "{component}"; it has {known}')
        return self.tasks[component]


class Spout(SpoutBase):
    """A source of tuples. Override `next_tuple`, and what else is needed.

    `self.emit(*values, stream="default", id=…, position=…, task=None)` sends a tuple: with `id` it is tracked (a root)
    and `ack(id)` or `dead(id, …)` is called once for it, without `id` it is fire and forget. `self.end()` says that
    this task has no more. Both work on the task's own thread from `open` on.

    Class attributes `outputs` and `streams` declare the streams; every per-component setting may be a class attribute
    too.

    Example:
        >>> class Numbers(Spout):
        ...     outputs = {"n": int}
        ...     def __init__(self, stop: int) -> None:
        ...         self.numbers = iter(range(stop))
        ...     def next_tuple(self) -> None:
        ...         n = next(self.numbers, None)
        ...         if n is None:
        ...             self.end()
        ...         else:
        ...             self.emit(n, id=n)
        >>> Numbers(3).outputs
        {'n': <class 'int'>}
    """

    outputs: ClassVar[Sequence[str] | Mapping[str, Any]] = ()
    streams: ClassVar[Mapping[str, Stream | Sequence[str] | Mapping[str, Any]]] = MappingProxyType({})

    def open(self, context: TaskContext, /) -> None:
        """Called once per task, first, in the process and thread that run it. An exception stops the run."""

    def next_tuple(self) -> None:
        """Emit none, one or several. Called again and again until `end()`, while less than `max_pending` is pending.

        It must not block for long: while it does, this task emits no replays. Nothing emitted counts as "nothing now".
        """

    def ack(self, id: Any, /) -> None:  # noqa: A002 - the word of the contract
        """The root of that id, and all that came of it, was processed. Called once per root."""

    def fail(self, id: Any, failure: Failure, /) -> Verdict | None:  # noqa: A002
        """An attempt of that root failed. Return None for the default (replay, later dead letter) or a verdict.

        Called before each replay, so any number of times per root.
        """

    def dead(self, id: Any, failure: Failure, /) -> None:  # noqa: A002, ARG002
        """The root of that id was given up, it is in the dead letters. Called once, in place of `ack`; calls it."""
        self.ack(id)

    def activate(self) -> None:
        """The topology goes on after a pause."""

    def deactivate(self) -> None:
        """The topology pauses: `next_tuple` is not called until `activate`."""

    def close(self) -> None:
        """Called last, once, for every task that was opened, also after errors."""


class Bolt(BoltBase):
    """A step that receives tuples. Override `process`; its parameters are bound to the fields of the input by name.

    `self.emit(*values, stream="default", anchors=…, task=None)` sends a tuple that belongs to the input in hand. The
    input is acked when `process` ends and fails when it raises. With the class attribute `auto_ack = False` that is up
    to you: `self.ack(tup)`, `self.fail(tup, reason, retry=True)`, `self.reset_timeout(tup)`, from any thread.

    Example:
        >>> class Split(Bolt):
        ...     outputs = ["word"]
        ...     def process(self, line: str):
        ...         yield from line.split()
        >>> list(Split().process("a b"))
        ['a', 'b']
    """

    outputs: ClassVar[Sequence[str] | Mapping[str, Any]] = ()
    streams: ClassVar[Mapping[str, Stream | Sequence[str] | Mapping[str, Any]]] = MappingProxyType({})
    auto_ack: ClassVar[bool]
    tick_interval_s: ClassVar[float]
    on_error: ClassVar[Literal["fail", "restart", "stop"]]

    def prepare(self, context: TaskContext, /) -> Any:
        """Called once per task, first, in the process and thread that run it. An exception stops the run."""

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """Handle one tuple. Called for each, on the task's thread, never after `finish`.

        Return None, or be a generator (what it yields is emitted), a coroutine or an async generator.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define process()")

    def tick(self) -> Any:
        """Called every `tick_interval_s` seconds, between tuples. What it emits unanchored are roots of their own."""

    def flush(self) -> Any:
        """No fresh input will come: let go of what you hold. Called again if replays come after it."""

    def finish(self) -> Any:
        """All input has ended: last words. Called once; no `process` after it."""

    def close(self) -> Any:
        """Called last, once, for every task that was prepared, also after errors."""


class BatchBolt(Bolt):
    """A step that receives tuples in batches of up to `batch_size`, at least every `batch_interval_s` seconds.

    All are acked when `process_batch` returns. When it raises, all fail and come back in batches of one.
    `self.fail(tup, reason)` inside fails one of them. An emit needs `anchors=`.

    Example:
        >>> class Store(BatchBolt):
        ...     batch_size = 500
        ...     def prepare(self, context) -> None:
        ...         self.rows = []
        ...     def process_batch(self, tuples) -> None:
        ...         self.rows.extend(tup.values for tup in tuples)
        >>> Store.batch_size
        500
    """

    batch_size: ClassVar[int]
    batch_interval_s: ClassVar[float]

    def process_batch(self, tuples: list[Tuple], /) -> Any:
        """Handle a batch. Called with 1 to `batch_size` tuples on the task's thread; the list may be kept."""
        raise NotImplementedError(f"{type(self).__name__} does not define process_batch()")


SPOUT_HOOKS = ("open", "next_tuple", "ack", "fail", "dead", "activate", "deactivate", "close")
BOLT_HOOKS = ("prepare", "process", "tick", "flush", "finish", "close")
ENGINE_METHODS = {"spout": ("emit", "end"), "bolt": ("emit", "ack", "fail", "reset_timeout")}


def overrides(component: object, hook: str) -> bool:
    """Whether an instance or class of a component defines that hook itself.

    Example:
        >>> class Quiet(Bolt):
        ...     def tick(self) -> None: ...
        >>> overrides(Quiet, "tick"), overrides(Quiet(), "flush")
        (True, False)
    """
    cls = component if isinstance(component, type) else type(component)
    base = next(base for base in (BatchBolt, Bolt, Spout) if issubclass(cls, base))
    # The instance is asked by name and not by its `__dict__`: reading that slows every later attribute access down
    # (CPython 3.11 gives up the inline values).
    found = getattr(component, hook, None)
    return getattr(found, "__func__", found) is not getattr(base, hook, None)
