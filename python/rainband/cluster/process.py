"""The main program of a worker process; `processes` starts it.

It reads its assignment from the parent pipe, from then on dies with the parent, takes the place of the parent's program
(arguments, search path, working directory), and runs a `Worker` on its main thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from . import logs, native, origin
from .assignment import Assignment
from .worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["main"]


def main(pipe: int) -> NoReturn:
    """Run one incarnation of a worker and leave.

    Args:
        pipe: our end of the parent pipe.
    """
    os.set_inheritable(pipe, False)
    told = json.loads(_line(pipe))
    native.watch_parent(pipe)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what an interrupt means
    with contextlib.suppress(OSError, ValueError):  # without a stderr nobody could read it
        # What a crash, and the end of a call that never came back, leave on stderr: the stacks of all threads.
        faulthandler.enable(2)
    sys.argv[:] = told["argv"]
    assignment = Assignment.from_json(told["assignment"])
    worker = Worker(
        assignment,
        partial(origin.load, assignment.origin, assignment.name, assignment.overrides),
        new_engine=_named(told["engine"]),
        pid=os.getpid(),
        on_start=lambda state_dir: _keep_log(state_dir, assignment.worker),
    )
    logs.Forwarder.install(worker.client.post, told["levels"])
    code = 1
    try:
        code = 0 if worker.run() else 1
    except BaseException:
        logging.getLogger("rainband.cluster").exception("worker %d ended with a defect", assignment.worker)
        raise
    finally:
        if worker.is_stuck:
            _leave_at_once(code)
    sys.exit(code)


def _keep_log(state_dir: Path, worker: int) -> None:
    logs.keep_file(state_dir, worker)


def _line(pipe: int) -> bytes:
    """The first line; nothing is read beyond it."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(pipe, 65_536)
        if not more:
            sys.exit("rainband: the supervisor was gone before it said what to do")
        line += more
    return line


def _named(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _leave_at_once(code: int) -> NoReturn:
    """Threads that are still inside user code would abort the interpreter's shutdown."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
