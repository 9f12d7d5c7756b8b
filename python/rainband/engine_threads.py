"""The threads of one engine: one per executor and one for the timers, from their start to their join.

Executors are Python threads (ENGINE 6.1) so that debuggers, coverage and thread-locals work; each runs
`Engine.run_executor` from its first to its last breath. Used by `run` for an engine in this process and by
`cluster.worker` for that of a worker. What comes out of a thread's body is a defect of ours and is handed to
`on_defect`: the core catches whatever user code raises.
"""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["TIMER", "EngineThreads"]

TIMER: Final = "rainband-timer"
_STACK_BYTES: Final = 16 * 1024 * 1024
_SLICE_S: Final = 0.1  # Python delivers signals to a main thread that joins
_STACK_GUARD = threading.Lock()  # threading.stack_size is one setting for the process


class Bodies(Protocol):
    """What the threads run."""

    def run_executor(self, index: int) -> None: ...
    def run_timer(self) -> None: ...


class EngineThreads:
    """The threads of an engine, not yet started.

    Args:
        engine: what they run.
        executors: (index, name of the component) of each executor.
        on_defect: called on the thread whose body raised.
        on_end: called on every thread whose body has returned.
    """

    def __init__(
        self,
        engine: Bodies,
        executors: Iterable[tuple[int, str]],
        on_defect: Callable[[BaseException], None],
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._on_defect = on_defect
        self._on_end = on_end
        self.all: list[threading.Thread] = []
        serial: dict[str, int] = {}
        for index, component in executors:
            number = serial[component] = serial.get(component, -1) + 1
            self._add(f"rainband-{component}-{number}", partial(engine.run_executor, index))
        self._add(TIMER, engine.run_timer)

    def _add(self, name: str, body: Callable[[], None]) -> None:
        self.all.append(threading.Thread(target=self._guarded, args=(body,), name=name, daemon=True))

    def start(self) -> None:
        """Start all of them, with stacks so large that deep recursion raises instead of crashing."""
        with _STACK_GUARD:
            before = threading.stack_size(_STACK_BYTES)
            try:
                for thread in self.all:
                    thread.start()
            finally:
                threading.stack_size(before)

    @property
    def are_over(self) -> bool:
        """Whether none of them runs."""
        return not any(thread.is_alive() for thread in self.all)

    def join(self, until: float, *, is_hurried: Callable[[], bool] | None = None) -> list[threading.Thread]:
        """Wait for them until a time of the monotonic clock; gives those that did not return.

        Args:
            until: the time.
            is_hurried: asked between slices; when it says so, each thread is waited for no longer than a slice.
        """
        others = [thread for thread in self.all if thread is not threading.current_thread()]
        for thread in others:
            while thread.is_alive():
                thread.join(_SLICE_S)
                if time.monotonic() >= until or (is_hurried is not None and is_hurried()):
                    break
        return [thread for thread in others if thread.is_alive()]

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - a run that goes on with a thread less would hang
            self._on_defect(error)
        finally:
            if "rainband.aio" in sys.modules:  # asyncio is not imported for those who do not use it
                sys.modules["rainband.aio"].close_loop()
            if self._on_end is not None:
                self._on_end()
