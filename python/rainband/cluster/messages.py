"""What supervisor and workers say to each other: a frozen dataclass for each message, as JSON on the wire.

Nothing is pickled. Values of users that a message carries (positions, ids) were made JSON by `exact.encode` before. A
message is one JSON list: its name, then its fields in the order of the class. What cannot be read raises
`ProtocolError` with the reason; it comes from a process of this run or, without CURVE, from one of this user.
"""

from __future__ import annotations

import dataclasses
import json
import types
from dataclasses import dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = [
    "Activated",
    "AskPending",
    "Bound",
    "Deactivated",
    "DeadLetter",
    "Drain",
    "Finish",
    "Hello",
    "Installed",
    "LoadFailed",
    "Log",
    "Look",
    "Looked",
    "Lose",
    "Message",
    "Over",
    "PendingRows",
    "Planned",
    "Positions",
    "ProtocolError",
    "Ready",
    "Replay",
    "Reply",
    "Start",
    "State",
    "Stop",
    "TasksEnded",
    "View",
    "decode",
    "encode",
]


class ProtocolError(Exception):
    """Bytes that are no message of this version."""


# From a worker to the supervisor.


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of an incarnation."""

    pid: int


@dataclass(frozen=True, slots=True)
class Planned:
    """The topology was found and compiled; the hashes of the plan and of each component."""

    plan_hash: str
    components: dict[str, str]


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The topology could not be found, imported or compiled.

    Attributes:
        kind: name of the exception's class.
        text: of the exception, in one line where it has one.
        traceback: the user's part of it.
        is_invalid: whether it is a mistake of the topology rather than an exception of user code.
    """

    kind: str
    text: str
    traceback: str
    is_invalid: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """The inbound socket is bound; where, and its public key."""

    endpoint: str
    key: str


@dataclass(frozen=True, slots=True)
class Installed:
    """A view is installed, and what was held for the dead was failed."""

    view: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The tasks are open and every link of the view is up."""

    view: int


@dataclass(frozen=True, slots=True)
class State:
    """The periodic report.

    Attributes:
        state: of the engine, as `Engine.wait` says it.
        snapshot: `Engine.snapshot()`.
        counters: the user's, component → counter → sum.
        standing: `Engine.standing()`.
        old: `Engine.old_roots()`, from time to time; None in between.
    """

    state: str
    snapshot: dict[str, Any]
    counters: dict[str, dict[str, int]]
    standing: list[Any]
    old: list[Any] | None


@dataclass(frozen=True, slots=True)
class Over:
    """Every executor of the worker is over and its timer has returned: the last report.

    Attributes:
        state: "ended", "failed" or "stopped".
        snapshot: as in `State`.
        counters: as in `State`.
        pending: rows of `Engine.pending()`, ids encoded.
        error: what the run failed of, None if it did not: name of the class, text, traceback.
    """

    state: str
    snapshot: dict[str, Any]
    counters: dict[str, dict[str, int]]
    pending: list[Any]
    error: list[str] | None


@dataclass(frozen=True, slots=True)
class TasksEnded:
    """These tasks are over; to be confirmed before their end-of-stream is sent. Those of a cycle come together."""

    request: int
    tasks: list[int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A line for the file of dead letters; to be confirmed when it is durable."""

    request: int
    line: str


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of spout tasks: rows of component, task index, tasks, encoded position; confirmed when durable."""

    request: int
    rows: list[Any]


@dataclass(frozen=True, slots=True)
class PendingRows:
    """The answer to `AskPending`."""

    request: int
    rows: list[Any]


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer to `Look`: the roots that are here, by their index, and a number that grows whenever something moves.

    None in its place: somebody has something in hand, so nothing can be said.
    """

    request: int
    found: list[int]
    moves: int | None


@dataclass(frozen=True, slots=True)
class Log:
    """A log record: logger, level, text, text of the traceback, time, thread, file, line.

    And, from a component, its `<topology>/<component>/<task>`; empty from elsewhere.
    """

    name: str
    level: int
    text: str
    traceback: str
    created: float
    thread: str
    path: str
    line: int
    place: str


