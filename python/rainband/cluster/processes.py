"""The launcher of workers that are processes of this machine.

A worker is a fresh interpreter that leads a session and a process group (ENGINE 7.4), so that a Ctrl-C of the terminal
does not reach it, and what its user code starts dies with it. Its death is seen through its pidfd. It inherits one end
of a pipe: through it comes its assignment as one line of JSON, and when the other end closes, however this process
died, the worker kills its group. Standard streams are passed through; output goes where that of this process goes now.
Arguments, search path and working directory are those that this process had when the run began.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import logs
from .control import Doorbell
from .launcher import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from .assignment import Assignment

__all__ = ["ProcessLauncher"]

_MAIN: Final = (
    "import sys; sys.path[:] = sys.argv[4:]; from rainband.cluster.process import main; main(int(sys.argv[2]))"
)
_ENGINE: Final = "rainband.cluster.native:new_engine"
_log = logging.getLogger("rainband.cluster")


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    pidfd: int
    pipe: int  # our end; closed means that we are gone
    worker: int
    incarnation: int
    tell: Callable[[Event], None]


class ProcessLauncher:
    """Starts workers as processes.

    Args:
        engine: what makes the engine there, as `module:function`.
    """

    imports = True

    def __init__(self, engine: str = _ENGINE) -> None:
        self._engine = engine
        self._guard = threading.Lock()  # of the fields below; a pid is only signalled under it, before it is reaped
        self._children: dict[int, _Child] = {}  # by pidfd
        self._is_closed = False
        self._bell = Doorbell()
        self._watcher: threading.Thread | None = None
        self._argv = list(sys.argv)
        self._folder = os.getcwd()  # noqa: PTH109 - as subprocess takes it
        self._path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - "" is the current folder

    def start(self, assignment: Assignment, tell: Callable[[Event], None]) -> None:
        """Start an incarnation.

        Raises:
            OSError: the process cannot be started.
        """
        theirs, ours = os.pipe()
        try:
            process = self._spawn(assignment, theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        try:
            pidfd = os.pidfd_open(process.pid)
        except BaseException:
            _kill_group(process.pid)
            process.wait()
            os.close(ours)
            raise
        child = _Child(process, pidfd, ours, assignment.worker, assignment.incarnation, tell)
        with self._guard:
            self._children[pidfd] = child
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="rainband-pids", daemon=True)
                self._watcher.start()
        self._bell.ring()
        line = json.dumps(self._told(assignment)).encode("ascii") + b"\n"
        # One that died at once is told of by its pidfd.
        with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(ours), "wb") as pipe:
            pipe.write(line)

    def _spawn(self, assignment: Assignment, pipe: int) -> subprocess.Popen[bytes]:
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
        label = f"worker {assignment.worker} of {assignment.name}"
        command = [sys.executable, *flags, "-c", _MAIN, label, str(pipe), "--", *self._path]
        return subprocess.Popen(
            command,
            pass_fds=[pipe],
            start_new_session=True,
            cwd=self._folder,
            stdout=_descriptor(sys.stdout),
            stderr=_descriptor(sys.stderr),
        )

    def _told(self, assignment: Assignment) -> dict[str, Any]:
        return {
            "assignment": assignment.to_json(),
            "engine": self._engine,
            "argv": self._argv,
            "levels": logs.levels(),
        }

    # -- the watcher -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            with self._guard:
                watched = list(self._children)
                if self._is_closed and not watched:
                    return
            poller = select.poll()
            for fd in [self._bell.fd, *watched]:
                poller.register(fd, select.POLLIN)
            for fd, _ in poller.poll():
                if fd == self._bell.fd:
                    self._bell.clear()
                else:
                    self._bury(fd)

    def _bury(self, pidfd: int) -> None:
        """Its process has ended: end what it started, and take its exit code."""
        with self._guard:
            child = self._children.pop(pidfd)
            # The leader is a zombie until it is waited for, so the number is still that of its group.
            _kill_group(child.process.pid)
            code = child.process.wait()
        os.close(child.pidfd)
        os.close(child.pipe)
        ended = Event(child.worker, child.incarnation, "dead", code if code >= 0 else None, -code if code < 0 else None)
        try:
            child.tell(ended)
        except Exception:  # noqa: BLE001 - the watcher goes on for the others
            _log.exception("worker %d is dead, but that could not be told", child.worker)

    # -- the end ---------------------------------------------------------------------------------------------------

    def kill(self, worker: int, incarnation: int) -> None:
        """Kill its process group."""
        with self._guard:
            for child in self._children.values():
                if (child.worker, child.incarnation) == (worker, incarnation):
                    _kill_group(child.process.pid)

    def close(self) -> None:
        """Kill what still runs, and return when all are gone."""
        with self._guard:
            self._is_closed = True
            for child in self._children.values():
                _kill_group(child.process.pid)
            watcher = self._watcher
        self._bell.ring()
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join()
        self._bell.close()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _descriptor(stream: Any) -> int | None:
    """Where a stream of this process goes now, also when it was redirected; None if it is no file."""
    try:
        stream.flush()
        descriptor: int = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return descriptor
