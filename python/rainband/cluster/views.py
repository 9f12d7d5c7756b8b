"""Who belongs to the run now: members, incarnations, view numbers, restarts (ENGINE 7.2). Pure: no I/O, no clock.

The supervisor tells what happened (`bound`, `installed`, `ready`, `died`, with the time where it counts) and does what
comes back, a list of actions. A *view* says of every worker which incarnation counts and where it is reached, or that
it is away. All live members install and confirm a view before the next one that only adds somebody; a death does not
wait. A run of two workers whose second dies once:

    bound(0) bound(1)            SendView 1 {0.1, 1.1}       the first view waits for everybody
    installed(0) installed(1)    -
    ready(0) ready(1)            Activate 0.1 1.1            spouts begin when all links are up
    died(1)                      SendView 2 {0.1, 1.1 away; suspects}, Launch 1.2 in 0.1 s
    installed(0)                 SendReplay 2                all have failed what they held for 1.1
    bound(1)                     SendView 3 {0.1, 1.2}
    installed(0) installed(1), ready(1)                      Activate 1.2

Only one thread may enter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Action",
    "Activate",
    "GiveUp",
    "Launch",
    "Member",
    "Membership",
    "SendReplay",
    "SendView",
    "Suspect",
]

_BACKOFF_S: Final = 0.1  # before the first restart of a worker; it doubles with each further one …
_BACKOFF_MAX_S: Final = 30.0  # … up to this
_STABLE_S: Final = 60.0  # a worker that was ready for so long starts with a clean record
_FIRST_TRIES: Final = 3  # of a worker that never was ready: what fails so often at the start fails always

Suspect = tuple[int, int, int]
"""What a dead worker had in hand: task that owns the root, that task's incarnation, number of the attempt."""


@dataclass(frozen=True, slots=True)
class Member:
    """A worker in a view.

    Attributes:
        worker: its index.
        incarnation: from 1; a restart has the next number.
        endpoint: where its inbound socket is bound; None while it is away.
        key: public key of that socket, empty without encryption.
    """

    worker: int
    incarnation: int
    endpoint: str | None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an incarnation of a worker, not before the time `at`."""

    worker: int
    incarnation: int
    at: float


@dataclass(frozen=True, slots=True)
class SendView:
    """Tell these workers the view; if it is for a death, also what the dead had in hand, and why it died.

    Suspects are charged when the view is installed: once some worker replays, what it fails as lost would be begun
    anew before its owner hears that it may be what killed.
    """

    view: int
    members: tuple[Member, ...]
    to: tuple[int, ...]
    suspects: tuple[Suspect, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SendReplay:
    """Everybody has confirmed a view that somebody died before: tell these workers to replay."""

    view: int
    reason: str
    to: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Activate:
    """Let the spouts of these workers emit."""

    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run cannot go on."""

    reason: str


Action = Launch | SendView | SendReplay | Activate | GiveUp


@dataclass(slots=True)
class _Worker:
    incarnation: int = 1
    bound: Member | None = None  # of this incarnation, once it has an inbound socket
    is_dead: bool = False  # and its successor was not bound yet
    ready_view: int = 0  # the latest view of which it said that it is ready
    ready_at: float | None = None
    is_active: bool = False
    was_ever_ready: bool = False
    deaths: int = 0  # in a row


@dataclass(slots=True)
class _Owed:
    """A replay that waits for confirmations."""

    reasons: list[str] = field(default_factory=list)


