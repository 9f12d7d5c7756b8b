"""The launcher of workers that are threads of this process: each with its own engine, I/O thread and control channel.

Used by tests, which so run every scenario on several workers with closures, without imports, and by whoever wants to
debug several workers in one process. The compiled topology is handed over as it is. Such a worker cannot crash alone;
`kill` makes it leave without a last word, as far as its user code returns.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from .launcher import Event
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from rainband.plan import CompiledPlan

    from .assignment import Assignment
    from .native import NewEngine

__all__ = ["ThreadLauncher"]

_GRACE_S: Final = 5.0


class ThreadLauncher:
    """Starts workers as threads.

    Args:
        plan: what they run.
        new_engine: makes the engine of each.
    """

    imports = False

    def __init__(self, plan: CompiledPlan, new_engine: NewEngine) -> None:
        self._plan = plan
        self._new_engine = new_engine
        self._guard = threading.Lock()
        self._running: dict[tuple[int, int], tuple[Worker, threading.Thread]] = {}

    def start(self, assignment: Assignment, tell: Callable[[Event], None]) -> None:
        """Start an incarnation."""
        key = (assignment.worker, assignment.incarnation)
        worker = Worker(assignment, lambda: self._plan, new_engine=self._new_engine, pid=os.getpid())
        body = partial(self._run, key, worker, tell)
        thread = threading.Thread(target=body, name=f"rainband-worker-{assignment.worker}", daemon=True)
        with self._guard:
            self._running[key] = (worker, thread)
        thread.start()

    def _run(self, key: tuple[int, int], worker: Worker, tell: Callable[[Event], None]) -> None:
        code, text = 1, ""
        try:
            code = 0 if worker.run() else 1
        except BaseException as error:  # noqa: BLE001 - as a process would end of it
            text = f"ended with a defect: {type(error).__name__}: {error}"
        with self._guard:
            self._running.pop(key, None)
        tell(Event(*key, "dead", code, None, text))

    def kill(self, worker: int, incarnation: int) -> None:
        """Make it leave without a last word."""
        with self._guard:
            found = self._running.get((worker, incarnation))
        if found is not None:
            found[0].abandon()

    def close(self) -> None:
        """Make all leave, and wait for them; one that is stuck in user code is left behind."""
        with self._guard:
            left = list(self._running.values())
        for worker, _ in left:
            worker.abandon()
        until = time.monotonic() + _GRACE_S
        for _, thread in left:
            thread.join(max(0.0, until - time.monotonic()))
