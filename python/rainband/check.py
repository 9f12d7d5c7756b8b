"""Finds every mistake of a topology, before anything of it is built, and gives what plan.py needs of a good one.

`check` looks in four steps, each of which goes on after a mistake: the settings; each component by itself (anatomy.py);
the inputs of each bolt, now that all streams are known; the graph as a whole. A mistake is told once: what hangs on
something already found wrong is left out. Texts stand in problems.py. Nothing of the user's runs here except the
evaluation of annotations.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import config, grouping
from . import problems as say
from . import wiring_problems as wiring
from .anatomy import Anatomy, dissect
from .binding import WHOLE_TUPLE, Binding
from .component import Stream
from .cycles import torn_cycles
from .errors import Problem, TopologyError
from .grouping import Grouping

if TYPE_CHECKING:
    from .topology import Definition, Topology

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
DEAD_LETTER_STREAM = "dead_letter"
DEAD_LETTER_FIELDS: dict[str, Any] = {
    "component": str,
    "stream": str,
    "values": None,
    "id": None,
    "reason": str,
    "error": str,
    "attempts": int,
    "at": float,
}
"""Fields of the stream that every spout has for those who subscribe to it."""


@dataclass(frozen=True, slots=True)
class StreamShape:
    """A stream as its declaration says: fields with their types, None where none is declared."""

    name: str
    fields: Mapping[str, Any]
    direct: bool = False
    pickle: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """One stream that a bolt receives."""

    component: str
    stream: StreamShape
    grouping: Grouping
    binding: Binding


@dataclass(slots=True, eq=False)
class Part:
    """A component with all that was found out about it."""

    definition: Definition
    anatomy: Anatomy | None
    problems: list[Problem] = field(default_factory=list)
    parallelism: int = 1
    tasks: int = 1
    streams: dict[str, StreamShape] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    own_settings: dict[str, Any] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.definition.name

    @property
    def where(self) -> str:
        """The component as texts name it."""
        return self.definition.where


@dataclass(frozen=True, slots=True)
class Checked:
    """A topology without mistakes."""

    parts: list[Part]
    settings: dict[str, Any]


def check(topology: Topology, overrides: Mapping[str, Any] | None = None) -> Checked:
    """What a plan needs of a topology, if it has no mistake.

    Args:
        topology: as recorded.
        overrides: settings of this run, which win over all others; `component.key` sets one of a component.

    Raises:
        TopologyError: there are mistakes; `problems` lists them all.

    Example:
        >>> from rainband import Topology
        >>> topology = Topology("2 fast")
        >>> topology.spout("lines", 5)
        >>> try:
        ...     check(topology)
        ... except TopologyError as error:
        ...     print([problem.code for problem in error.problems])
        ['bad_name', 'not_a_component']
    """
    where = f'topology "{topology.name}"'
    found = _name(where, "name of a topology", topology.name)
    parts = [_part(definition) for definition in topology.definitions]
    settings, problems = _settings(where, topology, parts, overrides)
    found += problems
    first: dict[str, Part] = {}
    for part in parts:
        # A name that is no string may not even be hashable; it is a mistake that was told already.
        known = first.setdefault(str(part.name), part)
        if known is not part:
            part.problems.insert(0, say.duplicate_name(part.where, known.definition.kind))
    for part in parts:
        if part.definition.kind == "bolt":
            _inputs(part, first)
    for part in parts:
        _settings_that_clash(part, first)
    found += [problem for part in parts for problem in part.problems]
    found += _graph(where, parts)
    found += _workers(parts, settings["workers"])
    if found:
        raise TopologyError.listing(where, say.join(found))
    return Checked(parts, settings)


def check_component(definition: Definition, overrides: Mapping[str, Any] | None = None) -> Part:
    """One component without a topology, for test harnesses: everything but its inputs.

    Raises:
        TopologyError: there are mistakes.

    Example:
        >>> from rainband import bolt
        >>> from rainband.topology import Definition
        >>> @bolt(outputs=["word"])
        ... def split(line): ...
        >>> part = check_component(Definition("bolt", "split", split))
        >>> list(part.streams), part.settings["max_attempts"]
        (['default'], 5)
    """
    part = _part(definition)
    layer, problems = config.check_layer(overrides, part.where, "topology")
    _merge(part, {}, {key: layer[key] for key in layer if key in config.COMPONENT_KEYS})
    _settings_that_clash(part, {})
    if found := [*part.problems, *problems]:
        raise TopologyError.listing(part.where, say.join(found))
    return part


def _name(where: str, what: str, name: object) -> list[Problem]:
    good = isinstance(name, str) and NAME.fullmatch(name)
    return [] if good else [say.bad_name(where, what, name)]


def _part(definition: Definition) -> Part:
    where = definition.where
    anatomy, found = dissect(definition)
    part = Part(definition, anatomy, _name(where, f"name of a {definition.kind}", definition.name) + found)
    part.parallelism = _count(part, "parallelism", definition.parallelism, 1)
    tasks = definition.tasks
    part.tasks = part.parallelism if tasks is None else _count(part, "tasks", tasks, part.parallelism)
    part.streams = _streams(part)
    reads_everything = anatomy and anatomy.kind == "spout" and anatomy.function and not anatomy.context_parameter
    if anatomy and reads_everything and part.tasks > 1:
        part.problems.append(say.shared_source(where, anatomy.name, part.tasks))
    return part


def _count(part: Part, key: str, value: object, least: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    reason = ", one for each executor" if least > 1 else ""
    part.problems.append(say.bad_count(part.where, key, least, value, reason))
    return least


# Streams.


def _streams(part: Part) -> dict[str, StreamShape] | None:
    """The streams of a component; None if they are not known."""
    anatomy, definition, where = part.anatomy, part.definition, part.where
    if anatomy is None and definition.outputs is None and definition.streams is None:
        return None
    outputs = definition.outputs if definition.outputs is not None else anatomy.outputs if anatomy else ()
    streams = definition.streams if definition.streams is not None else anatomy.streams if anatomy else {}
    before = len(part.problems)
    shapes: dict[str, StreamShape] = {}
    fields = _fields(part, "default", outputs)
    if fields:
        shapes["default"] = StreamShape("default", fields)
    if not isinstance(streams, Mapping):
        part.problems.append(wiring.bad_streams(where, streams))
        return None
    for name, value in streams.items():
        wrong = _name(where, "name of a stream", name)
        if name == DEAD_LETTER_STREAM:
            wrong.append(wiring.reserved_stream(where))
        if name in shapes:
            wrong.append(wiring.duplicate_stream(where))
        part.problems += wrong
        stream = value if isinstance(value, Stream) else Stream(value)
        fields = _fields(part, str(name), stream.fields)
        if fields is not None and not wrong:
            shapes[name] = StreamShape(name, fields, bool(stream.direct), bool(stream.pickle))
    if len(part.problems) > before:
        return None
    if not shapes and definition.kind == "spout" and anatomy is not None and (anatomy.cls or anatomy.function):
        part.problems.append(wiring.no_outputs(where, anatomy.name))
        return None
    return shapes


def _fields(part: Part, stream: str, value: object) -> dict[str, Any] | None:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | Mapping):
        part.problems.append(wiring.bad_fields(part.where, stream, value))
        return None
    fields: dict[str, Any] = {}
    for name in value:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name == "tup":
            part.problems.append(wiring.bad_field(part.where, stream, name))
        elif name in fields:
            part.problems.append(wiring.duplicate_field(part.where, stream, name))
        else:
            fields[name] = value[name] if isinstance(value, Mapping) else None
    return fields


# Settings.


def _settings(
    where: str, topology: Topology, parts: list[Part], overrides: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[Problem]]:
    common, found = config.check_layer(topology.config, f"{where}, config", "topology")
    run = "config of run"
    names = [part.name for part in parts]
    single: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        component, dot, name = str(key).rpartition(".")
        if dot and component not in names:
            found.append(say.unknown_setting_component(run, key, component, names))
        elif dot:
            single.setdefault(component, {})[name] = value
        else:
            plain[key] = value
    winning, wrong = config.check_layer(plain, run, "topology")
    found += wrong
    own = topology.config if isinstance(topology.config, Mapping) else {}
    if "transport" not in {*own, *plain}:  # where one is chosen, be it "ipc", `bind` may be meant for another run
        layers = ((f"{where}, config", common), (run, winning))
        found += [say.bind_without_tcp(place, layer["bind"]) for place, layer in layers if "bind" in layer]
    for part in parts:
        own, wrong = config.check_layer(single.get(str(part.name)), f"{run}, {part.where}", "component")
        found += wrong
        _merge(part, common, {k: v for k, v in winning.items() if k in config.COMPONENT_KEYS}, own)
    merged = config.defaults("topology") | {k: v for k, v in {**common, **winning}.items() if k in config.TOPOLOGY_KEYS}
    return merged, found


def _merge(
    part: Part, common: Mapping[str, Any], winning: Mapping[str, Any], single: Mapping[str, Any] | None = None
) -> None:
    """Put the layers of a component together."""
    anatomy = part.anatomy
    attributes: Mapping[str, Any] = anatomy.attributes if anatomy else {}
    where = part.where
    if anatomy and anatomy.cls:
        # What has a __get__ is a method, property or slot of the user's own that happens to have the name of a setting.
        own = {k: attributes[k] for k in config.COMPONENT_KEYS if k in attributes}
        attributes = {k: v for k, v in own.items() if not hasattr(type(v), "__get__")}
        where = f"{part.where}, class {anatomy.name}"
    elif anatomy and anatomy.function:
        where = f"{part.where}, @{anatomy.kind} of {anatomy.name}"
    of_class, found = config.check_layer(attributes, where, "component")
    part.problems += found
    of_wiring, found = config.check_layer(part.definition.config, f"{part.where}, config", "component")
    part.problems += found
    below = config.defaults("component") | {k: v for k, v in common.items() if k in config.COMPONENT_KEYS}
    part.own_settings = of_class | of_wiring | dict(single or {})
    part.settings = {**below, **of_class, **of_wiring, **winning, **(single or {})}


def _settings_that_clash(part: Part, named: Mapping[str, Part]) -> None:
    anatomy, settings, where = part.anatomy, part.settings, part.where
    if anatomy is None or anatomy.hooks is None:
        return
    interval = part.own_settings.get("tick_interval_s")
    if "tick" in anatomy.hooks and settings["tick_interval_s"] is None:
        part.problems.append(say.tick_without_interval(where, anatomy.name))
    if "tick" not in anatomy.hooks and interval is not None:
        part.problems.append(say.interval_without_tick(where, anatomy.name, interval))
    if anatomy.kind == "spout" and anatomy.function is not None:
        wanted = part.own_settings.get("on_error", "stop")
        if wanted != "stop":
            part.problems.append(say.generator_on_error(where, wanted))
        settings["on_error"] = "stop"
    if anatomy.mode == "batch":
        if not settings["auto_ack"]:
            part.problems.append(say.batch_manual_ack(where, anatomy.name))
        _batch_that_never_fills(part, named)


def _batch_that_never_fills(part: Part, named: Mapping[str, Part]) -> None:
    """Only for batches fed by spouts alone: a bolt between them may emit any number of tuples for a root."""
    sources = {entry.component: named[entry.component] for entry in part.inputs}
    if not sources or any(source.definition.kind != "spout" for source in sources.values()):
        return
    pending = sum(source.settings["max_pending"] * source.tasks for source in sources.values())
    if part.settings["batch_size"] > pending:
        part.problems.append(say.batch_never_fills(part.where, part.settings["batch_size"], pending))


def _workers(parts: list[Part], workers: int) -> list[Problem]:
    """What is wrong with `on_workers`; with one worker there is nothing to choose."""
    pins = {i: part.settings["on_workers"] for i, part in enumerate(parts) if part.settings.get("on_workers")}
    if workers == 1 or not pins:
        return []
    wrong = [i for i, pin in pins.items() if max(pin) >= workers]
    found = [say.no_such_worker(parts[i].where, pins[i], workers) for i in wrong]
    index = {part.name: i for i, part in enumerate(parts)}
    inputs = [[index[entry.component] for entry in part.inputs] for part in parts]
    for own in torn_cycles(inputs, pins):
        first = next(iter(own))
        found.append(say.torn_cycle(parts[first].where, {parts[i].name: list(pin) for i, pin in own.items()}))
    return found


# Inputs.


def _inputs(part: Part, named: Mapping[str, Part]) -> None:
    given = part.definition.inputs
    others = [name for name in named if name != part.name]
    if given is None or (isinstance(given, str | Sequence | Mapping) and not given):
        part.problems.append(wiring.no_inputs(part.where, others))
        return
    if isinstance(given, str):
        pairs: list[tuple[Any, Any]] = [(given, grouping.shuffle())]
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Sequence):
        pairs = [(source, grouping.shuffle()) for source in given]
    else:
        part.problems.append(wiring.bad_inputs(part.where, given))
        return
    seen: set[tuple[str, str]] = set()
    for source, how in pairs:
        names = source.split(".") if isinstance(source, str) else []
        if len(names) not in (1, 2) or not all(map(NAME.fullmatch, names)):
            part.problems.append(wiring.bad_source(part.where, source))
            continue
        component, stream = names[0], names[1] if len(names) > 1 else "default"
        if (component, stream) in seen:
            part.problems.append(wiring.duplicate_source(part.where, source))
            continue
        seen.add((component, stream))
        _input(part, named, component, stream, how)


def _input(part: Part, named: Mapping[str, Part], component: str, stream: str, how: Any) -> None:
    label = component if stream == "default" else f"{component}.{stream}"
    source = named.get(component)
    if source is None:
        part.problems.append(wiring.unknown_component(part.where, component, list(named)))
        return
    found = _grouping(part.where, label, how)
    shape = _shape(source, stream)
    if shape is None and source.streams is not None:
        more = [DEAD_LETTER_STREAM] if source.definition.kind == "spout" else []
        found.append(wiring.unknown_stream(part.where, component, stream, [*source.streams, *more]))
    part.problems += found
    if shape is None:
        return
    binding = WHOLE_TUPLE
    if part.anatomy is not None and part.anatomy.parameters is not None:
        binding, wrong = part.anatomy.parameters.bind(shape.fields, part.where, label)
        part.problems += wrong
    if isinstance(how, Grouping) and not found:
        part.problems += _grouping_on(part.where, label, how, shape)
        part.inputs.append(Input(component, shape, how, binding))


def _shape(source: Part, stream: str) -> StreamShape | None:
    if source.definition.kind == "spout" and stream == DEAD_LETTER_STREAM:
        return StreamShape(stream, DEAD_LETTER_FIELDS)
    return (source.streams or {}).get(stream)


def _grouping(where: str, source: str, how: Any) -> list[Problem]:
    """What is wrong with a grouping whatever the stream is."""
    if not isinstance(how, Grouping):
        name = getattr(how, "__name__", "")
        if getattr(grouping, name, None) is how and callable(how):
            return [wiring.uncalled_grouping(where, source, name)]
        return [wiring.bad_grouping(where, source, how)]
    if how.kind == "custom":
        missing = [m for m in ("prepare", "choose") if not callable(getattr(how.chooser, m, None))]
        if isinstance(how.chooser, type) or missing:
            return [wiring.bad_chooser(where, source, how.chooser, missing[0] if missing else "choose")]
    if how.kind in {"fields", "partial_key"}:
        if not how.names:
            return [wiring.no_key(where, source, how.kind)]
        twice = [name for i, name in enumerate(how.names) if name in how.names[:i]]
        return [wiring.duplicate_key(where, source, name) for name in twice]
    return []


def _grouping_on(where: str, source: str, how: Grouping, shape: StreamShape) -> list[Problem]:
    """What is wrong with a grouping on this stream."""
    known = list(shape.fields)
    found = [wiring.unknown_key(where, source, name, known) for name in how.names if name not in known]
    if how.kind == "direct" and not shape.direct:
        found.append(wiring.not_direct(where, source))
    if how.kind != "direct" and shape.direct:
        found.append(wiring.only_direct(where, source, how.kind))
    return found


# The graph.


def _graph(where: str, parts: list[Part]) -> list[Problem]:
    if not any(part.definition.kind == "spout" for part in parts):
        return [say.no_spout(where)]
    # A bolt with a mistake in its inputs counts as reached: that mistake is told already.
    waiting = [part for part in parts if part.definition.kind == "bolt" and part.inputs and not part.problems]
    reached = {str(part.name) for part in parts if part not in waiting}
    while new := [part for part in waiting if any(entry.component in reached for entry in part.inputs)]:
        reached |= {part.name for part in new}
        waiting = [part for part in waiting if part not in new]
    return [say.unreachable_bolt(part.where, [entry.component for entry in part.inputs]) for part in waiting]
