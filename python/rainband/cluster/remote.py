"""`RemoteState`: the state of a worker's run, kept by the supervisor. See `rainband.state`.

Every call blocks its thread, an executor's or the timer's, until the supervisor has done it durably; the loop of the
worker carries the request and its reply. Values become text here, so that a position that cannot be stored raises where
it was emitted, and nothing of the user's is rebuilt in the supervisor.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rainband.durable import dead_letter_line
from rainband.errors import CodecError, StateError
from rainband.exact import decode, encode_any

from .messages import DeadLetter, Positions, TasksEnded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rainband.state import PositionRow

    from .control import Client
    from .messages import Start

__all__ = ["RemoteState"]


class RemoteState:
    """Keeps state by asking the supervisor.

    Args:
        client: the control channel.
        start: says where the state folder is and what the positions were.
    """

    def __init__(self, client: Client, start: Start) -> None:
        self._client = client
        self._path = Path(start.state_dir)
        self._positions: dict[tuple[str, int], Any] = {(name, i): decode(coded) for name, i, coded in start.positions}

    @property
    def path(self) -> Path:
        """The state folder; only the supervisor writes its files there."""
        return self._path

    def open(self) -> None:
        """Nothing to do: the supervisor holds the folder."""

    def close(self) -> None:
        """Nothing to do, as in `open`."""

    def position(self, component: str, task_index: int, tasks: int) -> Any:  # noqa: ARG002 - the supervisor compared them
        """The stored position of a spout task, or None; after a restart of the task the latest."""
        return self._positions.get((component, task_index))

    def save_positions(self, rows: Sequence[PositionRow]) -> None:
        """Have the supervisor keep positions; they are durable on return."""
        coded = []
        for component, task_index, tasks, position in rows:
            try:
                coded.append([component, task_index, tasks, encode_any(position)])
            except CodecError as error:
                where = f'spout "{component}" task index {task_index}'
                raise StateError(f"{where}: position cannot be stored: {error}") from error
        self._client.request(lambda request: Positions(request, coded))
        for component, task_index, _, position in rows:
            self._positions[component, task_index] = position

    def append_letter(self, record: Mapping[str, Any]) -> None:
        """Have the supervisor keep a dead letter; it is durable on return."""
        line = dead_letter_line(record).decode("ascii")
        self._client.request(lambda request: DeadLetter(request, line))

    def end_tasks(self, task_ids: Sequence[int]) -> None:
        """Have the supervisor note that tasks are over, all at once."""
        self._client.request(lambda request: TasksEnded(request, list(task_ids)))