# From the supervisor to a worker.


@dataclass(frozen=True, slots=True)
class Start:
    """Make the engine.

    Attributes:
        placement: worker of each executor.
        run_id: 16 bytes as hexadecimal digits.
        positions: rows of component, task index, encoded position.
        ended: ids of the tasks that are over already.
        state_dir: the state folder; the supervisor alone writes positions and dead letters there.
        charged: attempts that died with an earlier process of the worker: rows of the task that owns the root, hash of
            the user's id, how many.
        slots: file for what executors have in hand, None for none.
        endpoint: where to bind the inbound socket; a port that is * is chosen by the system.
    """

    placement: list[int]
    run_id: str
    positions: list[Any]
    ended: list[int]
    state_dir: str
    charged: list[Any]
    slots: str | None
    endpoint: str


@dataclass(frozen=True, slots=True)
class View:
    """Install a view: rows of worker, incarnation, endpoint or None, public key.

    If it is for a death: rows of task, incarnation, attempt for what may be the cause, and how it was.
    """

    view: int
    members: list[Any]
    suspects: list[Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Replay:
    """Everybody has installed the view: replay."""

    view: int
    reason: str


@dataclass(frozen=True, slots=True)
class Activated:
    """Spouts may emit."""


@dataclass(frozen=True, slots=True)
class Deactivated:
    """Spouts pause."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Spouts end."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Executors return after the call in progress."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Everybody is over: close the links and leave."""


@dataclass(frozen=True, slots=True)
class AskPending:
    """Send the roots that are not resolved."""

    request: int


@dataclass(frozen=True, slots=True)
class Look:
    """Say which of these roots are queued or held: rows of task, incarnation, attempt."""

    request: int
    roots: list[Any]


@dataclass(frozen=True, slots=True)
class Lose:
    """No worker has these roots of yours: rows as in `Look`."""

    roots: list[Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A request was carried out, or why not."""

    request: int
    error: str | None


Message = (
    Hello | Planned | LoadFailed | Bound | Installed | Ready | State | Over | TasksEnded | DeadLetter | Positions
    | PendingRows | Looked | Log | Start | View | Replay | Activated | Deactivated | Drain | Stop | Finish | AskPending
    | Look | Lose | Reply
)  # fmt: skip

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """A message as bytes.

    Example:
        >>> encode(Installed(3))
        b'["Installed",3]'
    """
    values = [getattr(message, entry.name) for entry in dataclasses.fields(message)]
    return json.dumps([type(message).__name__, *values], separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Message:
    """The message that `encode` was given.

    Raises:
        ProtocolError: it is none.

    Example:
        >>> decode(b'["Installed",3]')
        Installed(view=3)
        >>> decode(b'["Installed","x"]')
        Traceback (most recent call last):
            ...
        rainband.cluster.messages.ProtocolError: Installed.view: expected int, got 'x'
    """
    try:
        read = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {data[:80]!r}") from error
    kind = _KINDS.get(str(read[0])) if isinstance(read, list) and read else None
    if kind is None:
        raise ProtocolError(f"no message of this version: {data[:80]!r}")
    hints = _hints(kind.__name__)
    if len(read) - 1 != len(hints):
        raise ProtocolError(f"{kind.__name__}: expected {len(hints)} fields, got {len(read) - 1}")
    for (name, wanted), value in zip(hints.items(), read[1:], strict=True):
        if not _fits(value, wanted):
            said = getattr(wanted, "__name__", str(wanted))
            raise ProtocolError(f"{kind.__name__}.{name}: expected {said}, got {value!r:.80}")
    return kind(*read[1:])


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value read from JSON has the declared type, looked at no deeper than the first level."""
    if get_origin(wanted) in {Union, types.UnionType}:
        return any(_fits(value, each) for each in get_args(wanted))
    plain = get_origin(wanted) or wanted
    if plain is float:
        return type(value) in {int, float}
    return type(value) is plain


@cache
def _hints(kind: str) -> dict[str, Any]:
    """The types of the fields; kept, because every look evaluates the text of each."""
    return get_type_hints(_KINDS[kind])
