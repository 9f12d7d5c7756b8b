"""A sink that records what a component emits, acks and fails, for tests of connectors without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rainband import BatchBolt, Bolt, Spout, TaskContext, Tuple

if TYPE_CHECKING:
    from pathlib import Path


class Recorder:
    """What the engine would be told."""

    def __init__(self) -> None:
        self.emitted: list[tuple[str, tuple[Any, ...], Any, Any]] = []
        self.acked: list[Tuple] = []
        self.failed: list[tuple[Tuple, str, bool]] = []
        self.has_ended = False

    def emit(self, *values: Any, stream: str = "default", id: Any = None, position: Any = None) -> None:  # noqa: A002
        self.emitted.append((stream, values, id, position))

    def end(self) -> None:
        self.has_ended = True

    def ack(self, tup: Tuple) -> None:
        self.acked.append(tup)

    def fail(self, tup: Tuple, reason: str = "error", retry: bool = True) -> None:
        self.failed.append((tup, reason, retry))

    def values(self, stream: str = "default") -> list[Any]:
        """One-field values bare, others as tuples."""
        return [v[0] if len(v) == 1 else v for name, v, _, _ in self.emitted if name == stream]

    @property
    def positions(self) -> list[Any]:
        return [position for _, _, _, position in self.emitted]


def context(
    *,
    outputs: Iterable[str] | Mapping[str, Any] | None = None,
    tasks: int = 1,
    index: int = 0,
    position: Any = None,
    state_dir: Path | None = None,
    subscribed: Iterable[str] | None = ("default",),
) -> TaskContext:
    fields = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs or (), Any)
    return TaskContext(
        topology="t",
        component="part",
        task_id=index,
        task_index=index,
        tasks={"part": range(tasks)},
        position=position,
        state_dir=state_dir,
        streams={"default": fields} if outputs is not None else {},
        subscribed=None if subscribed is None else frozenset(subscribed),
    )


def run_spout(spout: Spout, ctx: TaskContext, *, limit: int | None = None) -> Recorder:
    """Open a spout and call it until it ends, or until it has emitted `limit` tuples."""
    recorder = Recorder()
    spout._attach(recorder)
    spout.open(ctx)
    try:
        while not recorder.has_ended and (limit is None or len(recorder.emitted) < limit):
            spout.next_tuple()
    finally:
        spout.close()
    return recorder


def attached(bolt: Bolt, ctx: TaskContext | None = None) -> Recorder:
    recorder = Recorder()
    bolt._attach(recorder)
    bolt.prepare(ctx or context())
    return recorder


def tuples(fields: str, *rows: Iterable[Any]) -> list[Tuple]:
    return [Tuple(tuple(row), tuple(fields.split())) for row in rows]


def write(bolt: BatchBolt, fields: str, *rows: Iterable[Any], ctx: TaskContext | None = None) -> Recorder:
    """Prepare a sink, give it one batch, close it."""
    recorder = attached(bolt, ctx)
    try:
        bolt.process_batch(tuples(fields, *rows))
    finally:
        bolt.close()
    return recorder
