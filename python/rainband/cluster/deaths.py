"""What is known of a worker that died: how, what it had in hand, and how that is told.

worker 1 was killed by SIGSEGV; in hand: bolt "count" task 7, a tuple of spout "lines"; it is replaced in 0.1 s
(restart 1 of 10), and what it held is replayed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rainband.plan import CompiledPlan

    from .launcher import Event
    from .native import Slots
    from .views import Launch, Suspect

__all__ = ["Death", "examine"]

_TOLD: Final = 3  # tuples in hand named in a text


@dataclass(frozen=True, slots=True)
class Death:
    """A worker's death.

    Attributes:
        worker: its index.
        incarnation: which one.
        reason: how it died and what it had in hand; what follows its name in a sentence.
        suspects: the attempts that it had in hand.
    """

    worker: int
    incarnation: int
    reason: str
    suspects: tuple[Suspect, ...]

    def told(self, launch: Launch | None, now: float, restarts: tuple[int, int], *, was_ready: bool) -> str:
        """For the log, with what follows.

        Args:
            launch: of its successor; None if the run is given up.
            now: the time.
            restarts: which one in a row this is, and how many are allowed.
            was_ready: whether it had come to hold anything.
        """
        if launch is None:
            return f"worker {self.worker} {self.reason}; it is not replaced"
        number, limit = restarts
        what = f"it is replaced in {launch.at - now:.3g} s (restart {number} of {limit})"
        return f"worker {self.worker} {self.reason}; {what}{', and what it held is replayed' if was_ready else ''}"

    def note(self, gone: Mapping[str, int]) -> str:
        """For the report.

        Args:
            gone: roots that it had pending, by component.
        """
        lost = ", ".join(f'{count} roots of "{name}"' for name, count in gone.items())
        what = f"; pending there were {lost}, gone with it or read again from their position" if lost else ""
        return f"worker {self.worker} {self.reason}{what}; its own counters are those of its last report"


def examine(plan: CompiledPlan, event: Event, slots: Slots | None, why: str) -> Death:
    """What an event and the slots of a dead worker say.

    Args:
        plan: of the run.
        event: its death.
        slots: what it had in hand, if it came to have any.
        why: how it came to die, if that is known better; empty if not.
    """
    how = why or (f"was {event.how}" if event.signal is not None else event.how)
    suspects: list[Suspect] = []
    told: list[str] = []
    if slots is not None:
        if slots["said"]:
            how = f"ended itself: {slots['said']}"
        suspects += [(owner, incarnation, attempt) for _, _, owner, incarnation, attempt, _ in slots["suspects"]]
        for _, busy in slots["busy"]:
            owners = sorted({_component(plan, owner) for _, task, owner, *_ in slots["suspects"] if task == busy})
            told.append(f"{_task(plan, busy)}, a tuple of {' and '.join(owners) or 'no root'}")
    if told:
        rest = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        how += f"; in hand: {'; '.join(told[:_TOLD])}{rest}"
    return Death(event.worker, event.incarnation, how, tuple(suspects))


def _task(plan: CompiledPlan, task: int) -> str:
    return f"{_component(plan, task)} task {task}"


def _component(plan: CompiledPlan, task: int) -> str:
    return next((each.where for each in plan.components if task in each.task_ids), f"task {task}")
