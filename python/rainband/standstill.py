"""The warning about a run in which nothing moves: the spouts stand at `max_pending`, and bolts hold what is pending.

Such a run may wait for ever: a join that waits for input that the spouts may not emit (ENGINE 5.1). In one process the
core's timer sees it; of several workers each tells how it stands, and `Standstill` judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rainband.plan import CompiledPlan

__all__ = ["Standstill", "standstill_text"]

_PATIENCE_S: Final = 5.0

Standing = tuple[bool, int, list[tuple[int, int]]]
"""Of a process: whether a spout is at `max_pending`, how many calls there were, and (task, how many) of who holds."""


def standstill_text(plan: CompiledPlan, holders: Iterable[tuple[int, int]]) -> str:
    """The warning.

    Args:
        plan: of the run.
        holders: (task id, how many tuples it holds).
    """
    names = {task: each.name for each in plan.components for task in each.task_ids}
    held = ", ".join(f'"{names[task]}" task {task} ({count})' for task, count in holders)
    return (
        f"nothing moves: the spouts stand at max_pending and these bolts hold all that is pending: {held}; "
        "raise max_pending or ack sooner"
    )


class Standstill:
    """Looks at the workers of a run."""

    def __init__(self) -> None:
        self._standing: dict[int, Standing] = {}
        self._since: tuple[int, float] | None = None  # calls of all workers, and when there were as many first
        self._is_told = False

    def note(self, worker: int, standing: Standing) -> None:
        """Keep how a worker stands."""
        self._standing[worker] = standing

    def forget(self, worker: int) -> None:
        """A worker is dead."""
        self._standing.pop(worker, None)
        self._since = None

    def look(self, now: float) -> list[tuple[int, int]]:
        """Who holds what, the first time that nothing has moved for long enough; else nothing."""
        standings = self._standing.values()
        calls = sum(calls for _, calls, _ in standings)
        if self._is_told or not any(is_at_limit for is_at_limit, _, _ in standings):
            self._since = None
        elif self._since is None or self._since[0] != calls:
            self._since = calls, now
        elif now - self._since[1] >= _PATIENCE_S:
            holders = sorted((task, count) for _, _, held in standings for task, count in held)
            self._is_told = bool(holders)
            return holders
        return []
