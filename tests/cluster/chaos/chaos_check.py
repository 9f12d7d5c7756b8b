"""Judges a run by what it left: tracks of source and sinks, dead letters, report. Knows nothing of the engine.

The promises: every record is in the sinks, both halves and unharmed, or in the dead letters; none was acked before;
nothing comes twice but what a fault explains; the account in the report balances.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos_topology import digest_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HALVES = 2


@dataclass
class Life:
    """One incarnation of the source.

    Attributes:
        position: where it began.
        opened_ns: when.
        emitted: number → first time.
        acked: number → first time.
    """

    position: int
    opened_ns: int
    emitted: dict[int, int] = field(default_factory=dict)
    acked: dict[int, int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    failed: Counter[str] = field(default_factory=Counter)


@dataclass
class Tracks:
    """All that was written.

    Attributes:
        lives: of the source, in order.
        rows: (number, half) → times, in order.
        damaged: rows whose content is wrong.
        end: the last record, None if the source did not come to its end.
        letters: numbers in the dead letters → reason.
    """

    lives: list[Life]
    rows: dict[tuple[int, int], list[int]]
    damaged: list[str]
    end: int | None
    letters: dict[int, str]

    @property
    def emitted(self) -> set[int]:
        return {n for life in self.lives for n in life.emitted}

    @property
    def acked(self) -> set[int]:
        return {n for life in self.lives for n in life.acked}

    @property
    def lost(self) -> list[int]:
        """Records below the end of all, or acked, that are neither in the sinks nor in the dead letters."""
        wanted = self.acked if self.end is None else set(range(1, self.end + 1))
        return sorted(n for n in wanted if n not in self.letters and not self.is_whole(n))

    def is_whole(self, n: int) -> bool:
        return all((n, half) in self.rows for half in range(HALVES))

    @property
    def duplicates(self) -> int:
        """How often records came again, dead letters apart."""
        extra: Counter[int] = Counter()
        for (n, _), times in self.rows.items():
            extra[n] = max(extra[n], len(times) - 1)
        return sum(count for n, count in extra.items() if n not in self.letters)

    @property
    def read_again(self) -> int:
        """Records that were resolved and lie behind the position at which the source began again."""
        found, resolved = 0, set[int]()
        for life in self.lives:
            found += sum(n > life.position for n in resolved)
            resolved |= set(life.acked)
        return found

    @property
    def early(self) -> list[int]:
        """Records that were acked before both their halves were written."""
        found = []
        for life in self.lives:
            for n, when in life.acked.items():
                halves = [self.rows.get((n, half), [2**63])[0] for half in range(HALVES)]
                if n not in self.letters and max(halves) > when:
                    found.append(n)
        return found


def read(tracks: Path, state: Path) -> Tracks:
    """Read what was written; a row without its end was not written."""
    lives = [life for path in tracks.glob("source-*") for life in _lives(path)]
    lives.sort(key=lambda each: each.opened_ns)
    ends = [int(row[1]) for path in tracks.glob("source-*") for row in _rows(path) if row[0] == "end"]
    rows: dict[tuple[int, int], list[int]] = {}
    damaged = []
    for path in tracks.glob("sink-*"):
        for n, half, digest, task, when in _rows(path):
            rows.setdefault((int(n), int(half)), []).append(int(when))
            if digest != digest_of(text_of(int(n))):
                damaged.append(f"{path.name}: record {n}, task {task}")
    ordered = {key: sorted(times) for key, times in rows.items()}
    return Tracks(lives, ordered, damaged, max(ends, default=None), _letters(state))


def _lives(path: Path) -> list[Life]:
    lives: list[Life] = []
    for what, number, when, *more in _rows(path):
        n, t = int(number), int(when)
        if what == "o":
            lives.append(Life(n, t))
        elif what == "e":
            lives[-1].emitted.setdefault(n, t)
        elif what == "a":
            lives[-1].acked.setdefault(n, t)
        elif what == "d":
            lives[-1].dead.add(n)
        elif what == "f":
            lives[-1].failed[more[0]] += 1
    return lives


def _rows(path: Path) -> list[list[str]]:
    text = path.read_text()
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def _letters(state: Path) -> dict[int, str]:
    path = state / "dead_letters.jsonl"
    if not path.exists():
        return {}
    return {row["id"]: row["reason"] for row in map(json.loads, path.read_text().splitlines())}


def check(
    found: Tracks, reports: Sequence[dict[str, Any]], *, deaths: int, max_pending: int, other_duplicates: int = 0
) -> None:
    """Raise if a promise was broken.

    Args:
        found: the tracks.
        reports: of the runs that ended, at least of the last.
        deaths: processes that died, each of which may have made `max_pending` records come again.
        max_pending: of the source.
        other_duplicates: that the test knows of.
    """
    assert found.end is not None, "the source did not end"
    assert not found.lost, f"{len(found.lost)} of {found.end} records are lost: {found.lost[:20]}"
    assert not found.early, f"{len(found.early)} records were acked before they were written: {found.early[:20]}"
    assert not found.damaged, found.damaged[:20]
    allowed = deaths * max_pending + found.read_again + other_duplicates
    assert found.duplicates <= allowed, f"{found.duplicates} duplicates, {allowed} are explained"
    for report in reports:
        check_account(report)


def check_account(report: dict[str, Any]) -> None:
    """Raise unless the account of a run that ended balances and nothing is pending."""
    for name, component in report["components"].items():
        roots = component["roots"]
        resolved = roots["acked"] + roots["dead"] + roots["dropped"] + roots["gone"]
        assert roots["pending"] == 0, f"{name}: {roots}"
        assert roots["emitted"] == resolved, f"{name}: {roots}"
        assert component["queue"] == 0, f"{name}: {component['queue']} tuples are left in queues"
    assert report["counters"].get("lost", 0) == 0, report["counters"]
