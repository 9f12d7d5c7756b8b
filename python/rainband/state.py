"""What a run keeps its state with: `State`, and `LocalState`, which keeps it in a folder of this machine.

`Runtime` calls in here. In one process, and in the supervisor of several, it is a `LocalState`; in a worker process it
is `cluster.remote.RemoteState`, which has the supervisor keep it. Positions are saved on the timer thread, dead letters
on the thread of the spout task that gives a root up; both are durable when the call returns.
"""

from __future__ import annotations

import logging
import os
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from .config import default_state_dir
from .durable import DeadLetterFile, PositionStore, StateFolder
from .errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .plan import CompiledPlan

__all__ = ["LocalState", "PositionRow", "State"]

PositionRow = tuple[str, int, int, Any]
"""Component, task index, tasks of the component, position."""


class State(Protocol):
    """Keeps what must survive a process."""

    @property
    def path(self) -> Path:
        """The state folder, as tasks see it."""
        ...

    def open(self) -> None:
        """Make it ready; raises `StateError` if it cannot be used."""
        ...

    def close(self) -> None:
        """Give it back; may be called twice."""
        ...

    def position(self, component: str, task_index: int, tasks: int) -> Any:
        """The stored position of a spout task, or None."""
        ...

    def save_positions(self, rows: Sequence[PositionRow]) -> None:
        """Keep positions; durable on return, raises `StateError` if that is not possible."""
        ...

    def append_letter(self, record: Mapping[str, Any]) -> None:
        """Keep a dead letter; durable on return, raises `StateError` if that is not possible."""
        ...

    def end_tasks(self, task_ids: Sequence[int]) -> None:
        """Note that tasks are over, all at once, before others are told so."""
        ...


class LocalState:
    """A state folder of one run: the one that the user named, or a new one.

    Attributes:
        folder: where.
        store: the positions in it.
        letters: the file of dead letters in it.
    """

    def __init__(self, plan: CompiledPlan) -> None:
        self._name = plan.name
        self._named_folder = plan.config["state_dir"]
        self._use_folder(StateFolder(self._named_folder or default_state_dir(plan.name, _run_name())))

    @property
    def path(self) -> Path:
        """The state folder."""
        return self.folder.path

    @property
    def letter_file(self) -> str | None:
        """The file of dead letters if this run wrote any."""
        return str(self.letters.path) if self.letters.written else None

    def open(self) -> None:
        """Lock the state folder and read the positions that an earlier run left in it.

        Raises:
            StateError: the folder that the user named is in use, or it or what is in it cannot be read.
        """
        try:
            self.folder.take()
        except StateError as error:
            if self._named_folder is not None:
                raise
            self._use_folder(StateFolder(tempfile.mkdtemp(prefix=f"rainband-{self._name}-")))
            log = logging.getLogger(f"rainband.{self._name}")
            log.warning("%s; this run keeps its state in %s", error, self.folder.take())
        try:
            self.store.load()
        except StateError:
            self.folder.release()
            raise

    def _use_folder(self, folder: StateFolder) -> None:
        self.folder = folder
        self.store = PositionStore(folder)
        self.letters = DeadLetterFile(folder)

    def close(self) -> None:
        """Close the files and give the folder back; one that was not named and holds nothing is removed."""
        self.letters.close()
        self.folder.release(remove_if_empty=self._named_folder is None)

    def position(self, component: str, task_index: int, tasks: int) -> Any:
        """The stored position of a spout task, or None."""
        return self.store.get(component, task_index, tasks)

    def save_positions(self, rows: Sequence[PositionRow]) -> None:
        """Keep positions; durable on return."""
        self.store.save(rows)

    def append_letter(self, record: Mapping[str, Any]) -> None:
        """Keep a dead letter; durable on return."""
        self.letters.append(record)

    def end_tasks(self, task_ids: Sequence[int]) -> None:
        """Nothing to do: in one process everybody knows."""


def _run_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"
