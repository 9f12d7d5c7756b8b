"""Log records of worker processes: sent to the supervisor, where they join its own, and kept in a file of each worker.

In a worker one handler on the root logger takes every record that the levels let through, makes it text, and posts it;
the supervisor logs it again under the same logger, time and place, with the attributes `worker` and `place` (which task
of which component), so that formats, levels and handlers of the user's process hold for all. Where nobody has set up
logging both stand before the text. Besides, `logs/worker-N.log` in the state folder has the records of one worker,
incarnation after incarnation, also those that a dying one could not send any more.

Secrets of a topology file are hidden in both. Workers that are threads need nothing of this: their records are those of
the process.
"""

from __future__ import annotations

import logging
import logging.handlers
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .messages import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Forwarder", "hide", "keep_file", "levels", "mark", "replay"]

_FILE_BYTES: Final = 4 * 2**20
_OLD_FILES: Final = 3
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s [%(place)s] %(message)s"
_PLACE: Final = "rainband_place"  # attribute of an executor's thread
_OURS: Final = str(Path(__file__).parents[1])


_masks: list[Callable[[str], str]] = []


def hide(mask: Callable[[str], str]) -> None:
    """From now on hide what `mask` replaces in all that this worker logs."""
    _masks.append(mask)


def mark(thread: threading.Thread, place: str) -> None:
    """From now on `place` is where this thread's records come from."""
    setattr(thread, _PLACE, place)


def _place() -> str:
    return str(getattr(threading.current_thread(), _PLACE, ""))


def _masked(text: str) -> str:
    for mask in _masks:
        text = mask(text)
    return text


def levels() -> dict[str, int]:
    """The levels that were set in this process, by name of the logger; "" is the root."""
    found = {"": logging.root.level}
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and logger.level:
            found[name] = logger.level
    return found


class Forwarder(logging.Handler):
    """Posts records to the supervisor.

    Args:
        post: takes the message; from any thread, never blocks.
    """

    def __init__(self, post: Callable[[Log], None]) -> None:
        super().__init__()
        self._post = post

    @classmethod
    def install(cls, post: Callable[[Log], None], set_levels: Mapping[str, int]) -> Forwarder:
        """Make it the handler of this process, with the levels of the supervisor's."""
        handler = cls(post)
        logging.root.addHandler(handler)
        for name, level in set_levels.items():
            logging.getLogger(name).setLevel(level)
        return handler

    def emit(self, record: logging.LogRecord) -> None:
        """Post one record."""
        try:
            trace = record.exc_text or ""
            if record.exc_info and not trace:
                trace = logging.Formatter().formatException(record.exc_info)
            thread = record.threadName or ""
            text, trace = _masked(record.getMessage()), _masked(trace)
            path, line = record.pathname, record.lineno
            self._post(Log(record.name, record.levelno, text, trace, record.created, thread, path, line, _place()))
        except Exception:  # noqa: BLE001 - as every handler does it
            self.handleError(record)


def keep_file(folder: Path, worker: int) -> logging.Handler:
    """Write all records of this process to `logs/worker-N.log` too; the file is made when there is a first one."""
    path = folder / "logs" / f"worker-{worker}.log"
    handler = _LateFile(path)
    logging.root.addHandler(handler)
    return handler


class _LateFile(logging.handlers.RotatingFileHandler):
    """A rotating file whose folder is made when something is first written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter(_FORMAT))

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without secrets."""
        if not hasattr(record, "place"):
            record.place = _place() or record.threadName
        return _masked(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; without a folder to write to, none."""
        if self.stream is None:
            try:
                Path(self.baseFilename).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError:
                return
        super().emit(record)


def replay(worker: int, told: Log) -> None:
    """Log in this process what a worker logged."""
    logger = logging.getLogger(told.name if told.name != "root" else None)
    if not logger.isEnabledFor(told.level):
        return
    text = told.text
    if not logger.hasHandlers() and not told.path.startswith(_OURS):
        text = f"worker {worker} {told.place}: {text}".replace(" : ", ": ", 1)  # ours say where they come from
    record = logger.makeRecord(told.name, told.level, told.path, told.line, text, (), None)
    record.created = told.created
    record.msecs = told.created % 1 * 1000
    record.threadName = told.thread
    record.processName = f"worker {worker}"
    record.worker, record.place = worker, told.place
    record.exc_text = told.traceback or None
    logger.handle(record)
