"""The numbers of a run of several workers: the reports of all incarnations, dead ones included, as one.

A worker's snapshot counts its own tasks. Counts are summed over all incarnations, so that the account stays whole when
one dies; what describes a moment (queues, what is held) over those alive. Roots that were pending when their worker
died have nobody who could resolve them: they are counted as `gone`, and those of a spout with positions come again as
new roots of its successor. The counts of a dead worker are those that it kept in the file of its slots for each slice
of work; what users count, and latencies, are those of its last report, at most a quarter of a second old.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rainband.exact import decode, encode, safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rainband.plan import CompiledPlan, ComponentPlan

__all__ = ["Account", "pending_rows", "read_pending"]

_COUNTS: Final = ("executed", "emitted", "delivered", "acked", "process_ns")
_GAUGES: Final = ("queue", "queue_capacity", "held")
_ROOTS: Final = ("emitted", "acked", "dead", "dropped", "gone", "pending", "replays", "untracked_failed")
_SHARES: Final = ("p50", "p90", "p99")
_COUNTERS: Final = ("double_ack", "late_ack", "lost", "loop_dropped", "no_target", "discarded_at_stop")

Pending = tuple[str, int, object, int, float, bool]


@dataclass(slots=True)
class _Reported:
    """The latest report of one incarnation."""

    snapshot: Mapping[str, Any]
    counters: Mapping[str, Mapping[str, int]]
    pending: list[Pending] = field(default_factory=list)
    is_dead: bool = False
    last_rows: list[dict[str, Any]] | None = None  # of components, from the file of slots

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Of the components."""
        return self.last_rows if self.last_rows is not None else self.snapshot.get("components", ())


