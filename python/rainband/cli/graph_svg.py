"""A topology as SVG, drawn here: no browser, no library, one file that shows itself everywhere.

Text sizes are estimated, because nothing here can measure a font; the factors fit the common sans-serif ones and err
on the wide side.
"""

from __future__ import annotations

import itertools
from html import escape
from typing import TYPE_CHECKING

from rainband.cli.layout import Box, Placed, Point, lay_out

if TYPE_CHECKING:
    from rainband.cli.wiring import Edge, Part, Wiring

_MARGIN = 28.0
_TITLE = 40.0
_RADIUS = 12.0
_COLOURS = {"spout": ("#dbeafe", "#2563eb"), "bolt": ("#f1f5f9", "#475569")}
_EDGE, _BACK = "#64748b", "#c2410c"
_TIMES = "\N{MULTIPLICATION SIGN}"
_STYLE = """
    text { font-family: system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #0f172a; }
    .title { font-size: 18px; font-weight: 600; }
    .name { font-size: 14px; font-weight: 600; }
    .class { font-size: 11px; fill: #475569; }
    .times { font-size: 12px; font-weight: 600; }
    .label { font-size: 11px; fill: #334155; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
    .edge { fill: none; stroke-width: 1.6; }
"""


def draw_svg(wiring: Wiring) -> str:
    """The picture as SVG text."""
    placed = lay_out(wiring, {part.name: _size(part) for part in wiring.parts})
    shift = -min([0.0, *(x for _, route in placed.routes for x, _ in route)])
    title_width = _text_width(wiring.name, 18) + 2 * _MARGIN
    width = max(placed.width + shift + 2 * _MARGIN, title_width)
    height = placed.height + 2 * _MARGIN + _TITLE
    size = f'width="{width:.0f}" height="{height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"  <title>topology {escape(wiring.name)}</title>",
        f"  <style>{_STYLE}  </style>",
        f"  <defs>{_arrow('arrow', _EDGE)}{_arrow('back', _BACK)}</defs>",
        f'  <rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'  <text class="title" x="{_MARGIN:.0f}" y="{_MARGIN + 10:.0f}">{escape(wiring.name)}</text>',
        f'  <g transform="translate({_MARGIN + shift:.1f} {_MARGIN + _TITLE:.1f})">',
        *(f"    {_edge(edge, route)}" for edge, route in placed.routes),
        *(f"    {line}" for part in wiring.parts for line in _component(part, placed.boxes[part.name])),
        *(f"    {line}" for line in _labels(placed)),
        "  </g>",
        "</svg>",
    ]
    return "\n".join(lines)


def _size(part: Part) -> tuple[float, float]:
    name = _text_width(part.name, 14) + (_text_width(_times(part), 12) + 14 if _times(part) else 0)
    return max(name, _text_width(part.component, 11), 80.0) + 28, 52.0


def _text_width(text: str, size: float) -> float:
    return sum(0.34 if char in "ijlft.,:;|!' " else 0.86 if char in "mwMW@" else 0.62 for char in text) * size


def _times(part: Part) -> str:
    if part.tasks != part.parallelism:
        return f"{_TIMES}{part.parallelism}, {part.tasks} tasks"
    return f"{_TIMES}{part.parallelism}" if part.parallelism > 1 else ""


def _arrow(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0,0 L10,5 L0,10 z" fill="{colour}"/></marker>'
    )


def _component(part: Part, box: Box) -> list[str]:
    stroke = _COLOURS[part.kind][1]
    left, top = box.x - box.width / 2, box.y - box.height / 2
    corner = 24 if part.kind == "spout" else 7
    lines = [f"<g><title>{escape(f'{part.kind} {part.name}')}</title>"]
    if part.parallelism > 1:
        # A second box behind the first says "several" before the number is read.
        lines.append(_rectangle((left + 4, top + 4), box, corner, part.kind))
    lines.append(_rectangle((left, top), box, corner, part.kind))
    times = _times(part)
    middle = box.x - (_text_width(times, 12) / 2 + 4 if times else 0)
    lines.append(
        f'<text class="name" x="{middle:.1f}" y="{box.y - 3:.1f}" text-anchor="middle">{escape(part.name)}</text>'
    )
    if times:
        at = middle + _text_width(part.name, 14) / 2 + 8
        lines.append(
            f'<text class="times" x="{at:.1f}" y="{box.y - 3:.1f}" style="fill: {stroke}">{escape(times)}</text>'
        )
    component = escape(part.component)
    lines.append(
        f'<text class="class" x="{box.x:.1f}" y="{box.y + 14:.1f}" text-anchor="middle">{component}</text></g>'
    )
    return lines


