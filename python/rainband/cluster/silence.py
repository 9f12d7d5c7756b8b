"""Workers that tell nothing: the user is warned of them, and one that is frozen as a whole is found. Pure: no clock.

A worker that is ready reports four times a second. One that hangs in a call ends itself after `execute_timeout_s`, also
while C code holds the interpreter; so who is silent for longer than that is stopped, or waits for a device, with all of
its threads. Before it is ready it may import and open for as long as it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from rainband.plan import CompiledPlan

__all__ = ["Silence", "Silent", "limit_s"]

_WARN_S: Final = 10.0
_LEAST_S: Final = 30.0
_LEAD_S: Final = 10.0  # for a worker to end itself first: it knows in which call it hangs
_GAP_S: Final = 5.0  # between two looks: the supervisor did not run, and what it was told still waits


class Silent(NamedTuple):
    """A worker that has told nothing for so long, and whether it counts as frozen."""

    worker: int
    for_s: float
    is_frozen: bool


class Silence:
    """When each worker was heard.

    Args:
        limit_s: a worker that was ready and is silent for so long is frozen.

    Example:
        >>> silence = Silence(30.0)
        >>> silence.hear(0, 100.0)
        >>> silence.ready(0)
        >>> [silence.look(now) for now in (100.0, 104.0, 108.0, 110.0, 114.0)]
        [[], [], [], [Silent(worker=0, for_s=10.0, is_frozen=False)], []]
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._heard: dict[int, float] = {}
        self._warn_at: dict[int, float] = {}
        self._ready: set[int] = set()
        self._looked: float | None = None

    def hear(self, worker: int, now: float) -> None:
        """A worker said something."""
        self._heard[worker] = now
        self._warn_at[worker] = now + _WARN_S

    def ready(self, worker: int) -> None:
        """From now on a worker reports as long as it lives."""
        self._ready.add(worker)

    def forget(self, worker: int) -> None:
        """A worker is dead, or has nothing more to tell."""
        self._heard.pop(worker, None)
        self._warn_at.pop(worker, None)
        self._ready.discard(worker)

    def look(self, now: float) -> list[Silent]:
        """Who is frozen, and who is to be warned of: once in 10 s."""
        looked, self._looked = self._looked, now
        if looked is not None and now - looked > _GAP_S:
            for worker in self._heard:
                self.hear(worker, now)
        found = []
        for worker, heard in self._heard.items():
            is_frozen = worker in self._ready and now - heard >= self._limit_s
            if is_frozen or now >= self._warn_at[worker]:
                found.append(Silent(worker, now - heard, is_frozen))
                self._warn_at[worker] = now + _WARN_S
        return found


def limit_s(plan: CompiledPlan) -> float:
    """How long a worker of a plan that is ready may be silent."""
    return max(_LEAST_S, _LEAD_S + max(float(each.config["execute_timeout_s"]) for each in plan.components))
