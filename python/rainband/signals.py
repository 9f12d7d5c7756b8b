"""SIGINT and SIGTERM while a run lasts: counted here, obeyed by `run` (the first drains, the second stops at once).

Handlers only count. Python runs them on the main thread between two bytecodes, so they must not wait for anything,
and the main thread must not wait for long in one call: `run` waits in slices. Off the main thread nothing is
installed, because Python allows it there alone. Handlers that were there before come back at the end.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Signals"]


class Signals:
    """Counts SIGINT and SIGTERM while a run lasts; does nothing off the main thread.

    Args:
        tell: takes what is done upon the first; called by the run, not by a handler.
    """

    def __init__(self, tell: Callable[[str], object] | None = None) -> None:
        self.tell = tell
        self.count = 0
        self.last = 0  # number of the last signal, 0 before the first
        self.is_obeyed = False  # whether the run has begun to drain because of the first
        self._before: dict[int, Any] = {}

    @property
    def last_name(self) -> str:
        """The last signal, as `SIGINT`."""
        return signal.Signals(self.last).name if self.last else "signal"

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A shell starts background jobs with SIGINT ignored, and means it.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.last = number