def _rectangle(place: Point, box: Box, corner: int, kind: str) -> str:
    fill, stroke = _COLOURS[kind]
    return (
        f'<rect x="{place[0]:.1f}" y="{place[1]:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{corner}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.4"/>'
    )


def _edge(edge: Edge, route: list[Point]) -> str:
    if edge.is_back:
        path, colour, mark, dash = _rounded(route), _BACK, "back", ' stroke-dasharray="6 4"'
    else:
        path, colour, mark, dash = _curve(route), _EDGE, "arrow", ""
    name = escape(
        f"{edge.source} → {edge.target}: {edge.label}" + (" (back edge, never blocks)" if edge.is_back else "")
    )
    return (
        f'<path class="edge" d="{path}" stroke="{colour}"{dash} marker-end="url(#{mark})"><title>{name}</title></path>'
    )


def _curve(route: list[Point]) -> str:
    """Level at every point, so that the pieces join smoothly and arrows arrive straight."""
    path = f"M{route[0][0]:.1f},{route[0][1]:.1f}"
    for (x0, y0), (x1, y1) in itertools.pairwise(route):
        bend = (x1 - x0) / 2
        path += f" C{x0 + bend:.1f},{y0:.1f} {x1 - bend:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
    return path


def _rounded(route: list[Point]) -> str:
    """Straight pieces with round corners."""
    path = f"M{route[0][0]:.1f},{route[0][1]:.1f}"
    for before, corner, after in zip(route, route[1:], route[2:], strict=False):
        start, end = _towards(corner, before), _towards(corner, after)
        path += f" L{start[0]:.1f},{start[1]:.1f} Q{corner[0]:.1f},{corner[1]:.1f} {end[0]:.1f},{end[1]:.1f}"
    return path + f" L{route[-1][0]:.1f},{route[-1][1]:.1f}"


def _towards(corner: Point, other: Point) -> Point:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(1e-9, (dx * dx + dy * dy) ** 0.5)
    part = min(_RADIUS, length / 2) / length
    return corner[0] + dx * part, corner[1] + dy * part


def _labels(placed: Placed) -> list[str]:
    """A label on every edge, at the first place along it where it covers no other one and no component."""
    taken = [
        (box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2)
        for box in placed.boxes.values()
    ]
    lines = []
    for edge, route in placed.routes:
        width = _text_width(edge.label, 11)
        places = [_along(route, edge, part) for part in (0.5, 0.4, 0.6, 0.3, 0.7, 0.25, 0.75)]
        frames = [(x - width / 2, y - 14, x + width / 2, y + 3) for x, y in places]
        best = min(range(len(frames)), key=lambda index: sum(_overlap(frames[index], other) for other in taken))
        taken.append(frames[best])
        x, y = places[best]
        colour = f' style="fill: {_BACK}"' if edge.is_back else ""
        lines.append(
            f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="middle"{colour}>{escape(edge.label)}</text>'
        )
    return lines


def _along(route: list[Point], edge: Edge, part: float) -> Point:
    """A place just above an edge: on its lane for a back edge, on the piece in the middle for the others."""
    if edge.is_back:
        (x0, y0), (x1, _) = route[2], route[3]
        return x0 + (x1 - x0) * part, y0 - 4
    pieces = list(itertools.pairwise(route))
    (x0, y0), (x1, y1) = pieces[(len(pieces) - 1) // 2]
    # The curve is a cubic whose height is 3t² - 2t³ of the way, and whose way is nearly even in t.
    rise = 3 * part**2 - 2 * part**3
    way = 1.5 * part * (1 - part) ** 2 + 1.5 * part**2 * (1 - part) + part**3
    return x0 + (x1 - x0) * way, y0 + (y1 - y0) * rise - 5


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, across) * max(0.0, down)
