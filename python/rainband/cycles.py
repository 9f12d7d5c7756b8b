"""What check.py and `cluster.placement` both have to know of a graph: its cycles, and whether pins tear one apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["cycles", "torn_cycles"]


def cycles(inputs: Sequence[Iterable[int]]) -> list[tuple[int, ...]]:
    """The cycles of a graph (its strongly connected components that hold an edge), each in ascending order.

    Args:
        inputs: of each component, the indexes of those that it takes from.

    Example:
        >>> cycles([[], [0, 2], [1], [3], [2]])
        [(1, 2), (3,)]
    """
    reached = [_reached(inputs, start) for start in range(len(inputs))]
    groups: dict[int, list[int]] = {}
    for index in range(len(inputs)):
        if index in reached[index]:  # it takes, over whatever way, from itself
            first = min(other for other in reached[index] if index in reached[other])
            groups.setdefault(first, []).append(index)
    return [tuple(group) for group in groups.values()]


def _reached(inputs: Sequence[Iterable[int]], start: int) -> set[int]:
    """All components that one takes from, directly or through others. Graphs are small; no need for Tarjan's."""
    found: set[int] = set()
    waiting = list(inputs[start])
    while waiting:
        component = waiting.pop()
        if component not in found:
            found.add(component)
            waiting += inputs[component]
    return found


def torn_cycles(inputs: Sequence[Iterable[int]], pins: Mapping[int, Sequence[int]]) -> list[dict[int, Sequence[int]]]:
    """The pins of every cycle whose components are pinned to more than one worker.

    Args:
        inputs: as in `cycles`.
        pins: component → workers that it may run on.

    Example:
        >>> torn_cycles([[], [0, 2], [1]], {1: [0], 2: [1]})
        [{1: [0], 2: [1]}]
        >>> torn_cycles([[], [0, 2], [1]], {1: [0]})
        []
    """
    found = []
    for group in cycles(inputs):
        own = {component: pins[component] for component in group if component in pins}
        if len({worker for pin in own.values() for worker in pin}) > 1:
            found.append(own)
    return found
