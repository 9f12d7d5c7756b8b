"""One component without an engine: `BoltHarness`, `SpoutHarness` and the clock that tests move. Exported by `testing`.

A harness builds a component as the engine does (`plan.compile_component`, `runtime.bolt_spec`), stands in for the
collector (`_attach`) and writes down what the component does. Everything happens in the calling thread and at once, so
a test reads the result in the next line. What users' code raises in `process` fails the tuple, as in a run, and is
logged; what hooks raise comes out of the call.

Not imitated: queues, groupings, backoff. `testing.complete` runs a whole topology on the real engine.
"""

from __future__ import annotations

import inspect
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from . import aio
from ._core import Failure, Tuple, Verdict
from .binding import WHOLE_TUPLE
from .checked import Checker, fingerprint
from .component import DEAD_LETTER, TaskContext, retry
from .durable import safe_repr
from .errors import EmitError, Reject, TopologyError
from .function import GeneratorSpout
from .plan import compile_component
from .problems import did_you_mean
from .runtime import bolt_spec
from .yielded import emit_yielded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .binding import Binding
    from .check import StreamShape
    from .checked import Token
    from .component import Bolt, Spout
    from .plan import ComponentPlan

__all__ = ["BoltHarness", "Clock", "Emission", "FailedTuple", "SpoutHarness"]

_MISSING: Final[Any] = object()
_LOOKED_BACK: Final = 100  # emitted tuples that are looked at again for changes after each call
_GENERATOR_WAIT_S: Final = 1.0  # for the helper thread of a spout function to have something
_log = logging.getLogger("rainband.testing")