class Account:
    """The reports of all incarnations of all workers.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: CompiledPlan) -> None:
        self._plan = plan
        self._reported: dict[tuple[int, int], _Reported] = {}

    def note(
        self,
        incarnation: tuple[int, int],
        snapshot: Mapping[str, Any],
        counters: Mapping[str, Mapping[str, int]],
        pending: Iterable[Pending] = (),
    ) -> None:
        """Keep the latest report of (worker, incarnation)."""
        before = self._reported.get(incarnation)
        made = self._reported[incarnation] = _Reported(snapshot, counters, list(pending))
        if before is not None and before.is_dead:  # its last words came late
            made.is_dead, made.last_rows = True, before.last_rows

    def bury(self, incarnation: tuple[int, int], counts: Sequence[Mapping[str, int]] = ()) -> None:
        """From now on count what this one had pending as gone.

        Args:
            incarnation: (worker, incarnation).
            counts: of each task when it died (`native.Slots`), newer than its last report.
        """
        last = self._reported.setdefault(incarnation, _Reported({}, {}))
        last.is_dead = True
        if counts:
            last.last_rows = [self._row_of(planned, counts) for planned in self._plan.components]

    def _row_of(self, planned: ComponentPlan, counts: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        row: dict[str, Any] = {"name": planned.name, "failed": {}, "roots": {}}
        for task in planned.task_ids:
            for name, count in counts[task].items() if task < len(counts) else ():
                group, _, inner = name.rpartition(".")
                _add(row[group] if group else row, {inner: count})
        return row

    def snapshot(self, state: str, uptime_s: float) -> dict[str, Any]:
        """All of it, in the form of `Engine.snapshot()`."""
        reported = list(self._reported.values())
        latencies = [each.snapshot.get("latency_ns", {}) for each in reported]
        counters: dict[str, int] = dict.fromkeys(_COUNTERS, 0)  # there, as in one process, before the first report
        for each in reported:
            _add(counters, each.snapshot.get("counters", {}))
        return {
            "state": state,
            "uptime_s": uptime_s,
            "components": [self._component(index, reported) for index in range(len(self._plan.components))],
            "latency_ns": merge_latency(latencies),
            "counters": counters,
        }

    def _component(self, index: int, reported: list[_Reported]) -> dict[str, Any]:
        planned = self._plan.components[index]
        row: dict[str, Any] = {"name": planned.name, "kind": planned.kind, "tasks": planned.tasks}
        row |= dict.fromkeys((*_COUNTS, *_GAUGES), 0)
        failed: dict[str, int] = {}
        roots = dict.fromkeys(_ROOTS, 0)
        for each in reported:
            own = each.rows[index] if index < len(each.rows) else {}
            keys = _COUNTS if each.is_dead else (*_COUNTS, *_GAUGES)
            _add(row, {key: own.get(key, 0) for key in keys})
            _add(failed, own.get("failed", {}))
            account = dict(own.get("roots", {}))
            if each.is_dead:
                account["gone"] = account.pop("pending", 0)
            _add(roots, {key: account.get(key, 0) for key in _ROOTS})
        return row | {"failed": failed, "roots": roots}

    def gone(self) -> dict[tuple[int, int], dict[str, int]]:
        """What each dead incarnation had pending: (worker, incarnation) → component → roots."""
        found: dict[tuple[int, int], dict[str, int]] = {}
        for incarnation, each in self._reported.items():
            if each.is_dead:
                counts = {row["name"]: row.get("roots", {}).get("pending", 0) for row in each.rows}
                found[incarnation] = {name: n for name, n in counts.items() if n}
        return found

    def counters(self) -> dict[str, dict[str, int]]:
        """What users counted, over all incarnations."""
        sums: dict[str, dict[str, int]] = {}
        for each in self._reported.values():
            for component, counters in each.counters.items():
                _add(sums.setdefault(component, {}), counters)
        return sums

    def pending(self) -> list[Pending]:
        """The roots that were not resolved when those alive told so."""
        return [row for each in self._reported.values() if not each.is_dead for row in each.pending]


def merge_latency(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Latencies of several engines as one.

    `buckets`, pairs of an upper bound in nanoseconds and a count, give the shares exactly; where an engine does not
    tell them, its shares are weighed by its count.

    Example:
        >>> merge_latency([{"count": 3, "p50": 10, "max": 40}, {"count": 1, "p50": 30, "max": 35}, {}])["p50"]
        15
        >>> merge_latency([{"count": 3, "max": 9, "buckets": [[8, 2], [16, 1]]}, {"count": 1, "max": 4,
        ...                "buckets": [[4, 1]]}])
        {'count': 4, 'p50': 8, 'p90': 9, 'p99': 9, 'max': 9}
    """
    known = [part for part in parts if part.get("count")]
    count = sum(part["count"] for part in known)
    longest = max((part["max"] for part in known), default=0)
    merged: dict[str, Any] = {"count": count}
    if known and all("buckets" in part for part in known):
        buckets = sorted((upper, n) for part in known for upper, n in part["buckets"])
        merged |= {name: min(_share(buckets, int(name[1:]) / 100 * count), longest) for name in _SHARES}
    else:
        total = max(count, 1)
        merged |= {name: sum(part.get(name, 0) * part["count"] for part in known) // total for name in _SHARES}
    return merged | {"max": longest}


def _share(buckets: list[tuple[int, int]], wanted: float) -> int:
    seen = 0
    for upper, count in buckets:
        seen += count
        if seen >= wanted:
            return upper
    return buckets[-1][0] if buckets else 0


def _add(sums: dict[str, Any], more: Mapping[str, int]) -> None:
    for key, count in more.items():
        sums[key] = sums.get(key, 0) + count


class Shown:
    """A user's id that could not travel: shows itself as it showed there."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shown) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def pending_rows(pending: Iterable[Pending]) -> list[list[Any]]:
    """Rows of `Engine.pending()` as JSON.

    Example:
        >>> read_pending(pending_rows([("lines", 0, (1, b"x"), 2, 0.5, True), ("lines", 0, {1}, 1, 0.5, False)]))
        [('lines', 0, (1, b'x'), 2, 0.5, True), ('lines', 0, {1}, 1, 0.5, False)]
    """
    rows = []
    for component, task, identity, attempt, age_s, has_position in pending:
        try:
            coded: Any = {"id": encode(identity)}
        except ValueError:
            coded = {"repr": safe_repr(identity)}
        rows.append([component, task, coded, attempt, age_s, has_position])
    return rows


def read_pending(rows: Iterable[list[Any]]) -> list[Pending]:
    """What `pending_rows` was given; an id that JSON cannot hold is one that only shows itself."""
    found: list[Pending] = []
    for component, task, coded, attempt, age_s, has_position in rows:
        identity = decode(coded["id"]) if "id" in coded else Shown(coded["repr"])
        found.append((component, task, identity, attempt, age_s, has_position))
    return found
