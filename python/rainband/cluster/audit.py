"""The audit of old roots over all workers (ENGINE 2.2): who holds them?

A root that is older than `audit_s` may wait in a queue or be held by a bolt, here or in another worker. If no worker
has it, the engine has lost it, which is a bug of ours: it fails as `lost`, so that it is replayed and does not pend for
ever. That must not be said of one that was on its way while the workers were asked one after the other. So a round asks
everybody twice, and counts only if nobody had something in hand and nothing moved between the answers: then all looks
saw the same. A root that nobody has in three rounds, one after the other, is lost.

    workers ── State(old=…) ──▶  every quarter of a second, their old roots
    ◀── Look(1) ── Looked(1) ──▶ ◀── Look(2) ── Looked(2) ──▶     a round, every eighth of `audit_s`
    ◀── Lose(roots)               to the worker that owns them

No I/O: what comes back from `begin` and `hear` is to be sent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .messages import Look, Looked, Lose

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Audit"]

_ROUNDS: Final = 3
_ASKED: Final = 10_000  # roots in a question
_PATIENCE_S: Final = 2.0  # for the answers to one

Root = tuple[int, int, int]
"""The task that owns it, that task's incarnation, the attempt."""
Sent = list[tuple[int, "Look | Lose"]]


@dataclass(slots=True)
class _Question:
    request: int
    workers: frozenset[int]
    roots: list[tuple[int, Root]]  # with the worker that owns it
    until: float
    answers: dict[int, Looked] = field(default_factory=dict)
    first: dict[int, Looked] | None = None  # answers, once it is asked for the second time


class Audit:
    """The audit of one run.

    Args:
        audit_s: the setting.
    """

    def __init__(self, audit_s: float) -> None:
        self._period_s = audit_s / 8
        self._old: dict[int, list[Root]] = {}
        self._missing: Counter[tuple[int, Root]] = Counter()  # rounds in which nobody had it
        self._question: _Question | None = None
        self._due = 0.0
        self._last_request = 0

    def note(self, worker: int, rows: Iterable[Iterable[Any]]) -> None:
        """Keep the old roots of a worker."""
        self._old[worker] = [(task, incarnation, attempt) for task, incarnation, attempt in rows]

    def forget(self, worker: int) -> None:
        """A worker is dead: what it owned is gone, and what others know changes."""
        self._old.pop(worker, None)
        self._give_up()

    def begin(self, now: float, workers: Iterable[int]) -> Sent:
        """Ask these workers, which are all there are, if it is time for a round."""
        if now < self._due or (self._question is not None and now < self._question.until):
            return []
        if self._question is not None:  # somebody did not answer
            self._give_up()
        self._due = now + self._period_s
        roots = [(worker, root) for worker, old in sorted(self._old.items()) for root in old][:_ASKED]
        if not roots:
            self._missing.clear()
            return []
        self._last_request += 1
        self._question = _Question(self._last_request, frozenset(workers), roots, now + _PATIENCE_S)
        return self._ask(self._question)

    def hear(self, worker: int, looked: Looked) -> Sent:
        """Take an answer."""
        question = self._question
        if question is None or looked.request != question.request or worker not in question.workers:
            return []
        question.answers[worker] = looked
        if len(question.answers) < len(question.workers):
            return []
        if any(answer.moves is None for answer in question.answers.values()):
            self._give_up()
            return []
        if question.first is None:
            self._last_request += 1
            question.first, question.answers, question.request = question.answers, {}, self._last_request
            return self._ask(question)
        return self._judge(question, question.first)

    def _ask(self, question: _Question) -> Sent:
        rows = [list(root) for _, root in question.roots]
        return [(worker, Look(question.request, rows)) for worker in sorted(question.workers)]

    def _judge(self, question: _Question, first: dict[int, Looked]) -> Sent:
        if any(answer.moves != first[worker].moves for worker, answer in question.answers.items()):
            self._give_up()
            return []
        self._question = None
        found = {at for answer in [*first.values(), *question.answers.values()] for at in answer.found}
        missing = [each for at, each in enumerate(question.roots) if at not in found]
        self._missing = Counter({each: self._missing[each] + 1 for each in missing})
        lost: dict[int, list[list[int]]] = {}
        for (worker, root), rounds in self._missing.items():
            if rounds >= _ROUNDS:
                lost.setdefault(worker, []).append(list(root))
        return [(worker, Lose(rows)) for worker, rows in lost.items()]

    def _give_up(self) -> None:
        """The rounds must follow each other."""
        self._question = None
        self._missing.clear()
