"""Logs what the supervisor and its workers have to say, on a thread of its own.

Handlers and filters are the user's code: they may write to a slow disk, wait for a lock, or raise. On the control
thread that would hold up, or end, the run. So whatever is logged there waits here in a queue, in order; above a limit
records are dropped and counted, which is told once half of the queue is free.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from . import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Log

__all__ = ["Logbook"]

_MOST: Final = 10_000  # records that wait
_log = logging.getLogger("rainband.cluster")


class Logbook:
    """Logs on its thread, which starts with the first record; its methods return at once and never raise."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # of the fields below; never held while something is logged
        self._waiting: deque[Callable[[], None]] = deque()
        self._dropped = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def replay(self, worker: int, told: Log) -> None:
        """Log what a worker logged."""
        self._put(partial(logs.replay, worker, told))

    def warn(self, text: str, *args: object) -> None:
        """Log a warning of the supervisor's own."""
        path, line, function, _ = _log.findCaller(stacklevel=2)
        record = _log.makeRecord(_log.name, logging.WARNING, path, line, text, args, None, function)
        self._put(partial(_handle, record))

    def _put(self, job: Callable[[], None]) -> None:
        with self._changed:
            if len(self._waiting) >= _MOST:
                self._dropped += 1
                return
            self._waiting.append(job)
            if self._thread is None:
                # A daemon, so that a handler that never returns does not keep the process.
                self._thread = threading.Thread(target=self._work, name="rainband-log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                dropped = self._dropped if len(self._waiting) <= _MOST // 2 else 0
                self._dropped -= dropped
            _guarded(job)
            if dropped:
                _guarded(partial(_log.warning, "%d log records were dropped: the handlers are too slow", dropped))

    def close(self, within_s: float) -> None:
        """Log what waits; what a slow handler has not taken in this time is logged later, if the process lives on."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(within_s)


def _handle(record: logging.LogRecord) -> None:
    if _log.isEnabledFor(record.levelno):
        _log.handle(record)


def _guarded(job: Callable[[], None]) -> None:
    """What a handler raises is shown as `logging` shows it, and ends nothing, be it a SystemExit."""
    try:
        job()
    except BaseException:  # noqa: BLE001
        if logging.raiseExceptions:
            with contextlib.suppress(Exception):
                sys.stderr.write(f"--- Logging error ---\n{traceback.format_exc()}")
