"""Which worker runs which executor: even, in definition order, with cycles kept together and pins obeyed.

Executors are numbered as the core numbers them: component by component in definition order, `parallelism` each. Every
executor goes to the least loaded of the workers that it may run on, the lowest number first, so that without pins it
is round robin:

    1 of lines, 2 of split, 3 of count, on 2 workers    ->    [0, 1, 0, 1, 0, 1]

The components of a cycle go to one worker: a cycle ends by counting inside one process (ENGINE 5.3). `on_workers` of a
component says where it may run; check.py has refused before what cannot be obeyed. Workers for which nothing is left
are not started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rainband.cycles import cycles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rainband.plan import CompiledPlan

__all__ = ["Placed", "place", "place_plan"]


@dataclass(frozen=True, slots=True)
class Placed:
    """What placing needs to know of a component.

    Attributes:
        parallelism: executors.
        inputs: indexes of the components that it takes from.
        on_workers: where it may run, None for everywhere.
    """

    parallelism: int
    inputs: Sequence[int]
    on_workers: Sequence[int] | None = None


def place_plan(plan: CompiledPlan) -> list[int]:
    """The worker of each executor of a plan."""
    components = [
        Placed(each.parallelism, [entry.component for entry in each.inputs], each.config["on_workers"])
        for each in plan.components
    ]
    return place(components, plan.config["workers"])


def place(components: Sequence[Placed], workers: int) -> list[int]:
    """The worker of each executor.

    Example:
        >>> place([Placed(1, []), Placed(2, [0]), Placed(3, [1])], 2)
        [0, 1, 0, 1, 0, 1]
        >>> place([Placed(1, []), Placed(2, [0, 2]), Placed(1, [1])], 2)  # the second and third are a cycle
        [0, 1, 1, 1]
        >>> place([Placed(1, [], [1]), Placed(2, [0])], 2)
        [1, 0, 0]
    """
    load = [0] * workers
    together = {component: group for group in cycles([c.inputs for c in components]) for component in group}
    chosen: dict[int, list[int]] = {}
    for index, component in enumerate(components):
        if index in chosen:
            continue
        group = together.get(index)
        if group is None:
            chosen[index] = [_take(load, component.on_workers, 1) for _ in range(component.parallelism)]
            continue
        pin = next((components[c].on_workers for c in group if components[c].on_workers is not None), None)
        worker = _take(load, pin, sum(components[c].parallelism for c in group))
        chosen |= {c: [worker] * components[c].parallelism for c in group}
    return [worker for index in range(len(components)) for worker in chosen[index]]


def _take(load: list[int], allowed: Sequence[int] | None, executors: int) -> int:
    worker = min(range(len(load)) if allowed is None else sorted(allowed), key=lambda each: load[each])
    load[worker] += executors
    return worker
