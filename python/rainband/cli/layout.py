"""Where components and streams of a picture stand: a layered layout from left to right, without any library.

The classic steps: back edges are taken out, a component stands one layer right of its last sender, edges over several
layers get a waypoint in each, layers are sorted by the mean place of their neighbours, then moved towards it without
overlap. Back edges return through the gaps between layers and a lane of their own below everything.

Worked example, ``a → b → c`` with ``a → c`` and ``c → b`` back: layers (a) (b, waypoint) (c); the waypoint keeps ``a
→ c`` clear of ``b``; ``c → b`` leaves c to the right, runs below, and enters b from the left.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rainband.cli.wiring import Edge, Wiring

Point = tuple[float, float]

GAP_X, GAP_Y, LANE = 150.0, 34.0, 26.0
_SWEEPS = 12
_WAYPOINT_HEIGHT = 18.0


@dataclass(slots=True)
class Box:
    """A component, or a waypoint of a long edge, with its middle at ``x, y``."""

    name: str
    layer: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    is_waypoint: bool = False
    left: list[Box] = field(default_factory=list)
    right: list[Box] = field(default_factory=list)


@dataclass(slots=True)
class Placed:
    """A laid-out picture: boxes by component, the points of each edge, and the size."""

    boxes: dict[str, Box]
    routes: list[tuple[Edge, list[Point]]]
    width: float
    height: float


def lay_out(wiring: Wiring, sizes: dict[str, tuple[float, float]]) -> Placed:
    """Places every component of the given sizes and routes every edge."""
    forward = [edge for edge in wiring.edges if not edge.is_back]
    layer = _layers(wiring, forward)
    boxes = {part.name: Box(part.name, layer[part.name], *sizes[part.name]) for part in wiring.parts}
    chains = [(edge, _chain(edge, boxes)) for edge in forward]
    layers = _sorted_layers([*boxes.values(), *(box for _, chain in chains for box in chain[1:-1])])
    _place(layers)
    routes = [(edge, _route(chain)) for edge, chain in chains]
    bottom = max(box.y + box.height / 2 for row in layers for box in row)
    routes += _ways_back(wiring, boxes, bottom, layers)
    points = [point for _, route in routes for point in route]
    width = max([box.x + box.width / 2 for row in layers for box in row] + [x for x, _ in points])
    height = max([bottom] + [y for _, y in points])
    return Placed(boxes, routes, width, height)


def _layers(wiring: Wiring, forward: Sequence[Edge]) -> dict[str, int]:
    """The length of the longest way from a component without senders; forward edges have no cycle."""
    layer = {part.name: 0 for part in wiring.parts}
    for _ in wiring.parts:
        changed = False
        for edge in forward:
            if layer[edge.target] <= layer[edge.source]:
                layer[edge.target] = layer[edge.source] + 1
                changed = True
        if not changed:
            break
    return layer


def _chain(edge: Edge, boxes: dict[str, Box]) -> list[Box]:
    """The boxes that an edge goes through: its ends, and a waypoint in every layer between."""
    source, target = boxes[edge.source], boxes[edge.target]
    between = [
        Box(f"{edge.source}>{edge.target}", layer, 0.0, _WAYPOINT_HEIGHT, is_waypoint=True)
        for layer in range(source.layer + 1, target.layer)
    ]
    chain = [source, *between, target]
    for first, second in itertools.pairwise(chain):
        first.right.append(second)
        second.left.append(first)
    return chain


def _sorted_layers(boxes: Sequence[Box]) -> list[list[Box]]:
    layers: list[list[Box]] = [[] for _ in range(max(box.layer for box in boxes) + 1)]
    for box in boxes:
        layers[box.layer].append(box)
    for sweep in range(_SWEEPS):
        to_right = sweep % 2 == 0
        for row in layers if to_right else reversed(layers):
            # Ties keep their order, so that the picture of an unchanged file does not change.
            place = {id(box): index for each in layers for index, box in enumerate(each)}
            row.sort(
                key=lambda box: _mean(
                    [place[id(near)] for near in (box.left if to_right else box.right)], place[id(box)]
                )
            )
    return layers


def _place(layers: list[list[Box]]) -> None:
    x = 0.0
    for row in layers:
        width = max(box.width for box in row)
        for box in row:
            box.x = x + width / 2
        x += width + GAP_X
    for row in layers:
        _spread(row, [0.0] * len(row))
    for sweep in range(_SWEEPS):
        for row in layers if sweep % 2 == 0 else reversed(layers):
            near = [[each.y for each in (*box.left, *box.right)] for box in row]
            _spread(row, [_mean(each, box.y) for each, box in zip(near, row, strict=True)])
    top = min(box.y - box.height / 2 for row in layers for box in row)
    for row in layers:
        for box in row:
            box.y -= top


def _spread(row: list[Box], wanted: list[float]) -> None:
    """Gives each box of a layer the wanted place as nearly as the order and the gaps allow.

    Pushed down from the first and up from the last, the mean of both: neither end is favoured.
    """
    down, up = list(wanted), list(wanted)
    for index in range(1, len(row)):
        down[index] = max(down[index], down[index - 1] + _distance(row[index - 1], row[index]))
    for index in range(len(row) - 2, -1, -1):
        up[index] = min(up[index], up[index + 1] - _distance(row[index], row[index + 1]))
    for box, low, high in zip(row, down, up, strict=True):
        box.y = (low + high) / 2


def _distance(upper: Box, lower: Box) -> float:
    return (upper.height + lower.height) / 2 + GAP_Y


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _route(chain: list[Box]) -> list[Point]:
    """From the right side of the first box through the waypoints to the left side of the last, apart from others."""
    first, last = chain[0], chain[-1]
    start = (first.x + first.width / 2, first.y + _port(first, chain[1], first.right))
    end = (last.x - last.width / 2, last.y + _port(last, chain[-2], last.left))
    return [start, *((box.x, box.y) for box in chain[1:-1]), end]


def _port(box: Box, other: Box, siblings: list[Box]) -> float:
    """How far from the middle of its side an edge touches a box: in the order of the other ends."""
    order = sorted(siblings, key=lambda near: near.y)
    step = min(12.0, (box.height - 16) / max(1, len(order)))
    return (order.index(other) - (len(order) - 1) / 2) * step


def _ways_back(
    wiring: Wiring, boxes: dict[str, Box], bottom: float, layers: list[list[Box]]
) -> list[tuple[Edge, list[Point]]]:
    """Loops of one component close below it; longer ways get lanes, the shorter ones inside the longer."""
    back = [edge for edge in wiring.edges if edge.is_back]
    back.sort(key=lambda edge: boxes[edge.source].x - boxes[edge.target].x)
    routes: list[tuple[Edge, list[Point]]] = []
    leaving: dict[str, int] = {}
    entering: dict[str, int] = {}
    lanes = 0
    for edge in back:
        source, target = boxes[edge.source], boxes[edge.target]
        # Loops of one component and several ways into one get places of their own on its sides.
        out = source.height / 2 - 8 - 7 * leaving.setdefault(edge.source, 0)
        into = target.height / 2 - 8 - 7 * entering.setdefault(edge.target, 0)
        leaving[edge.source] += 1
        entering[edge.target] += 1
        if source is target:
            nth = leaving[edge.source] - 1
            lane, nudge = source.y + source.height / 2 + 20 + 20 * nth, 14.0 + 8 * nth
            right, left = source.x + source.width / 2 + nudge, source.x - source.width / 2 - nudge
        else:
            lanes += 1
            lane, nudge = bottom + LANE * lanes, 24.0 + 10.0 * (lanes % 4)
            right = max(box.x + box.width / 2 for box in layers[source.layer]) + nudge
            left = min(box.x - box.width / 2 for box in layers[target.layer]) - nudge
        start = (source.x + source.width / 2, source.y + out)
        end = (target.x - target.width / 2, target.y + into)
        routes.append((edge, [start, (right, start[1]), (right, lane), (left, lane), (left, end[1]), end]))
    return routes
