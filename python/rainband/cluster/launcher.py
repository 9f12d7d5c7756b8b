"""How workers come into being: `Launcher`, and the events that it tells. See `processes` and `threads`.

A launcher starts one incarnation of a worker, tells when it is gone, and ends it when asked. It knows nothing of plans,
views or tasks, so that one for several machines has only this to do.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from .assignment import Assignment

__all__ = ["Event", "Launcher"]


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a worker.

    Attributes:
        worker: its index.
        incarnation: which one.
        kind: "dead" is certain: nothing of it runs any more. "suspected" may turn out wrong.
        exit_code: with which it left, None if a signal ended it or it is not known.
        signal: that ended it, None if none did.
        text: what else is known.

    Example:
        >>> Event(1, 1, "dead", None, 9).how
        'killed by SIGKILL'
        >>> Event(1, 1, "dead", 3, None).how
        'exited with code 3'
    """

    worker: int
    incarnation: int
    kind: Literal["dead", "suspected"]
    exit_code: int | None = None
    signal: int | None = None
    text: str = ""

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.signal is not None:
            names = {each.value: each.name for each in signal.Signals}
            return f"killed by {names.get(self.signal, f'signal {self.signal}')}"
        if self.text:
            return self.text
        return "ended" if self.exit_code is None else f"exited with code {self.exit_code}"


class Launcher(Protocol):
    """Starts workers and watches them.

    Attributes:
        imports: whether its workers have to import the topology, as they do not share this process.
    """

    imports: bool

    def start(self, assignment: Assignment, tell: Callable[[Event], None]) -> None:
        """Start an incarnation; `tell` is called from any thread, at last with its death, once.

        Raises:
            OSError: it cannot be started.
        """
        ...

    def kill(self, worker: int, incarnation: int) -> None:
        """End it at once, with all that stayed in its process group; does nothing if it is gone."""
        ...

    def close(self) -> None:
        """End what still runs and let go of everything; returns when nothing of it is left."""
        ...
