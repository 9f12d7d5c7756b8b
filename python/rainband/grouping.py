"""Groupings: which task of a bolt receives a tuple. Always called: `grouping.shuffle()`, not `grouping.shuffle`.

These are frozen records of a choice; the choosing is done by the core (stage "route"). Names follow Storm. Keys of
`fields` and `partial_key` must be of the types that API.md lists, and the same key goes to the same task in every
process and version.

| grouping | receives |
|---|---|
| `shuffle()` | one task, in turn; a task whose queue is full is passed over |
| `fields("word")` | one task, the same for equal keys |
| `partial_key("word")` | one of two tasks per key, the less used |
| `all()` | every task |
| `global_()` | the lowest task |
| `none()` | as `shuffle()` |
| `local_or_shuffle()` | a task of the same worker if there is one, else as `shuffle()` |
| `direct()` | the task that the emitter names with `task=` |
| `custom(obj)` | the tasks that `obj.choose(values)` returns |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .component import TaskContext

KINDS = ("shuffle", "fields", "partial_key", "all", "global", "none", "local_or_shuffle", "direct", "custom")
"""The words of topology files, which are Storm's."""


class Chooser(Protocol):
    """What `custom()` takes: an object that chooses tasks.

    `prepare` is called once per emitting task, on its thread, before the first `choose`. `choose` is called for every
    tuple of the stream on the same thread and must not block.

    Example:
        >>> class ByLength:
        ...     def prepare(self, context, tasks):
        ...         self.tasks = tasks
        ...     def choose(self, values):
        ...         return [self.tasks[len(values[0]) % len(self.tasks)]]
        >>> chooser = ByLength()
        >>> chooser.prepare(None, [4, 5])
        >>> chooser.choose(("abc",))
        [5]
    """

    def prepare(self, context: TaskContext, tasks: Sequence[int], /) -> Any:
        """Take note of the task ids that may be chosen."""

    def choose(self, values: tuple[Any, ...], /) -> Sequence[int]:
        """Return the ids of the tasks that receive these values; empty means no delivery, which is counted."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """A choice made by one of the functions of this module.

    Attributes:
        kind: one of `KINDS`.
        names: the key fields of `fields` and `partial_key`.
        chooser: the object of `custom`.

    Example:
        >>> fields("word")
        grouping.fields("word")
        >>> fields("word") == Grouping("fields", ("word",))
        True
    """

    kind: str
    names: tuple[str, ...] = ()
    chooser: Any = None

    def __repr__(self) -> str:
        inside = ", ".join(f'"{name}"' for name in self.names) if self.chooser is None else repr(self.chooser)
        return f"grouping.{'global_' if self.kind == 'global' else self.kind}({inside})"


def shuffle() -> Grouping:
    """One task, round robin over a shuffled list; a task whose queue is full is passed over.

    Example:
        >>> shuffle()
        grouping.shuffle()
    """
    return Grouping("shuffle")


def fields(*names: str) -> Grouping:
    """One task, the same for equal values of these fields, in every process and version until a rebalance.

    Example:
        >>> fields("country", "city").names
        ('country', 'city')
    """
    return Grouping("fields", names)


def partial_key(*names: str) -> Grouping:
    """One of two candidate tasks per key, the less used: for skewed keys whose partial results are added up later.

    Example:
        >>> partial_key("word")
        grouping.partial_key("word")
    """
    return Grouping("partial_key", names)


def all() -> Grouping:  # noqa: A001 - Storm's word, always written grouping.all()
    """Every task receives every tuple.

    Example:
        >>> all().kind
        'all'
    """
    return Grouping("all")


def global_() -> Grouping:
    """The lowest task receives everything. Topology files write `global`.

    Example:
        >>> global_()
        grouping.global_()
    """
    return Grouping("global")


def none() -> Grouping:
    """No preference; today the same as `shuffle()`.

    Example:
        >>> none().kind
        'none'
    """
    return Grouping("none")


def local_or_shuffle() -> Grouping:
    """A task of the same worker if there is one, else as `shuffle()`.

    Example:
        >>> local_or_shuffle().kind
        'local_or_shuffle'
    """
    return Grouping("local_or_shuffle")


def direct() -> Grouping:
    """The task that the emitter names: `self.emit(value, stream="late", task=7)` on a `Stream([...], direct=True)`.

    Example:
        >>> direct().kind
        'direct'
    """
    return Grouping("direct")


def custom(chooser: Chooser) -> Grouping:
    """The tasks that `chooser.choose(values)` returns; see `Chooser`.

    Example:
        >>> class Even:
        ...     def prepare(self, context, tasks): ...
        ...     def choose(self, values): return [0]
        >>> custom(Even()).kind
        'custom'
    """
    return Grouping("custom", (), chooser)
