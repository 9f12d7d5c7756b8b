"""One bolt without an engine: `BoltHarness`, and the clock that tests move. Exported by `testing`.

A harness builds a component as the engine does (`plan.compile_component`, `runtime.bolt_spec`), stands in for the
collector (`_attach`) and writes down what the component does. Everything happens in the calling thread and at once,
so a test reads the result in the next line. What users' code raises in `process` fails the tuple, as in a run, and is
logged; what hooks raise comes out of the call.

Not imitated: queues, groupings, backoff. `testing.complete` runs a whole topology on the real engine.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from . import aio
from ._core import Tuple
from .anatomy import mode_of
from .binding import WHOLE_TUPLE
from .checked import fingerprint
from .errors import EmitError, Reject, TopologyError
from .exact import safe_repr
from .plan import compile_component
from .recorder import Emission, Recorder
from .runtime import bolt_spec
from .yielded import emit_yielded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .binding import Binding
    from .component import Bolt

__all__ = ["BoltHarness", "Clock", "FailedTuple"]

_MISSING: Final[Any] = object()
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


class BoltHarness(Recorder):
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
        if mode_of(self.bolt) == "async":
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
            if self._spec.mode == "batch" and self._in_hand is not None:
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