class Membership:
    """The members of one run.

    Args:
        workers: their indexes.
        restart_limit: restarts of one worker in a row before the run is given up.

    Example:
        >>> members = Membership([0, 1], restart_limit=10)
        >>> members.begin(0.0)
        [Launch(worker=0, incarnation=1, at=0.0), Launch(worker=1, incarnation=1, at=0.0)]
        >>> members.bound(0, 1, "ipc://a"), members.view
        ([], 0)
        >>> [action.view for action in members.bound(1, 1, "ipc://b")]
        [1]
    """

    def __init__(self, workers: Iterable[int], *, restart_limit: int) -> None:
        self._workers = {worker: _Worker() for worker in workers}
        self._restart_limit = restart_limit
        self._view = 0
        self._members: dict[int, Member] = {}
        self._unconfirmed: set[int] = set()
        self._owed: _Owed | None = None
        self._has_begun = False  # spouts were activated once

    @property
    def view(self) -> int:
        """The number of the latest view, 0 before the first."""
        return self._view

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of the latest view."""
        return tuple(self._members[worker] for worker in sorted(self._members))

    @property
    def has_begun(self) -> bool:
        """Whether the spouts of the first members were activated."""
        return self._has_begun

    def is_current(self, worker: int, incarnation: int) -> bool:
        """Whether this incarnation was started and is not dead, as far as is known."""
        found = self._workers.get(worker)
        return found is not None and found.incarnation == incarnation and not found.is_dead

    def is_ready(self, worker: int) -> bool:
        """Whether the present incarnation of a worker has said that it is ready."""
        return self._workers[worker].ready_at is not None

    def restarts(self, worker: int) -> tuple[int, int]:
        """The restarts of a worker in a row, and how many are allowed."""
        found = self._workers[worker]
        limit = self._restart_limit if found.was_ever_ready else min(self._restart_limit, _FIRST_TRIES - 1)
        return found.deaths, limit

    def begin(self, now: float) -> list[Action]:
        """Start everybody."""
        return [Launch(worker, found.incarnation, now) for worker, found in self._workers.items()]

    def bound(self, worker: int, incarnation: int, endpoint: str, key: str = "") -> list[Action]:
        """A worker can be reached at this endpoint."""
        if not self.is_current(worker, incarnation):
            return []
        self._workers[worker].bound = Member(worker, incarnation, endpoint, key)
        return self._next()

    def installed(self, worker: int, incarnation: int, view: int) -> list[Action]:
        """A worker has installed a view and failed what it held for the dead."""
        if not self.is_current(worker, incarnation) or view != self._view:
            return []
        self._unconfirmed.discard(worker)
        return self._next()

    def ready(self, worker: int, incarnation: int, view: int, now: float) -> list[Action]:
        """The tasks of a worker are open and it is connected with everybody in the view."""
        if not self.is_current(worker, incarnation):
            return []
        found = self._workers[worker]
        found.ready_view = max(found.ready_view, view)
        if found.ready_at is None:
            found.ready_at = now
        found.was_ever_ready = True
        return self._activate()

    def died(self, worker: int, incarnation: int, reason: str, suspects: Sequence[Suspect], now: float) -> list[Action]:
        """An incarnation is dead for certain.

        Args:
            worker: its index.
            incarnation: which one.
            reason: how it died, for people: what follows its name in a sentence.
            suspects: what it had in hand.
            now: the time.
        """
        if not self.is_current(worker, incarnation):
            return []
        found = self._workers[worker]
        if found.ready_at is not None and now - found.ready_at >= _STABLE_S:
            found.deaths = 0
        found.deaths += 1
        found.bound, found.ready_at, found.ready_view, found.is_active = None, None, 0, False
        found.is_dead = True
        if (limit := self._limit_passed(worker, found, reason)) is not None:
            return [limit]
        actions: list[Action] = []
        member = self._members.get(worker)
        if member is not None and member.incarnation == incarnation:
            self._owed = self._owed or _Owed()
            said = f"worker {worker} {reason}"
            self._owed.reasons.append(said)
            actions += self._raise_view(tuple(suspects), said)
        found.incarnation, found.is_dead = incarnation + 1, False
        backoff_s = min(_BACKOFF_S * 2 ** (found.deaths - 1), _BACKOFF_MAX_S)
        actions.append(Launch(worker, found.incarnation, now + backoff_s))
        return [*actions, *self._next()]

    def _limit_passed(self, worker: int, found: _Worker, reason: str) -> GiveUp | None:
        if not found.was_ever_ready and found.deaths >= _FIRST_TRIES:
            return GiveUp(f"worker {worker} died {found.deaths} times before it was ready; the last time: {reason}")
        if found.deaths > self._restart_limit:
            times = "once" if found.deaths == 1 else f"{found.deaths} times in a row"
            return GiveUp(f"worker {worker} died {times}, and {self._restart_limit} restarts are allowed: {reason}")
        return None

    def _next(self) -> list[Action]:
        """What follows once the latest view is confirmed by all: the replay that is owed, then those who wait."""
        if self._unconfirmed:
            return []
        actions: list[Action] = []
        if self._owed is not None:
            owed, self._owed = self._owed, None
            if to := self._live():
                actions.append(SendReplay(self._view, "; ".join(owed.reasons), to))
        waiting = [w for w, found in self._workers.items() if found.bound and self._members.get(w) != found.bound]
        is_first = not self._members
        if waiting and not (is_first and len(waiting) < len(self._workers)):
            actions += self._raise_view()
        return actions

    def _raise_view(self, suspects: tuple[Suspect, ...] = (), reason: str = "") -> list[Action]:
        self._view += 1
        for worker, found in self._workers.items():
            if found.bound is not None:
                self._members[worker] = found.bound
            elif (last := self._members.get(worker)) is not None:
                self._members[worker] = Member(worker, last.incarnation, None)
        to = self._live()
        self._unconfirmed = set(to)
        return [SendView(self._view, self.members, to, suspects, reason)] if to else []

    def _live(self) -> tuple[int, ...]:
        return tuple(sorted(w for w, member in self._members.items() if member.endpoint is not None))

    def _activate(self) -> list[Action]:
        ready = [w for w, found in self._workers.items() if self._is_ready(w, found)]
        if not self._has_begun and len(ready) < len(self._workers):
            return []
        self._has_begun = True
        fresh = tuple(worker for worker in ready if not self._workers[worker].is_active)
        for worker in fresh:
            self._workers[worker].is_active = True
        return [Activate(fresh)] if fresh else []

    def _is_ready(self, worker: int, found: _Worker) -> bool:
        """At the start everybody has to be connected with everybody; later it is enough to have joined."""
        member = self._members.get(worker)
        if found.bound is None or member != found.bound or not found.ready_view:
            return False
        return self._has_begun or found.ready_view == self._view