class Clock:
    """A clock that only a test moves.

    Example:
        >>> clock = Clock()
        >>> clock.advance(1.5)
        >>> clock()
        1.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Seconds since the clock was made, plus where it began."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Emission:
    """One call of `emit`.

    Attributes:
        stream: it went to.
        values: of the tuple.
        anchors: tuples that it belongs to; empty for roots and untracked tuples. Bolts only.
        task: chosen by the emitter of a direct stream, else None.
        id: the spout's, None if it gave none.
        position: the spout's, None if it gave none.
    """

    stream: str
    values: tuple[Any, ...]
    anchors: tuple[Tuple, ...] = ()
    task: int | None = None
    id: Any = None
    position: Any = None

    @property
    def value(self) -> Any:
        """The value itself of a tuple with one field, else all of them as a tuple."""
        return self.values[0] if len(self.values) == 1 else self.values


@dataclass(frozen=True, slots=True)
class FailedTuple:
    """A tuple that a bolt failed.

    Attributes:
        tup: the tuple.
        reason: "error" if `process` raised, "rejected" for `Reject`, else what the bolt gave.
        retry: whether it may be tried again.
        error: what was raised, if anything was.
    """

    tup: Tuple
    reason: str
    retry: bool = True
    error: BaseException | None = None


class _Recorder:
    """What both harnesses write down: emits, checked as the engine checks them."""

    def __init__(self, planned: ComponentPlan, *, checked: bool) -> None:
        self._planned = planned
        self._checker = Checker([planned]) if checked else None
        self._tokens: list[tuple[Token, tuple[Any, ...]]] = []
        self.emissions: list[Emission] = []

    @property
    def emitted(self) -> list[Any]:
        """The values emitted to the stream "default": of one field the value itself, of several a tuple."""
        return self.emitted_to("default")

    def emitted_to(self, stream: str) -> list[Any]:
        """The values emitted to a stream."""
        self._shape(stream)
        return [emission.value for emission in self.emissions if emission.stream == stream]

    def clear(self) -> None:
        """Forget what was emitted so far."""
        self.emissions.clear()

    def _shape(self, stream: str) -> StreamShape:
        shape = self._planned.stream(stream)
        if shape is None:
            known = [shape.name for shape in self._planned.streams]
            hint = did_you_mean(stream, known) or f"it has {known}"
            raise EmitError(f'{self._planned.where}: no stream "{stream}"; {hint}')
        return shape

    def _record(self, emission: Emission) -> None:
        where, shape, values = self._planned.where, self._shape(emission.stream), emission.values
        if len(values) != len(shape.fields):
            fields = ", ".join(shape.fields)
            raise EmitError(
                f'{where} stream "{shape.name}": emit() of {len(values)} values, expected the {len(shape.fields)} '
                f"fields {fields}"
            )
        if shape.direct is not (emission.task is not None):
            fix = "give task=" if shape.direct else "declare it with Stream(…, direct=True)"
            raise EmitError(
                f'{where} stream "{shape.name}": {"direct" if shape.direct else "task= but not direct"}; {fix}'
            )
        if self._checker is not None:
            token = self._checker.emit(0, shape.name, values)
            if token is not None:
                self._tokens.append((token, values))
        self.emissions.append(emission)

    def _look_back(self) -> None:
        if self._checker is None:
            return
        del self._tokens[:-_LOOKED_BACK]
        for token, values in self._tokens:
            self._checker.receive(0, token, values, "before")

    def _context(self, position: Any, state_dir: Path | None) -> TaskContext:
        planned = self._planned
        return TaskContext(
            topology="test",
            component=planned.name,
            config=planned.config,
            position=position,
            state_dir=state_dir,
            tasks={planned.name: range(1)},
            streams={s.name: {f: Any if t is None else t for f, t in s.fields.items()} for s in planned.streams},
        )


class BoltHarness(_Recorder):
    """One bolt, no engine: call it, then look at what it emitted, acked and failed.

    Plain, generator, `async` and batch bolts, marked functions, manual acks. `prepare` runs before the first call.

    Args:
        component: a class, a partial of one, or a marked function, as for `Topology.bolt`.
        fields: names of the input's fields, for `process` with positional values; keywords name their own.
        outputs: as for `Topology.bolt`.
        streams: as for `Topology.bolt`.
        config: settings of the component.
        checked: check declared types, and find values that are changed after they were received or emitted.
        state_dir: `TaskContext.state_dir`.

    Attributes:
        bolt: the instance.
        clock: moved by `advance`.
        acked: tuples, in order.
        failed: failed tuples with reason and error, in order.
        emissions: everything emitted, with stream and anchors.

    Example:
        >>> from rainband import Bolt
        >>> class Split(Bolt):
        ...     outputs = ["word"]
        ...     def process(self, line: str):
        ...         yield from line.split()
        >>> harness = BoltHarness(Split)
        >>> tup = harness.process(line="a b")
        >>> harness.emitted, harness.acked == [tup], harness.failed
        (['a', 'b'], True, [])
    """

    def __init__(
        self,
        component: Any,
        *,
        fields: Sequence[str] | None = None,
        outputs: Any = None,
        streams: Any = None,
        config: Mapping[str, Any] | None = None,
        checked: bool = True,
        state_dir: Path | None = None,
    ) -> None:
        planned = compile_component("bolt", component, name="bolt", outputs=outputs, streams=streams, config=config)
        super().__init__(planned, checked=checked)
        self.clock = Clock()
        self.acked: list[Tuple] = []
        self.failed: list[FailedTuple] = []
        self._fields = tuple(fields) if fields is not None else None
        self._bindings: dict[tuple[str, ...], Binding] = {}
        self._open_tuples: dict[int, Tuple] = {}  # by id(), handed to the bolt and not settled
        self._in_hand: Tuple | None = None
        self._is_prepared = self._is_batch_running = False
        self._ticked_at = 0.0
        context = self._context(None, state_dir)
        self.bolt: Bolt = planned.build(context)  # type: ignore[assignment]
        # The core gives `_fail_with` to real tasks; it keeps the exception, which `fail` cannot.
        vars(self.bolt)["_fail_with"] = self._fail_with
        self._spec = bolt_spec(self.bolt, context, planned, clock=self.clock)
        self._auto_ack = self._spec.auto_ack
        self._async: aio.AsyncTask | None = None
        if planned.mode == "async":
            self._async = aio.install(
                self._spec,
                self.bolt,
                task_id=id(self),
                concurrency=planned.config["concurrency"],
                binding_of=self._binding_of,
                streams={shape.name: tuple(shape.fields) for shape in planned.streams},
                on_raise=self._log_raised,
            )

    # -- what tests call -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Run the bolt's `prepare` now, if it has not run yet."""
        if not self._is_prepared:
            self._is_prepared = True
            self.bolt._attach(self)  # noqa: SLF001 - what it is for
            self._spec.open()

    def process(self, *values: Any, **named: Any) -> Tuple:
        """Hand one tuple to the bolt and return it: named values, values of the declared `fields`, or a `Tuple`.

        What `process` raises fails the tuple; see `failed`.

        Raises:
            TopologyError: a parameter of `process` has no such field.
        """
        self.prepare()
        tup = self._tuple(values, named)
        self._open_tuples[id(tup)] = tup
        before = fingerprint(tup.values) if self._checker is not None else 0
        self._binding_of(tup)
        try:
            self._call(tup)
            if self._checker is not None and fingerprint(tup.values) != before:
                raise EmitError(  # noqa: TRY301 - a fault of the bolt, as any other
                    f"bolt changed a value of the tuple it received, now {safe_repr(tup.values, 200)}; work on a copy"
                )
            self._look_back()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it fails the tuple, as in a run
            self._log_raised("process", error)
            if id(tup) in self._open_tuples:
                self._fail_with(tup, error)
        else:
            if self._auto_ack and self._async is None and id(tup) in self._open_tuples:
                self.ack(tup)
        finally:
            self._in_hand = None
        return tup

    def tick(self) -> None:
        """Run the bolt's `tick`."""
        self._run_hook("tick")

    def flush(self) -> None:
        """Say that no fresh input will come; a batch bolt runs what it holds."""
        self._run_hook("flush")

    def finish(self) -> None:
        """Say that all input has ended."""
        self._run_hook("finish")

    def close(self) -> None:
        """Run the bolt's `close`; nothing may be called after it."""
        if self._is_prepared:
            self._is_prepared = False
            if self._spec.close is not None:
                self._spec.close()

    def advance(self, seconds: float) -> None:
        """Let time pass: ticks that fall due run, and a batch whose interval is over."""
        self.prepare()
        interval = self._planned.config["tick_interval_s"]
        end = self.clock.now + seconds
        while interval is not None and self._ticked_at + interval <= end:
            self._ticked_at += interval
            self._move_to(self._ticked_at)
            self.tick()
        self._move_to(end)

    @property
    def held(self) -> list[Tuple]:
        """Tuples that the bolt got and neither acked nor failed."""
        return list(self._open_tuples.values())

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what the bolt calls ---------------------------------------------------------------------------------------

    def emit(self, *values: Any, stream: str = "default", anchors: Any = _MISSING, task: int | None = None) -> None:
        """Not for tests: what the bolt's `emit` comes to."""
        if anchors is _MISSING:
            if self._planned.mode == "batch" and self._in_hand is not None:
                raise EmitError(f"{self._planned.where}: emit() in process_batch() needs anchors=, the tuples it is of")
            anchors = () if self._in_hand is None else (self._in_hand,)
        elif isinstance(anchors, Tuple):
            anchors = (anchors,)
        for anchor in anchors:
            if id(anchor) not in self._open_tuples:
                raise EmitError(f"{self._planned.where}: emit() anchored to a tuple that was acked or failed already")
        self._record(Emission(stream, values, tuple(anchors), task))

    def ack(self, tup: Tuple) -> None:
        """Not for tests: what the bolt's `ack` comes to. A second one is ignored."""
        if self._open_tuples.pop(id(tup), None) is not None:
            self.acked.append(tup)

    def fail(self, tup: Tuple, reason: str = "error", retry: bool = True) -> None:
        """Not for tests: what the bolt's `fail` comes to."""
        if self._open_tuples.pop(id(tup), None) is not None:
            self.failed.append(FailedTuple(tup, reason, retry))

    def reset_timeout(self, tup: Tuple) -> None:
        """Not for tests: what the bolt's `reset_timeout` comes to; nothing times out here."""

    # -- inside ----------------------------------------------------------------------------------------------------

    def _tuple(self, values: tuple[Any, ...], named: dict[str, Any]) -> Tuple:
        if len(values) == 1 and not named and isinstance(values[0], Tuple):
            return values[0]
        if values and self._fields is None:
            raise TypeError("process() takes values by name, or give BoltHarness(…, fields=[…])")
        fields = (*(self._fields or ())[: len(values)], *named)
        if len(values) > len(self._fields or ()):
            raise TypeError(f"process() of {len(values)} values, but the harness has fields {list(self._fields or ())}")
        return Tuple((*values, *named.values()), fields, "source")

    def _binding_of(self, tup: Tuple) -> Binding:
        binding = self._bindings.get(tup.fields)
        if binding is None:
            binding = WHOLE_TUPLE
            if self._planned.parameters is not None:
                types = dict.fromkeys(tup.fields)
                binding, problems = self._planned.parameters.bind(types, self._planned.where, tup.component or "source")
                if problems:
                    raise TopologyError(str(problems[0]), problems)
            self._bindings[tup.fields] = binding
        return binding

    def _call(self, tup: Tuple) -> None:
        if self._async is not None:
            self._async.run_one(tup)
            return
        assert self._spec.process is not None  # only async tasks have none
        self._in_hand = tup
        args, named = aio.arguments(self._binding_of(tup), tup)
        self._consume(self._spec.process(*args, **named))

    def _consume(self, returned: object) -> None:
        if returned is None:
            return
        if not inspect.isgenerator(returned):
            returned = aio.settle(returned)
        streams = {shape.name: tuple(shape.fields) for shape in self._planned.streams}
        for value in returned or ():
            emit_yielded(self.bolt.emit, streams, value)

    def _run_hook(self, name: str) -> None:
        self.prepare()
        hook: Callable[[], object] | None = getattr(self._spec, name)
        if hook is not None:
            self._consume(hook())
        if self._async is not None:
            self._async.run_ticks()
        self._look_back()

    def _move_to(self, now: float) -> None:
        self.clock.now = now
        if self._spec.timer is not None:
            try:
                self._spec.timer()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the batch has failed its tuples
                self._log_raised("process_batch", error)

    def _fail_with(self, tup: Tuple, error: BaseException) -> None:
        if self._open_tuples.pop(id(tup), None) is not None:
            is_reject = isinstance(error, Reject)
            self.failed.append(FailedTuple(tup, "rejected" if is_reject else "error", not is_reject, error))

    def _log_raised(self, where: str, error: BaseException) -> None:
        _log.error("%s: %s() raised %r", self._planned.name, where, error, exc_info=error)


class SpoutHarness(_Recorder):
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
