"""What becomes of a record that is no good: one policy for all sources.

Called by sources on their own thread, off the tuple's path. Nothing is silent: such a record is emitted on the stream
`malformed`, or stops the run, or is counted and logged. It is emitted with id and position like a good one, so the
position does not move past it before it was handled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from rainband.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from rainband.component import Counter, TaskContext

__all__ = ["MALFORMED_FIELDS", "Malformed", "Policy"]

Policy: TypeAlias = Literal["auto", "raise", "skip"]
MALFORMED_FIELDS: Final = ("path", "offset", "record", "reason")

_LOGGED: Final = 5  # skipped records that get a line of their own in the log
_SHOWN_CHARS: Final = 60


class Malformed:
    """The policy of one task.

    Args:
        policy: "auto" emits to the stream `malformed` if a bolt takes it and raises otherwise; "raise"; "skip" counts.

    Example:
        >>> from rainband import TaskContext
        >>> malformed = Malformed("skip")
        >>> context = TaskContext(topology="t", component="rows")
        >>> malformed.open(context, print)
        >>> malformed.add("a;b", "x.csv", 10, line=lambda: 2, reason="2 columns")
        >>> context.counter("malformed").value
        1
    """

    def __init__(self, policy: Policy) -> None:
        if policy not in {"auto", "raise", "skip"}:
            raise ValueError(f'malformed is {policy!r}; expected "auto", "raise" or "skip"')
        self.policy = policy
        self._log: Logger | None = None
        self._count: Counter | None = None

    def open(self, context: TaskContext, emit: Callable[..., object]) -> None:
        """Learn where to emit and what to count."""
        self._emit = emit
        self._log = context.logger
        self._context = context
        self._name = context.component
        # Where it is not known whether a bolt takes the stream, there is a harness that collects it.
        self._is_taken = context.subscribed is None or "malformed" in context.subscribed

    def add(
        self, record: bytes | str, path: str, offset: int, *, line: Callable[[], int], reason: str, position: Any = None
    ) -> None:
        """Deal with one record.

        Raises:
            ConnectorError: the policy says so.
        """
        self._count = self._context.counter("malformed")  # made at the first one: a report without it has none
        self._count.add()
        if self.policy == "auto" and self._is_taken:
            text = record if isinstance(record, str) else record.decode("utf-8", "backslashreplace")
            more = {} if position is None else {"position": position}
            self._emit(path, offset, text, reason, stream="malformed", id=position or (path, offset), **more)
            return
        where = f'"{path}" line {line()} (byte {offset})' if self._tells() else f'"{path}" byte {offset}'
        text = f"{where} is malformed: {reason}; the record is {_shown(record)}"
        if self.policy == "skip":
            if self._log is not None and self._tells():
                last = "; the next ones are counted only" if self._count.value == _LOGGED else ""
                self._log.warning("%s; it is skipped%s", text, last)
            return
        raise ConnectorError(f'{text}; let a bolt take "{self._name}.malformed", or write malformed="skip"')

    def close(self) -> None:
        """Log how many were skipped."""
        count = 0 if self._count is None else self._count.value
        if self._log is not None and self.policy == "skip" and count > _LOGGED:
            self._log.warning("%d malformed records were skipped", count)

    def _tells(self) -> bool:
        return self.policy != "skip" or self._count is None or self._count.value <= _LOGGED


def _shown(record: bytes | str) -> str:
    text = repr(record)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
