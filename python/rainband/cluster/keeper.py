"""Does for workers what has to be on disk, on a thread of its own, so that a slow disk does not hold the supervisor up.

Jobs are done one at a time, in order. So what a worker had asked for before it died is done before the positions for
its successor are read, and no old position can follow a new one.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from rainband.errors import StateError
from rainband.exact import decode, encode_any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rainband.plan import CompiledPlan
    from rainband.state import LocalState

__all__ = ["Keeper"]


class Keeper:
    """Writes and reads the state of a run; its methods return at once and call back from the keeper's thread.

    Args:
        plan: of the run.
        state: where it is kept.
    """

    def __init__(self, plan: CompiledPlan, state: LocalState) -> None:
        self._plan = plan
        self._state = state
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="rainband-keeper", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def save_positions(self, rows: list[Any], then: Callable[[str | None], None]) -> None:
        """Save rows of component, task index, tasks, encoded position; `then` gets None, or what went wrong."""

        def job() -> None:
            decoded = [(component, index, tasks, decode(coded)) for component, index, tasks, coded in rows]
            self._state.save_positions(decoded)

        self._put(job, then)

    def append_letter(self, line: str, then: Callable[[str | None], None]) -> None:
        """Append a line to the file of dead letters."""
        self._put(lambda: self._state.letters.append_line(line.encode("ascii")), then)

    def read_positions(self, then: Callable[[list[Any], str | None], None]) -> None:
        """All stored positions as rows of component, task index, encoded position."""
        rows: list[Any] = []

        def job() -> None:
            for planned in self._plan.components:
                if planned.kind == "spout":
                    for index in range(planned.tasks):
                        position = self._state.position(planned.name, index, planned.tasks)
                        if position is not None:
                            rows.append([planned.name, index, encode_any(position)])

        self._put(job, lambda error: then(rows, error))

    def _put(self, job: Callable[[], None], then: Callable[[str | None], None]) -> None:
        def both() -> None:
            try:
                job()
            except StateError as error:
                then(str(error))
            except Exception as error:  # noqa: BLE001 - whoever asked waits for an answer
                then(f"{type(error).__name__}: {error}")
            else:
                then(None)

        self._jobs.put(both)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self, within_s: float) -> None:
        """Do what is waiting, and end."""
        self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join(within_s)
