"""One spout without an engine: `SpoutHarness`. Exported by `testing`; see harness.py for what a harness is.

Roots are counted by id here, so ids must be unique within a test. What the engine would do after a failure (retry,
dead letter, drop) is told by `fail`; nothing is emitted again by itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

from ._core import Failure, Verdict
from .component import DEAD_LETTER, retry
from .errors import EmitError
from .function import GeneratorSpout
from .plan import compile_component
from .recorder import Emission, Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .component import Spout

__all__ = ["SpoutHarness"]

_MISSING: Final[Any] = object()
_GENERATOR_WAIT_S: Final = 1.0  # for the helper thread of a spout function to have something


class SpoutHarness(Recorder):
    """One spout, no engine: ask it for tuples, ack and fail them, look at what it emitted.

    `open` runs before the first call.

    Args:
        component: a class, a partial of one, or a marked function, as for `Topology.spout`.
        position: `TaskContext.position`, as left by an earlier run.
        outputs: as for `Topology.spout`.
        streams: as for `Topology.spout`.
        config: settings of the component.
        checked: check declared types, and find values that are changed after they were emitted.
        state_dir: `TaskContext.state_dir`.

    Attributes:
        spout: the instance.
        ended: whether it has called `end`.
        pending: ids emitted and not resolved, in order.
        acked: ids.
        dead: ids that went to the dead letters.
        dropped: ids dropped by the spout's verdict.

    Example:
        >>> from functools import partial
        >>> from rainband import spout
        >>> @spout(outputs=["n"])
        ... def numbers(stop):
        ...     yield from range(stop)
        >>> harness = SpoutHarness(partial(numbers, 3))
        >>> harness.run()
        [0, 1, 2]
        >>> harness.ended, harness.pending
        (True, [])
    """

    def __init__(
        self,
        component: Any,
        *,
        position: Any = None,
        outputs: Any = None,
        streams: Any = None,
        config: Mapping[str, Any] | None = None,
        checked: bool = True,
        state_dir: Path | None = None,
    ) -> None:
        planned = compile_component("spout", component, name="spout", outputs=outputs, streams=streams, config=config)
        super().__init__(planned, checked=checked)
        self.ended = False
        self.pending: list[Any] = []
        self.acked: list[Any] = []
        self.dead: list[Any] = []
        self.dropped: list[Any] = []
        self._attempts: list[int] = []  # beside `pending`
        self._positions: list[list[Any]] = []  # [position, id, resolved] in order of emission
        self._given_position = position
        self._is_open = False
        self._opening = self._context(position, state_dir)
        self.spout: Spout = planned.build(self._opening)  # type: ignore[assignment]

    def open(self) -> None:
        """Run the spout's `open` now, if it has not run yet."""
        if not self._is_open:
            self._is_open = True
            self.spout._attach(self)  # noqa: SLF001 - what it is for
            self.spout.open(self._opening)

    def next(self) -> list[Any]:
        """Call `next_tuple` once; what it emitted to the stream "default".

        A spout function runs on a thread of its own; for it this waits up to a second until there is something.
        """
        self.open()
        before = len(self.emissions)
        limit = time.monotonic() + _GENERATOR_WAIT_S
        while True:
            self.spout.next_tuple()
            is_waiting = isinstance(self.spout, GeneratorSpout) and not self.ended and len(self.emissions) == before
            if not is_waiting or time.monotonic() >= limit:
                break
            time.sleep(0.001)
        self._look_back()
        return [emission.value for emission in self.emissions[before:] if emission.stream == "default"]

    def run(self, calls: int = 1_000_000) -> list[Any]:
        """Call `next_tuple` until the spout ends, ack each id as it comes, and return all of stream "default".

        Raises:
            AssertionError: it did not end within so many calls.
        """
        found: list[Any] = []
        for _ in range(calls):
            found += self.next()
            for identity in list(self.pending):
                self.ack(identity)
            if self.ended:
                return found
        raise AssertionError(f"the spout did not end within {calls} calls of next_tuple()")

    def ack(self, id: Any) -> None:  # noqa: A002 - the word of the contract
        """Resolve a root; calls the spout's `ack`."""
        self._resolve(id)
        self.acked.append(id)
        self.spout.ack(id)

    def fail(self, id: Any, reason: str = "error", *, error: str = "", component: str = "bolt") -> Verdict:  # noqa: A002
        """Fail the current attempt of a root; what the engine would do then: retry, dead letter or drop.

        Calls the spout's `fail`, and `dead` if the root is given up, as after `max_attempts`.
        """
        place = self._place(id)
        attempt = self._attempts[place]
        failure = Failure(reason=reason, component=component, attempt=attempt, error=error)
        verdict = self.spout.fail(id, failure) or retry()
        if verdict.kind == "retry" and attempt >= self._planned.config["max_attempts"]:
            verdict = DEAD_LETTER
        if verdict.kind == "retry":
            self._attempts[place] += 1
        elif verdict.kind == "drop":
            self._resolve(id)
            self.dropped.append(id)
        else:
            self._give_up(id, failure)
        return verdict

    def close(self) -> None:
        """Run the spout's `close`."""
        if self._is_open:
            self._is_open = False
            self.spout.close()

    @property
    def position(self) -> Any:
        """The position that a run would store now: the highest with everything at or before it resolved."""
        position = self._given_position
        for own, _, is_resolved in self._positions:
            if not is_resolved:
                break
            position = own
        return position

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what the spout calls --------------------------------------------------------------------------------------

    def emit(
        self,
        *values: Any,
        stream: str = "default",
        id: Any = _MISSING,  # noqa: A002 - the word of the contract
        position: Any = _MISSING,
        task: int | None = None,
    ) -> None:
        """Not for tests: what the spout's `emit` comes to."""
        if id is None:
            raise EmitError(f"{self._planned.where}: emit() with id=None; leave id= out for an untracked tuple")
        is_tracked = id is not _MISSING
        where = None if position is _MISSING else position
        self._record(Emission(stream, values, (), task, id if is_tracked else None, where))
        if is_tracked:
            self.pending.append(id)
            self._attempts.append(1)
        if position is not _MISSING:
            self._positions.append([position, id, not is_tracked])

    def end(self) -> None:
        """Not for tests: what the spout's `end` comes to."""
        self.ended = True

    # -- inside ----------------------------------------------------------------------------------------------------

    def _place(self, identity: Any) -> int:
        if identity not in self.pending:
            raise KeyError(f"no root with id {identity!r} is pending")
        return self.pending.index(identity)

    def _resolve(self, identity: Any) -> None:
        place = self._place(identity)
        del self.pending[place], self._attempts[place]
        for entry in self._positions:
            if entry[1] == identity and not entry[2]:
                entry[2] = True
                break

    def _give_up(self, identity: Any, failure: Failure) -> None:
        self._resolve(identity)
        self.dead.append(identity)
        self.spout.dead(identity, failure)
