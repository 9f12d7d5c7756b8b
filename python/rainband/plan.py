"""Compiles a checked topology into what runs: the plan dict of the core and, beside it, what only Python needs.

`compile_plan` is the one way from a `Topology` to an engine. `CompiledPlan.core` is passed to `_core.Engine` as it is;
components stand in definition order and task ids are dense over the run, so component 0 has 0..tasks and component 1
goes on from there. Back edges and cycles are found by the core. `plan_hash` is equal for equal plans in every process:
workers compare it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .check import Part, StreamShape, check, check_component
from .topology import Definition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .anatomy import Anatomy
    from .binding import Binding, Parameters
    from .component import Bolt, Spout, TaskContext
    from .grouping import Grouping
    from .topology import Topology


@dataclass(frozen=True, slots=True)
class InputPlan:
    """One stream that a component receives.

    Attributes:
        component: index of the emitting component.
        stream: with its fields and types.
        grouping: as the user wrote it.
        binding: where the arguments of `process` come from.
    """

    component: int
    stream: StreamShape
    grouping: Grouping
    binding: Binding


@dataclass(frozen=True, slots=True)
class ComponentPlan:
    """A component, ready to be built.

    Attributes:
        index: place in the definition order.
        name: as in the topology.
        kind: "spout" or "bolt".
        mode: "plain", "batch" or "async"; None for a factory, ask `anatomy.mode_of` what it built.
        parallelism: executors.
        tasks: instances.
        first_task: task id of the first of them.
        streams: every stream with its fields (name → declared type or None), a subscribed "dead_letter" included.
        inputs: of a bolt.
        config: every setting of the component with its value.
        anatomy: what the component is.
        hash: of all this, for comparing plans.
    """

    index: int
    name: str
    kind: str
    mode: str | None
    parallelism: int
    tasks: int
    first_task: int
    streams: tuple[StreamShape, ...]
    inputs: tuple[InputPlan, ...]
    config: Mapping[str, Any]
    anatomy: Anatomy
    hash: str = field(default="", compare=False)

    @property
    def where(self) -> str:
        """The component as texts name it."""
        return f'{self.kind} "{self.name}"'

    @property
    def task_ids(self) -> range:
        """The ids of its tasks."""
        return range(self.first_task, self.first_task + self.tasks)

    @property
    def bindings(self) -> dict[tuple[int, str], Binding]:
        """The binding of each input: (component index, stream name) → binding."""
        return {(entry.component, entry.stream.name): entry.binding for entry in self.inputs}

    @property
    def parameters(self) -> Parameters | None:
        """The parameters of `process`, for harnesses that bind them to other fields; None takes the whole tuple."""
        return self.anatomy.parameters

    def stream(self, name: str) -> StreamShape | None:
        """The stream of that name."""
        return next((shape for shape in self.streams if shape.name == name), None)

    def build(self, context: TaskContext) -> Spout | Bolt:
        """An instance for one task, on the thread that calls; `open` or `prepare` is not called.

        Raises:
            TopologyError: a factory built something that is no component of this kind, or the instance hides an engine
                method.
            Exception: whatever the user's constructor raises.
        """
        default = self.stream("default")
        return self.anatomy.build(self.where, context, tuple(default.fields) if default else ())


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """A topology, ready to run.

    Attributes:
        name: of the topology.
        components: in definition order.
        config: every topology-wide setting with its value.
        core: the plan dict that `_core.Engine` takes.
        plan_hash: equal for equal plans.

    Example:
        >>> from rainband import Topology, bolt, spout
        >>> @spout(outputs=["n"])
        ... def numbers(): ...
        >>> @bolt
        ... def show(n): ...
        >>> topology = Topology("t")
        >>> topology.spout("numbers", numbers)
        >>> topology.bolt("show", show, inputs="numbers", parallelism=2)
        >>> plan = compile_plan(topology)
        >>> plan.tasks
        {'numbers': range(0, 1), 'show': range(1, 3)}
        >>> plan.component("show").bindings
        {(0, 'default'): Binding(args=(0,), kwnames=())}
    """

    name: str
    components: tuple[ComponentPlan, ...]
    config: Mapping[str, Any]
    core: dict[str, Any]
    plan_hash: str

    @property
    def tasks(self) -> dict[str, range]:
        """The task ids of every component."""
        return {component.name: component.task_ids for component in self.components}

    def component(self, name: str) -> ComponentPlan:
        """The component of that name.

        Raises:
            KeyError: there is none.
        """
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(f'topology "{self.name}" has no component "{name}"')


def compile_plan(topology: Topology, overrides: Mapping[str, Any] | None = None) -> CompiledPlan:
    """Check a topology and compile it.

    Args:
        topology: as recorded.
        overrides: settings of this run, which win over all others; `component.key` sets one of a component.

    Raises:
        TopologyError: there are mistakes; `problems` lists them all.

    Example:
        >>> from rainband import Topology, spout
        >>> @spout(outputs=["n"])
        ... def numbers(): ...
        >>> topology = Topology("t")
        >>> topology.spout("numbers", numbers)
        >>> compile_plan(topology, {"max_pending": 7}).core["components"][0]["config"]["max_pending"]
        7
    """
    checked = check(topology, overrides)
    index = {part.name: i for i, part in enumerate(checked.parts)}
    components = []
    first_task = 0
    for i, part in enumerate(checked.parts):
        inputs = tuple(InputPlan(index[e.component], e.stream, e.grouping, e.binding) for e in part.inputs)
        components.append(_component(i, part, first_task, inputs, _dead_letters(part, checked.parts)))
        first_task += part.tasks
    core = {
        "name": topology.name,
        "components": [_core_component(component) for component in components],
        "config": {key: _plain(value) for key, value in checked.settings.items()},
    }
    plan_hash = _hash({"name": topology.name, "components": [component.hash for component in components]})
    return CompiledPlan(topology.name, tuple(components), MappingProxyType(checked.settings), core, plan_hash)


def compile_component(
    kind: str,
    component: Any,
    *,
    name: str = "component",
    outputs: Any = None,
    streams: Any = None,
    config: Mapping[str, Any] | None = None,
) -> ComponentPlan:
    """One component without a topology, for test harnesses. It has no inputs; bind `parameters` to what is at hand.

    Raises:
        TopologyError: there are mistakes.

    Example:
        >>> from rainband import bolt
        >>> @bolt(outputs=["word"])
        ... def split(line): ...
        >>> plan = compile_component("bolt", split)
        >>> plan.parameters.bind({"line": None}, plan.where, "test")[0].args
        (0,)
    """
    definition = Definition(kind, name, component, outputs=outputs, streams=streams, config=config)
    return _component(0, check_component(definition), 0, (), ())


def _dead_letters(part: Part, parts: list[Part]) -> tuple[StreamShape, ...]:
    """The stream of dead letters of a spout, if somebody subscribes to it."""
    declared = part.streams or {}
    entries = [entry for other in parts for entry in other.inputs if entry.component == part.name]
    return tuple({e.stream.name: e.stream for e in entries if e.stream.name not in declared}.values())


def _component(
    index: int, part: Part, first_task: int, inputs: tuple[InputPlan, ...], more: tuple[StreamShape, ...]
) -> ComponentPlan:
    assert part.anatomy is not None, "a part without anatomy has a problem"
    streams = (*(part.streams or {}).values(), *more)
    made = ComponentPlan(
        index,
        part.name,
        part.definition.kind,
        part.anatomy.mode,
        part.parallelism,
        part.tasks,
        first_task,
        streams,
        inputs,
        MappingProxyType(part.settings),
        part.anatomy,
    )
    object.__setattr__(made, "hash", _hash([_core_component(made), _code(part.definition.component)]))
    return made


def _core_component(component: ComponentPlan) -> dict[str, Any]:
    return {
        "name": component.name,
        "kind": component.kind,
        "parallelism": component.parallelism,
        "tasks": component.tasks,
        "streams": [
            # "pickle": what the codec refuses goes to other workers as a pickle and is read there; nowhere else.
            {"name": shape.name, "fields": list(shape.fields), "direct": shape.direct, "pickle": shape.pickle}
            for shape in component.streams
        ],
        "inputs": [
            {"component": entry.component, "stream": entry.stream.name, "grouping": _core_grouping(entry)}
            for entry in component.inputs
        ],
        "config": {key: _plain(value) for key, value in component.config.items()},
    }


def _core_grouping(entry: InputPlan) -> dict[str, Any]:
    fields = list(entry.stream.fields)
    how = entry.grouping
    return {"kind": how.kind, "fields": [fields.index(name) for name in how.names], "custom": how.chooser}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _code(component: Any) -> list[str]:
    """The code of a component, without what differs between processes: values of arguments that are not plain."""
    if isinstance(component, partial):
        arguments = [*enumerate(component.args), *sorted(component.keywords.items())]
        plain = [f"{k}={v!r}" for k, v in arguments if v is None or isinstance(v, bool | int | float | str)]
        return [*_code(component.func), *plain]
    name = getattr(component, "__qualname__", None) or type(component).__qualname__
    return [str(name)]


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=lambda other: type(other).__qualname__)
    return hashlib.sha256(text.encode()).hexdigest()
