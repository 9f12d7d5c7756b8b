"""Testing topologies and their parts: `BoltHarness`, `SpoutHarness`, `Clock`, and `complete` for a whole topology.

    harness = BoltHarness(Split)                         one bolt, no engine; see harness.py
    harness.process(line="a b")
    assert harness.emitted == ["a", "b"]

    result = complete(topology, spouts={"lines": ["a b a"]})
    assert sorted(result["count"]) == [("a", 1), ("a", 2), ("b", 1)]

`complete` runs on the real engine with threads, queues, acks and replays. What components emit is written down at the
emit (the hook of checked mode) and not by hidden bolts: those would take part in groupings, direct streams and back
pressure.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from .anatomy import dissect
from .component import Spout
from .errors import RunError
from .exact import safe_repr
from .harness import BoltHarness, Clock, FailedTuple
from .plan import compile_plan
from .problems import did_you_mean
from .recorder import Emission
from .run import Run
from .runtime import Runtime
from .spout_harness import SpoutHarness
from .yielded import emit_yielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .checked import Token
    from .component import TaskContext
    from .plan import CompiledPlan
    from .report import Report
    from .topology import Definition, Topology

__all__ = ["BoltHarness", "Clock", "Completed", "Emission", "FailedTuple", "SpoutHarness", "complete"]

_LISTED_PENDING: Final = 5


@dataclass(frozen=True, slots=True)
class Completed(Mapping[str, "list[Any]"]):
    """What a topology did: a mapping of `component` or `component.stream` to the values emitted there, in order.

    A tuple of one field is the value itself, of several a tuple. What is emitted again after a replay stands there
    again. A component that emitted nothing has an empty list.

    Attributes:
        emitted: the mapping.
        dead_letters: records of tuples that were given up: component stream values id reason error attempts at.
        report: the numbers.
    """

    emitted: Mapping[str, list[Any]]
    dead_letters: list[dict[str, Any]]
    report: Report

    def __getitem__(self, source: str) -> list[Any]:
        name = source.removesuffix(".default")
        if name not in self.emitted:
            hint = did_you_mean(name, list(self.emitted)) or f"there are {sorted(self.emitted)}"
            raise KeyError(f'nothing is called "{source}"; {hint}')
        return self.emitted[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.emitted)

    def __len__(self) -> int:
        return len(self.emitted)


def complete(
    topology: Topology,
    spouts: Mapping[str, Iterable[Any]] | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    checked: bool = True,
    timeout_s: float = 30.0,
) -> Completed:
    """Run a topology to its end and return all that was emitted. The topology itself is not changed.

    Args:
        topology: to run.
        spouts: for each spout to be replaced, the values it emits: of one field the value itself, of several a
            sequence, for
            another stream `to(stream, …)`. Each has an id and is replayed like any other. Spouts that are not named run
            as they are and have to end.
        config: settings that win over all others.
        checked: check declared types, and find values that are changed after they were emitted.
        timeout_s: for the whole run.

    Raises:
        TopologyError: the topology has mistakes.
        RunError: the run failed, or did not end in time; the text names what was pending.
        KeyError: `spouts` names what is no spout.

    Example:
        >>> from rainband import Topology, bolt, spout
        >>> @spout(outputs=["line"])
        ... def lines(): ...
        >>> @bolt(outputs=["word"])
        ... def split(line):
        ...     yield from line.split()
        >>> topology = Topology("example")
        >>> topology.spout("lines", lines)
        >>> topology.bolt("split", split, inputs="lines")
        >>> complete(topology, {"lines": ["a b", "c"]})["split"]
        ['a', 'b', 'c']
    """
    given = _with_given(topology, spouts or {})
    with tempfile.TemporaryDirectory(prefix="rainband-test-") as folder:
        plan = compile_plan(given, {"state_dir": folder, **(config or {}), "checked": True})
        runtime = _Capture(plan, is_checked=checked)
        running = Run(plan, runtime=runtime)
        report = running.wait(timeout_s)
        if report is None:
            raise _out_of_time(running, topology.name, timeout_s)
    return Completed(runtime.emitted, runtime.records, report)


def _out_of_time(running: Run, name: str, timeout_s: float) -> RunError:
    report = running.stop(now=True)
    pending = [f"{root.id!r} of {root.component}" for root in report.pending_roots[:_LISTED_PENDING]]
    more = f"; pending: {', '.join(pending)}" if pending else "; nothing is pending: a spout does not end"
    return RunError(f'topology "{name}" did not end within {timeout_s:g} s{more}', report=report)


def _with_given(topology: Topology, spouts: Mapping[str, Iterable[Any]]) -> Topology:
    known = [definition.name for definition in topology.definitions if definition.kind == "spout"]
    for name in spouts:
        if name not in known:
            raise KeyError(f'topology "{topology.name}" has no spout "{name}"; {did_you_mean(name, known) or known}')
    changed = copy.copy(topology)
    changed.definitions = [
        _given(definition, spouts[definition.name]) if definition.name in spouts else definition
        for definition in topology.definitions
    ]
    return changed


def _given(definition: Definition, values: Iterable[Any]) -> Definition:
    if isinstance(values, str | bytes):
        raise TypeError(f'spout "{definition.name}": expected a list of values, got {safe_repr(values, 80)}')
    anatomy, _ = dissect(definition)
    outputs, streams = definition.outputs, definition.streams
    if anatomy is None:
        return definition  # it has a mistake, which the check of the topology will tell
    return replace(
        definition,
        component=partial(_Given, list(values)),
        outputs=anatomy.outputs if outputs is None else outputs,
        streams=anatomy.streams if streams is None else streams,
        parallelism=1,
        tasks=None,
    )


class _Given(Spout):
    """Emits what a test gives, each value with its place as id."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows
        self.place = 0
        self.fields: dict[str, tuple[str, ...]] = {}

    def open(self, context: TaskContext, /) -> None:
        self.fields = {name: tuple(fields) for name, fields in context.streams.items()}

    def next_tuple(self) -> None:
        if self.place >= len(self.rows):
            self.end()
            return
        place, self.place = self.place, self.place + 1
        emit_yielded(partial(self.emit, id=place), self.fields, self.rows[place])


class _Capture(Runtime):
    """A runtime that writes down what is emitted and given up."""

    def __init__(self, plan: CompiledPlan, *, is_checked: bool) -> None:
        super().__init__(plan)
        self._is_checked = is_checked
        self._names = [component.name for component in plan.components]
        self.records: list[dict[str, Any]] = []
        self.emitted: dict[str, list[Any]] = {name: [] for name in self._names}
        for component in plan.components:
            self.emitted.update({_key(component.name, shape.name): [] for shape in component.streams})

    def check_emit(self, component: int, stream: str, values: tuple[Any, ...]) -> object | None:
        token = super().check_emit(component, stream, values) if self._is_checked else None
        self.emitted[_key(self._names[component], stream)].append(values[0] if len(values) == 1 else values)
        return token

    def check_receive(
        self, component: int, token: Token, values: tuple[Any, ...], when: Literal["before", "after"]
    ) -> None:
        if self._is_checked:
            super().check_receive(component, token, values, when)

    def dead_letter(self, record: Mapping[str, Any]) -> None:
        super().dead_letter(record)
        self.records.append(dict(record))


def _key(component: str, stream: str) -> str:
    return component if stream == "default" else f"{component}.{stream}"
