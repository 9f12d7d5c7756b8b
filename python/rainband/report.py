"""`Report`: what a run has counted, for people (`str`) and machines (`json`). Made of `Engine.snapshot()`; frozen.

A report of a run that goes on is a picture of one moment; the account of each component with roots balances in it:
emitted = acked + dead + dropped + gone + pending.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_MOVING = {"starting", "running", "draining"}
"""States in which the counts of tasks are read while they change, and so need not agree."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The account of the roots that the tasks of one component emitted.

    Attributes:
        emitted: tuples with an id, or from `tick`, `flush` and `finish` of a bolt.
        acked: resolved because everything that came of them was acked.
        dead: resolved into the dead letters.
        dropped: resolved by the spout's verdict `DROP`.
        pending: not resolved yet.
        replays: attempts beyond the first.
        untracked_failed: failures of tuples that were emitted without id.
        gone: not resolved when the worker process that had emitted them died; where their spout gives positions, they
            came again as others.
    """

    emitted: int = 0
    acked: int = 0
    dead: int = 0
    dropped: int = 0
    pending: int = 0
    replays: int = 0
    untracked_failed: int = 0
    gone: int = 0

    @property
    def balances(self) -> bool:
        """Whether every root is accounted for.

        Example:
            >>> Roots(emitted=3, acked=1, dead=1, pending=1).balances
            True
        """
        return self.emitted == self.acked + self.dead + self.dropped + self.gone + self.pending


@dataclass(frozen=True, slots=True)
class ComponentReport:
    """The counts of one component, summed over its tasks.

    Attributes:
        name: of the component.
        kind: "spout" or "bolt".
        executed: calls of `process` that ended, or tuples that went through batches; of a spout, tuples emitted.
        emitted: calls of `emit`.
        delivered: deliveries to tasks that came of them.
        acked: tuples acked by a bolt; roots acked of a spout.
        failed: failures by reason.
        roots: the account of the roots that it emitted.
        queue: tuples in its inboxes.
        queue_capacity: that fit in.
        in_flight: tuples taken from the inboxes and not acked yet.
        process_s: time spent in user code.
        counters: the user's own, from `TaskContext.counter`.
    """

    name: str
    kind: str
    executed: int = 0
    emitted: int = 0
    delivered: int = 0
    acked: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    roots: Roots = Roots()
    queue: int = 0
    queue_capacity: int = 0
    in_flight: int = 0
    process_s: float = 0.0
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def replays(self) -> int:
        """Attempts beyond the first of the roots that it emitted."""
        return self.roots.replays

    @property
    def failures(self) -> int:
        """Failures, whatever the reason."""
        return sum(self.failed.values())


@dataclass(frozen=True, slots=True)
class Latency:
    """Time from the emit of a root to its ack, of all roots acked, in milliseconds.

    Example:
        >>> print(Latency(count=10, p50_ms=0.2, p90_ms=0.4, p99_ms=1.25, max_ms=12.0))
        p50 0.20 ms, p90 0.40 ms, p99 1.25 ms, max 12.00 ms
        >>> print(Latency())
        no root acked
    """

    count: int = 0
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0

    def __str__(self) -> str:
        if not self.count:
            return "no root acked"
        shares = (("p50", self.p50_ms), ("p90", self.p90_ms), ("p99", self.p99_ms), ("max", self.max_ms))
        return ", ".join(f"{name} {value:.2f} ms" for name, value in shares)


@dataclass(frozen=True, slots=True)
class PendingRoot:
    """A root that was not resolved when the report was made.

    Attributes:
        component: that emitted it.
        task: that emitted it.
        id: the user's.
        attempt: 1 for the first.
        age_s: since its first emit.
        comes_again: in the next run with the same `state_dir`, as its spout gave it a position.
    """

    component: str
    task: int
    id: Any
    attempt: int
    age_s: float
    comes_again: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has counted.

    Attributes:
        topology: its name.
        state: "starting", "running", "draining", "ended", "failed" or "stopped".
        uptime_s: since the start.
        components: by name, in definition order.
        latency: from emit to ack.
        pending_roots: those not resolved; empty for a report of a run that goes on.
        dead_letter_file: where dead letters that nobody subscribed to were written, None if there are none.
        counters: the engine's own: double acks, late acks, deliveries without target, …
        notes: what else the reader should know, a sentence each.

    Example:
        >>> snapshot = {"state": "ended", "uptime_s": 2.0, "components": [
        ...     {"name": "lines", "kind": "spout", "executed": 0, "emitted": 3, "acked": 0, "failed": {},
        ...      "roots": {"emitted": 3, "acked": 2, "dead": 1, "replays": 4}},
        ...     {"name": "split", "kind": "bolt", "executed": 7, "emitted": 20, "acked": 2, "failed": {"error": 5}}],
        ...     "latency_ns": {"count": 2, "p50": 200_000, "p90": 400_000, "p99": 400_000, "max": 400_000}}
        >>> report = Report.of("wordcount", snapshot)
        >>> report.components["split"].failed
        {'error': 5}
        >>> report.dead_letters, report.pending, report.balances
        (1, 0, True)
        >>> print(report)
        topology "wordcount" ended after 2.0 s
        <BLANKLINE>
        component  kind   executed  emitted  acked  failed  replays  dead  pending
        lines      spout         3        3      2       0        4     1        0
        split      bolt          7       20      2       5        0     0        0
        <BLANKLINE>
        latency: p50 0.20 ms, p90 0.40 ms, p99 0.40 ms, max 0.40 ms (2 roots acked)
        failed in split: error 5
        dead letters: 1
    """

    topology: str
    state: str
    uptime_s: float
    components: Mapping[str, ComponentReport]
    latency: Latency = Latency()
    pending_roots: tuple[PendingRoot, ...] = ()
    dead_letter_file: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        topology: str,
        snapshot: Mapping[str, Any],
        *,
        pending: Sequence[tuple[str, int, Any, int, float, bool]] = (),
        dead_letter_file: str | None = None,
        user_counters: Mapping[str, Mapping[str, int]] | None = None,
        notes: Sequence[str] = (),
    ) -> Report:
        """A report of `Engine.snapshot()` and, for a run that is over, `Engine.pending()`.

        Args:
            topology: its name.
            snapshot: from the engine; keys that it lacks count as 0, those not known here are left out.
            pending: from the engine.
            dead_letter_file: path of the file, if one was written.
            user_counters: component → counter → sum over its tasks.
            notes: sentences for the reader.
        """
        own = user_counters or {}
        components = {row["name"]: _component(row, own.get(row["name"], {})) for row in snapshot["components"]}
        return cls(
            topology=topology,
            state=snapshot["state"],
            uptime_s=snapshot["uptime_s"],
            components=MappingProxyType(components),
            latency=_latency(snapshot.get("latency_ns", {})),
            pending_roots=tuple(PendingRoot(*row) for row in pending),
            dead_letter_file=dead_letter_file,
            counters=dict(snapshot.get("counters", {})),
            notes=tuple(notes),
        )

    @property
    def pending(self) -> int:
        """Roots that are not resolved."""
        return sum(component.roots.pending for component in self.components.values())

    @property
    def dead_letters(self) -> int:
        """Roots that were given up."""
        return sum(component.roots.dead for component in self.components.values())

    @property
    def gone(self) -> int:
        """Roots that were not resolved when their worker process died."""
        return sum(component.roots.gone for component in self.components.values())

    @property
    def balances(self) -> bool:
        """Whether every root of every component is accounted for."""
        return all(component.roots.balances for component in self.components.values())

    def json(self) -> str:
        """The report as JSON text; ids that JSON cannot hold stand as their `repr`."""
        totals = {"pending": self.pending, "dead_letters": self.dead_letters, "balances": self.balances}
        return json.dumps(_plain(self) | totals, default=repr, ensure_ascii=False, indent=2)

    def __str__(self) -> str:
        heading = f'topology "{self.topology}" {self.state} after {self.uptime_s:.1f} s'
        return "\n".join([heading, "", *self._table(), "", *self._remarks()])

    def _table(self) -> list[str]:
        rows = [("component", "kind", "executed", "emitted", "acked", "failed", "replays", "dead", "pending")]
        for c in self.components.values():
            numbers = (c.executed, c.emitted, c.acked, c.failures, c.replays, c.roots.dead, c.roots.pending)
            rows.append((c.name, c.kind, *(f"{n:,}".replace(",", " ") for n in numbers)))  # type: ignore[arg-type]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]

    def _remarks(self) -> list[str]:
        acked = f" ({self.latency.count} roots acked)" if self.latency.count else ""
        lines = [f"latency: {self.latency}{acked}"]
        for c in self.components.values():
            if c.failed:
                lines.append(f"failed in {c.name}: {_listing(c.failed)}")
            if c.counters:
                lines.append(f"counted in {c.name}: {_listing(c.counters)}")
        if self.dead_letters:
            lines.append(
                f"dead letters: {self.dead_letters}"
                + (f", in {self.dead_letter_file}" if self.dead_letter_file else "")
            )
        if self.gone:
            lines.append(f"gone with workers that died: {self.gone}")
        if self.pending:
            lines.append(f"pending: {self.pending}" + _examples(self.pending_roots, self.pending))
        counted = {name: n for name, n in self.counters.items() if n}
        if counted:
            lines.append(f"engine: {_listing(counted)}")
        if not self.balances and self.state not in _MOVING:
            lines.append("the account does not balance: this is an error of the engine")
        return [*lines, *self.notes]


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, which would copy the users' ids; not everything can be copied."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, MappingProxyType | dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _component(row: Mapping[str, Any], counters: Mapping[str, int]) -> ComponentReport:
    account = row.get("roots") or {}
    roots = Roots(**{name: account.get(name, 0) for name in Roots.__dataclass_fields__})
    is_spout = row["kind"] == "spout"
    return ComponentReport(
        name=row["name"],
        kind=row["kind"],
        # A spout receives nothing; the column would be 0 for all of them.
        executed=row.get("emitted", 0) if is_spout else row.get("executed", 0),
        emitted=row.get("emitted", 0),
        delivered=row.get("delivered", 0),
        acked=roots.acked if is_spout else row.get("acked", 0),
        failed=dict(row.get("failed", {})),
        roots=roots,
        queue=row.get("queue", 0),
        queue_capacity=row.get("queue_capacity", 0),
        in_flight=row.get("in_flight", 0),
        process_s=row.get("process_ns", 0) / 1e9,
        counters=dict(counters),
    )


def _latency(row: Mapping[str, Any]) -> Latency:
    times = {f"{name}_ms": row.get(name, 0) / 1e6 for name in ("p50", "p90", "p99", "max")}
    return Latency(count=row.get("count", 0), **times)


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _examples(roots: Sequence[PendingRoot], count: int) -> str:
    if not roots:
        return ""
    shown = ", ".join(
        f"{root.id!r} of {root.component} (attempt {root.attempt}, {root.age_s:.1f} s)" for root in roots[:5]
    )
    return f": {shown}" + (f" and {count - 5} more" if count > 5 else "")
