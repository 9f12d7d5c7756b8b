"""Every mistake of `check()` with its exact text, and that none of `problems.CODES` goes without.

A case is a topology with mistakes; the decorator holds the texts of all problems that it must give, in order.
"""

from __future__ import annotations

import abc
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from rainband import BatchBolt, Bolt, Spout, Stream, TaskContext, Topology, TopologyError, Tuple, bolt, grouping, spout
from rainband.check import check, check_component
from rainband.plan import compile_plan
from rainband.problems import CODES
from rainband.topology import Definition

if TYPE_CHECKING:
    from rainband.errors import Problem

Case = tuple[Topology, Mapping[str, Any] | None]
CASES: dict[str, tuple[Callable[[], Case], list[str]]] = {}


def mistakes(*texts: str) -> Callable[[Callable[[], Topology | Case]], None]:
    """Record a case: the topology must have exactly these problems."""

    def record(make: Callable[[], Topology | Case]) -> None:
        def case() -> Case:
            made = make()
            return made if isinstance(made, tuple) else (made, None)

        CASES[make.__name__] = (case, list(texts))

    return record


class Lines(Spout):
    outputs = ["line"]

    def next_tuple(self) -> None: ...


class Split(Bolt):
    outputs = ["word"]

    def process(self, line: Any) -> None: ...


def with_spout(component: Any, **wiring: Any) -> Topology:
    topology = Topology("t")
    topology.spout("s", component, **wiring)
    return topology


def with_bolt(*components: Any, **wiring: Any) -> Topology:
    """A spout `lines` and the bolts b, c, d, … behind it."""
    topology = Topology("t")
    topology.spout("lines", Lines)
    for name, component in zip("bcdefg", components, strict=False):
        topology.bolt(name, component, **{"inputs": "lines", **wiring})
    return topology


def with_inputs(*inputs: Any) -> Topology:
    """A spout `lines` and bolts b, c, d, … with these inputs."""
    topology = Topology("t")
    topology.spout("lines", Lines)
    for name, given in zip("bcdefg", inputs, strict=False):
        topology.bolt(name, Split, inputs=given)
    return topology


def spout_class(**attributes: Any) -> Any:
    return type("Source", (Spout,), {"outputs": ["n"], "next_tuple": lambda self: None, **attributes})


def bolt_class(**attributes: Any) -> Any:
    return type("Step", (Bolt,), {"process": lambda self, line: None, **attributes})


def batch_class(**attributes: Any) -> Any:
    return type("Store", (BatchBolt,), {"process_batch": lambda self, tuples: None, **attributes})


def numbers(stop: int) -> Iterator[int]:
    yield from range(stop)


def lines_of(path: str, *, encoding: str) -> Iterator[str]:
    yield path + encoding


@spout(outputs=["n"])
def marked(stop: int) -> Iterator[int]:
    yield from range(stop)


def make_split() -> Split:
    return Split()


def problems_of(topology: Topology, overrides: Mapping[str, Any] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(TopologyError) as caught:
        check(topology, overrides)
    return caught.value.problems


@mistakes(
    'topology "2 fast": bad name of a topology; expected letters, digits, _ and -, beginning with a '
    "letter, got '2 fast'; for example \"word-count\"",
    'spout "a b": bad name of a spout; expected letters, digits, _ and -, beginning with a letter, got \'a'
    ' b\'; for example "word-count"',
    "spout \"__x\": names that begin with __ are reserved (name of a spout); expected another name, got '__x'",
    'spout "c": bad name of a stream; expected letters, digits, _ and -, beginning with a letter, got \'no'
    ' no\'; for example "word-count"',
    "spout \"['list']\": bad name of a spout; expected letters, digits, _ and -, beginning with a letter, "
    "got ['list']; for example \"word-count\"",
)
def bad_name() -> Topology:
    topology = Topology("2 fast")
    topology.spout("a b", Lines)
    topology.spout("__x", Lines)
    topology.spout("c", Lines, streams={"no no": ["a"]})
    topology.spout(["list"], Lines)  # type: ignore[arg-type]
    return topology


@mistakes(
    'bolt "lines": the name is taken by a spout defined before it; choose another name for one of them',
)
def duplicate_name() -> Topology:
    topology = with_bolt(Split)
    topology.bolt("lines", Split, inputs="lines")
    return topology


@mistakes(
    'topology "t": it has no spout; add one: topology.spout("source", Source)',
)
def no_spout() -> Topology:
    return Topology("t")


@mistakes(
    'bolt "a": no spout feeds it: what it takes ("b", "a") comes only from a loop; add an input that '
    "leads back to a spout",
    'bolt "b": no spout feeds it: what it takes ("a") comes only from a loop; add an input that leads back to a spout',
)
def unreachable_bolt() -> Topology:
    topology = with_spout(Lines)
    topology.bolt("a", bolt_class(outputs=["line"]), inputs=["b", "a"])
    topology.bolt("b", bolt_class(outputs=["line"]), inputs="a")
    return topology


@mistakes(
    'bolt "b": bad parallelism; expected a whole number of at least 1, got 0',
    'bolt "c": bad tasks; expected a whole number of at least 4, one for each executor, got 2',
    'bolt "d": bad parallelism; expected a whole number of at least 1, got True',
    "bolt \"e\": bad parallelism; expected a whole number of at least 1, got '2'",
)
def bad_count() -> Topology:
    topology = with_bolt(Split, parallelism=0)
    topology.bolt("c", Split, inputs="lines", parallelism=4, tasks=2)
    topology.bolt("d", Split, inputs="lines", parallelism=True)
    topology.bolt("e", Split, inputs="lines", parallelism="2")  # type: ignore[arg-type]
    return topology


@mistakes(
    'topology "t", config: "bind" does not count; expected transport "tcp" with it, got \'10.0.0.1\'; '
    'add transport "tcp", or leave it out',
    'config of run: "bind" does not count; expected transport "tcp" with it, got \'::1\'; '
    'add transport "tcp", or leave it out',
)
def bind_without_tcp() -> Case:
    topology = with_bolt(Split)
    topology.config = {"bind": "10.0.0.1"}
    return topology, {"bind": "::1"}


def test_bind_may_wait_for_its_transport() -> None:
    topology = with_bolt(Split)
    topology.config = {"transport": "tcp", "bind": "10.0.0.1"}
    assert check(topology, {"transport": "ipc"}).settings["bind"] == "10.0.0.1"
    topology.config = {"bind": "10.0.0.1"}
    assert check(topology, {"transport": "tcp"}).settings["transport"] == "tcp"


@mistakes('bolt "b": bad on_workers; expected workers 0 to 1, got [0, 2]; workers are numbered from 0')
def no_such_worker() -> Case:
    return with_bolt(Split, config={"on_workers": [0, 2]}), {"workers": 2}


@mistakes(
    'bolt "b": it is part of a cycle, and a cycle ends by counting inside one process; expected one worker, the same '
    'for all components of the cycle, got "b" on [0], "c" on [1]; give on_workers with one number to one of them',
)
def torn_cycle() -> Case:
    class Echo(Bolt):
        outputs = ["line"]

        def process(self, line: str) -> None: ...

    topology = with_spout(Lines)
    topology.bolt("b", Echo, inputs=["s", "c"], config={"on_workers": [0]})
    topology.bolt("c", Echo, inputs="b", config={"on_workers": [1]})
    return topology, {"workers": 2}


@mistakes(
    'bolt "b": it is not a component; expected a subclass of Bolt, a functools.partial of one, or a '
    "function marked @bolt(outputs=…), got 5",
    'bolt "c": it is not a component; expected a subclass of Bolt, a functools.partial of one, or a '
    "function marked @bolt(outputs=…), got dict",
    'spout "s": it is not a component; expected a subclass of Spout, a functools.partial of one, or a '
    "function marked @spout(outputs=…), got 'wordcount:Lines'",
)
def not_a_component() -> Topology:
    topology = with_bolt(5, dict)
    topology.spout("s", "wordcount:Lines")  # type: ignore[arg-type]
    return topology


@mistakes(
    'spout "s": an instance of Lines was given, but every task builds its own; expected the class Lines '
    "or a partial of it; write Lines, or partial(Lines, …) if it takes arguments",
)
def component_instance() -> Topology:
    return with_spout(Lines())


@mistakes(
    'spout "s": a generator object was given, made by calling numbers(…); expected the function itself; '
    "write partial(numbers, …) with the arguments; each task calls it",
)
def generator_object() -> Topology:
    return with_spout(numbers(3))


@mistakes(
    'spout "s": Split is a bolt; expected a spout; use topology.bolt(…) for it',
    'bolt "b": Lines is a spout; expected a bolt; use topology.spout(…) for it',
    'bolt "c": marked is a spout; expected a bolt; use topology.spout(…) for it',
)
def wrong_kind() -> Topology:
    topology = with_spout(Split)
    topology.bolt("b", Lines, inputs="s")
    topology.bolt("c", marked, inputs="s")
    return topology


@mistakes(
    'spout "s": the function numbers is not marked and takes "stop"; expected a marked function, or a '
    "callable without arguments that builds a component; write @spout(outputs=…) above it",
    'bolt "b": the function <lambda> is not marked and takes "line"; expected a marked function, or a '
    "callable without arguments that builds a component; write @bolt(outputs=…) above it",
)
def unmarked_function() -> Topology:
    topology = with_spout(numbers, outputs=["n"])
    topology.bolt("b", lambda line: None, inputs="s")
    return topology


@mistakes(
    'bolt "b": what make_split builds is not known before it runs; expected outputs= at the wiring '
    "(outputs=[] for none); give outputs=, or use functools.partial of the class in place of it",
)
def factory_without_outputs() -> Topology:
    return with_bolt(make_split)


class Needs(Lines):
    def __init__(self, path: str) -> None: ...


@mistakes(
    "spout \"s\": Needs cannot be built with these arguments: missing a required argument: 'path'; expected"
    " Needs(path); write partial(Needs, path=…)",
    "spout \"u\": Needs cannot be built with these arguments: got an unexpected keyword argument 'file'; "
    "expected Needs(path)",
    'spout "v": Lines cannot be built with these arguments: it takes none; expected Lines()',
    "spout \"w\": lines_of cannot be built with these arguments: missing a required argument: 'path'; "
    "expected lines_of(path, *, encoding); write partial(lines_of, path=…, encoding=…)",
)
def constructor_arguments() -> Topology:
    topology = with_spout(Needs)
    topology.spout("u", partial(Needs, "x", file="x"))  # type: ignore[call-arg]
    topology.spout("v", partial(Lines, 3))
    topology.spout("w", spout(outputs=["line"])(lines_of))
    return topology


@mistakes(
    'bolt "b": Base is abstract; define "process"',
)
def abstract_class() -> Topology:
    class Base(Bolt, abc.ABC):
        @abc.abstractmethod
        def process(self, line: str) -> None: ...

    return with_bolt(Base)


@mistakes(
    'bolt "b": Storm does not define process(); rename "execute" to "process"',
    'bolt "c": Typo does not define process(); rename "proces" to "process"',
    'bolt "d": Nothing does not define process_batch(); define process_batch(self, …)',
    'spout "s": Java does not define next_tuple(); rename "nextTuple" to "next_tuple"',
)
def missing_work() -> Topology:
    class Storm(Bolt):
        def execute(self, tup: Tuple) -> None: ...

    class Typo(Bolt):
        def proces(self, tup: Tuple) -> None: ...

    class Nothing(BatchBolt): ...

    class Java(Spout):
        outputs = ["n"]

        def nextTuple(self) -> None: ...  # noqa: N802

    topology = with_bolt(Storm, Typo, Nothing)
    topology.spout("s", Java)
    return topology


@mistakes(
    'bolt "b": Store is a BatchBolt and defines process(), which is never called for one; expected '
    "process_batch(self, tuples); derive it from Bolt, or rename the method",
)
def batch_bolt_process() -> Topology:
    return with_bolt(batch_class(process=lambda self, line: None))


@mistakes(
    'bolt "b": prepare() has the wrong parameters; expected prepare(self, context), got prepare(self, '
    "context, more); write def prepare(self, context)",
    'bolt "b": tick() has the wrong parameters; expected tick(self), got tick(self, n); write def tick(self)',
    'spout "s": open() has the wrong parameters; expected open(self, context), got open(self); write def '
    "open(self, context)",
    'spout "s": ack() has the wrong parameters; expected ack(self, id), got 5; write def ack(self, id)',
    'spout "s": fail() has the wrong parameters; expected fail(self, id, failure), got fail(self, root); '
    "write def fail(self, id, failure)",
)
def hook_signature() -> Topology:
    topology = with_bolt(
        bolt_class(prepare=lambda self, context, more: None, tick=lambda self, n: None, tick_interval_s=1)
    )
    topology.spout("s", spout_class(open=lambda self: None, fail=lambda self, root: None, ack=5))
    return topology


@mistakes(
    'spout "s": next_tuple() is async; async spouts are not supported; expected def next_tuple, got async'
    " def next_tuple",
    'spout "f": source() is async; async spouts are not supported; expected def source, got async def source',
)
def async_spout() -> Topology:
    class Source(Spout):
        outputs = ["n"]

        async def next_tuple(self) -> None: ...  # type: ignore[override]

    @spout(outputs=["n"])
    async def source() -> Any:
        yield 1

    topology = with_spout(Source)
    topology.spout("f", source)
    return topology


@mistakes(
    'bolt "b": prepare() of Store is async; a BatchBolt cannot be async; expected def prepare, got async '
    "def prepare; derive it from Bolt",
    'bolt "b": process_batch() of Store is async; a BatchBolt cannot be async; expected def '
    "process_batch, got async def process_batch; derive it from Bolt",
)
def async_batch() -> Topology:
    class Store(BatchBolt):
        async def prepare(self, context: TaskContext) -> None: ...
        async def process_batch(self, tuples: Any) -> None: ...

    return with_bolt(Store)


@mistakes(
    'bolt "b": process_batch() yields, and what it yields would be lost; expected a plain method, got a '
    "generator function; write self.emit(…, anchors=…)",
    'spout "s": open() yields, and what it yields would be lost; expected a plain method, got a generator'
    " function; remove the yield",
    'spout "s": next_tuple() yields, and what it yields would be lost; expected a plain method, got a '
    "generator function; write self.emit(…), or a function marked @spout",
)
def yielding_hook() -> Topology:
    class Source(Spout):
        outputs = ["line"]

        def next_tuple(self) -> Iterator[int]:  # type: ignore[override]
            yield 1

        def open(self, context: TaskContext) -> Iterator[int]:  # type: ignore[override]
            yield 1

    class Store(BatchBolt):
        def process_batch(self, tuples: Any) -> Iterator[int]:
            yield 1

    topology = with_bolt(Store)
    topology.spout("s", Source)
    return topology


@mistakes(
    'bolt "b": "fail" of Step hides the engine\'s method fail(); expected another name; rename "fail" in Step',
    'spout "s": "end" of Source hides the engine\'s method end(); expected another name; rename "end" in Source',
)
def shadowed_method() -> Topology:
    topology = with_bolt(bolt_class(fail=lambda self, tup: None))
    topology.spout("s", spout_class(end=7))
    return topology


@mistakes(
    'spout "s": each of its tasks would read everything: marked takes no TaskContext; expected one task, '
    "or a parameter annotated TaskContext that tells the tasks apart, got 2; add a parameter context: "
    "TaskContext and read the share of context.task_index",
)
def shared_source() -> Topology:
    return with_spout(partial(marked, 3), parallelism=2)


@mistakes(
    'spout "s": a generator cannot be resumed after an exception; expected on_error "stop", got '
    "'restart'; use a Spout class to restart",
)
def generator_on_error() -> Topology:
    return with_spout(partial(marked, 3), config={"on_error": "restart"})


@mistakes(
    'spout "s": bad fields of stream "default"; expected a list of names or a mapping name → type, got '
    "'line'; write ['line']",
    'spout "u": bad fields of stream "default"; expected a list of names or a mapping name → type, got {\'a\'}',
    'spout "u": bad fields of stream "late"; expected a list of names or a mapping name → type, got '
    "'word'; write ['word']",
)
def bad_fields() -> Topology:
    topology = with_spout(Lines, outputs="line")
    topology.spout("u", Lines, outputs={"a"}, streams={"late": "word"})  # type: ignore[arg-type]
    return topology


@mistakes(
    'spout "s": bad field in stream "default"; expected an identifier that is no keyword, got \'a b\'',
    'spout "s": bad field in stream "default"; expected an identifier that is no keyword, got \'class\'',
    'spout "s": bad field in stream "default"; expected an identifier that is no keyword ("tup" is the '
    "parameter that takes the whole tuple), got 'tup'",
    'spout "s": bad field in stream "default"; expected an identifier that is no keyword, got 3',
)
def bad_field() -> Topology:
    return with_spout(Lines, outputs=["a b", "class", "tup", 3])


@mistakes(
    'spout "s": field "a" stands twice in stream "default"; rename one of them',
)
def duplicate_field() -> Topology:
    return with_spout(Lines, outputs=["a", "b", "a"])


@mistakes(
    "spout \"s\": bad streams; expected a mapping name → list of fields or Stream(…), got ['late']",
)
def bad_streams() -> Topology:
    return with_spout(Lines, streams=["late"])


@mistakes(
    'spout "s": stream "default" is declared by outputs and by streams; remove one of them',
)
def duplicate_stream() -> Topology:
    return with_spout(Lines, streams={"default": ["a"]})


@mistakes(
    'spout "s": stream "dead_letter" is the engine\'s: every spout has it; expected another name; '
    "subscribe to it without declaring it",
)
def reserved_stream() -> Topology:
    return with_spout(Lines, streams={"dead_letter": ["a"]})


@mistakes(
    'spout "s": Source declares no outputs; expected outputs = ["field", …]; name the fields of what it emits',
)
def no_outputs() -> Topology:
    return with_spout(spout_class(outputs=[]))


@mistakes(
    'bolt "b": it has no inputs; expected inputs= with one of "lines", "c"; write inputs="lines"',
    'bolt "c": it has no inputs; expected inputs= with one of "lines", "b"; write inputs="lines"',
)
def no_inputs() -> Topology:
    return with_inputs(None, [])


@mistakes(
    'bolt "b": bad inputs; expected a source, a list of sources, or a mapping source → grouping, got '
    "grouping.shuffle()",
    "bolt \"c\": bad inputs; expected a source, a list of sources, or a mapping source → grouping, got {'lines'}",
)
def bad_inputs() -> Topology:
    return with_inputs(grouping.shuffle(), {"lines"})


@mistakes(
    'bolt "b": bad source; expected "component" or "component.stream", got \'lines.a.b\'',
    'bolt "c": bad source; expected "component" or "component.stream", got 3',
    'bolt "d": bad source; expected "component" or "component.stream", got \'\'',
)
def bad_source() -> Topology:
    return with_inputs("lines.a.b", [3], {"": grouping.all()})


@mistakes(
    'bolt "b": no component is named "line"; expected one of "lines", "b", "c"; did you mean "lines"?',
    'bolt "c": no component is named "zebra"; expected one of "lines", "b", "c"',
)
def unknown_component() -> Topology:
    return with_inputs("line", "zebra")


@mistakes(
    'bolt "d": "b" has no stream "default"; expected one of "late", "x"; write "b.late"',
    'bolt "d": "b" has no stream "lat"; expected one of "late", "x"; did you mean "late"?',
    'bolt "d": "b" has no stream "q"; expected one of "late", "x"',
    'bolt "d": "lines" has no stream "dead"; expected one of "default", "dead_letter"',
    'bolt "e": "c" emits nothing: it declares no outputs; declare outputs on "c"',
)
def unknown_stream() -> Topology:
    topology = with_bolt(bolt_class(streams={"late": ["word"], "x": ["y"]}), bolt_class())
    topology.bolt("d", Split, inputs=["b", "b.lat", "b.q", "lines.dead"])
    topology.bolt("e", Split, inputs="c")
    return topology


@mistakes(
    'bolt "b": input "lines.default" stands twice; expected each stream once; remove one of them',
)
def duplicate_source() -> Topology:
    return with_inputs(["lines", "lines.default"])


@mistakes(
    'bolt "b": bad grouping of input "lines"; expected a grouping, as grouping.shuffle(), got \'shuffle\'; '
    'write grouping.fields("word")',
    'bolt "c": bad grouping of input "lines"; expected a grouping, as grouping.shuffle(), got None',
)
def bad_grouping() -> Topology:
    return with_inputs({"lines": "shuffle"}, {"lines": None})


@mistakes(
    'bolt "b": the grouping of input "lines" is not called; expected grouping.shuffle(), got grouping.shuffle',
    'bolt "c": the grouping of input "lines" is not called; expected grouping.global_(), got grouping.global_',
)
def uncalled_grouping() -> Topology:
    return with_inputs({"lines": grouping.shuffle}, {"lines": grouping.global_})


@mistakes(
    'bolt "b": grouping.fields() of input "lines" names no field; expected at least one; write '
    'grouping.fields("field")',
    'bolt "c": grouping.partial_key() of input "lines" names no field; expected at least one; write '
    'grouping.partial_key("field")',
)
def no_key() -> Topology:
    return with_inputs({"lines": grouping.fields()}, {"lines": grouping.partial_key()})


@mistakes(
    'bolt "b": input "lines" has no field \'lin\' to group by; expected one of "line"; did you mean "line"?',
    'bolt "c": the key of input "lines" is a list; expected names, as in grouping.fields("a", "b"), got [\'line\']',
    'bolt "d": input "lines" has no field 3 to group by; expected one of "line"',
)
def unknown_key() -> Topology:
    keys: list[Any] = [["line"], 3]
    return with_inputs(*({"lines": grouping.fields(key)} for key in ("lin", *keys)))


@mistakes(
    'bolt "b": the key of input "lines" names field "line" twice; expected each field once',
)
def duplicate_key() -> Topology:
    return with_inputs({"lines": grouping.fields("line", "line")})


@mistakes(
    'bolt "b": the object of grouping.custom of input "lines" has no method prepare(); expected an object'
    " with prepare(context, tasks) and choose(values), got <built-in function len>; define prepare",
    'bolt "c": the object of grouping.custom of input "lines" has no method choose(); expected an object '
    "with prepare(context, tasks) and choose(values), got Chooser; write custom(Chooser(…))",
)
def bad_chooser() -> Topology:
    class Chooser:
        def prepare(self, context: TaskContext, tasks: Any) -> None: ...
        def choose(self, values: tuple[Any, ...]) -> list[int]:
            return []

    builtin: Any = len
    of_class: Any = Chooser
    return with_inputs({"lines": grouping.custom(builtin)}, {"lines": grouping.custom(of_class)})


@mistakes(
    'bolt "b": input "lines" is grouped direct, but the stream is not declared so; expected Stream([…], '
    "direct=True); declare it so, or take another grouping",
)
def not_direct() -> Topology:
    return with_inputs({"lines": grouping.direct()})


@mistakes(
    'bolt "b": input "s.control" is a direct stream: its emitter chooses the task; expected '
    "grouping.direct(), got grouping.shuffle()",
)
def only_direct() -> Topology:
    topology = with_spout(Lines, streams={"control": Stream(["line"], direct=True)})
    topology.bolt("b", Split, inputs="s.control")
    return topology


@mistakes(
    'bolt "b": parameter "lines" of process(): input "lines" has no such field; expected one of "line"; '
    'did you mean "line"?',
    'bolt "c": parameter "whatever" of process(): input "lines" has no such field; expected one of '
    '"line"; rename it, or give it a default, or take tup: Tuple',
    'bolt "d": parameter "row" of process(): input "lines" has no such field; expected one of "line"; '
    "write from rainband import Tuple if it is to take the whole tuple",
    'bolt "e": parameter "row" of process(): input "lines" has no such field; expected one of "line"; its'
    " annotation exists only for type checkers: import Tuple at run time, or name the parameter tup",
)
def unknown_parameter() -> Topology:
    def old(self: Any, row: typing.Tuple[str, int]) -> None: ...  # noqa: UP006
    def unresolved(self: Any, row: Missing.Tuple) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    return with_bolt(
        bolt_class(process=lambda self, lines: None),
        bolt_class(process=lambda self, whatever: None),
        bolt_class(process=old),
        bolt_class(process=unresolved),
    )


@mistakes(
    'bolt "b": parameter "n" of process() contradicts input "s"; expected str as declared there, got int | None',
    'bolt "b": parameter "line" of process() contradicts input "s"; expected float as declared there, got str | bytes',
)
def parameter_type() -> Topology:
    def process(self: Any, n: int | None, line: str | bytes) -> None: ...

    topology = with_spout(Lines, outputs={"n": str, "line": float})
    topology.bolt("b", bolt_class(process=process), inputs="s")
    return topology


@mistakes(
    'bolt "b": process() takes *fields, but fields are bound by name; expected named parameters; name the'
    " fields, or take tup: Tuple",
)
def star_args() -> Topology:
    return with_bolt(bolt_class(process=lambda self, *fields: None))


@mistakes(
    'bolt "b": process() takes the whole tuple twice, as "a", "tup"; expected one of them; remove one',
)
def two_tuples() -> Topology:
    def process(self: Any, a: Tuple, tup: Any) -> None: ...

    return with_bolt(bolt_class(process=process))


@mistakes(
    'bolt "b": parameter "line" of process() is annotated typing.Tuple; expected rainband.Tuple, got '
    "typing.Tuple; write from rainband import Tuple",
)
def typing_tuple() -> Topology:
    def process(self: Any, line: typing.Tuple) -> None: ...  # type: ignore[type-arg]  # noqa: UP006

    return with_bolt(bolt_class(process=process))


@mistakes(
    'bolt "b": parameter "tup" of process() takes the whole tuple; expected Tuple, got str; rename it if '
    "a field is meant",
)
def tup_annotation() -> Topology:
    def process(self: Any, tup: str) -> None: ...

    return with_bolt(bolt_class(process=process))


@mistakes(
    'bolt "b": parameter "line" of process() is positional-only behind "at", which input "lines" lacks; '
    "remove the / from the parameters",
)
def positional_gap() -> Topology:
    def process(self: Any, at: Any = None, line: Any = None, /) -> None: ...

    return with_bolt(bolt_class(process=process))


@mistakes(
    'bolt "b": the parameters of <built-in function max> cannot be read; expected a function written in Python',
)
def unreadable_signature() -> Topology:
    return with_bolt(bolt_class(process=staticmethod(max)))


@mistakes(
    "topology \"t\", config: bad config; expected a mapping setting → value, got 'max_pending'",
    "spout \"s\", config: bad config; expected a mapping setting → value, got [('a', 1)]",
)
def bad_config() -> Topology:
    topology = with_spout(Lines, config=[("a", 1)])
    topology.config = "max_pending"  # type: ignore[assignment]
    return topology


@mistakes(
    'topology "t", config: unknown setting "Workers"; did you mean "workers"?',
    'spout "s", config: unknown setting "max_pendin"; did you mean "max_pending"?',
    'spout "s", config: unknown setting "5"; known are "queue_capacity", "queue_bytes", "loop_bytes", '
    '"max_pending", "max_attempts", "retry_backoff_s", "retry_backoff_max_s", "ack_timeout_s", '
    '"execute_timeout_s", "max_anchors", "on_workers", "on_error", "restart_limit", "tick_interval_s", "concurrency", '
    '"batch_size", "batch_interval_s", "auto_ack"',
    'spout "u", @spout of numbers: unknown setting "batchsize"; did you mean "batch_size"?',
)
def unknown_setting() -> Topology:
    topology = with_spout(Lines, config={"max_pendin": 1, 5: 6})
    topology.config = {"Workers": 1}
    topology.spout("u", partial(spout(outputs=["n"], batchsize=1)(numbers), 3))
    return topology


@mistakes(
    'spout "s", config: setting "workers" belongs to the whole topology; write Topology(…, config={\'workers\': …})',
)
def misplaced_setting() -> Topology:
    return with_spout(Lines, config={"workers": 1})


@mistakes(
    'topology "t", config: bad setting "checked"; expected True or False, got \'yes\'',
    'topology "t", config: bad setting "ack_timeout_s"; expected a number above 0 and at most 86400, got \'30\'',
    'topology "t", config: bad setting "state_dir"; expected the path of a folder, got 5',
    'topology "t", config: bad setting "queue_capacity"; expected a whole number of at least 1 and at '
    "most 16777216, got True",
    'spout "s", class Source: bad setting "max_pending"; expected a whole number of at least 1 and at '
    "most 16777216, got 0",
    'spout "s", config: bad setting "on_error"; expected one of "fail", "restart", "stop", got \'ignore\'',
)
def bad_setting() -> Topology:
    topology = with_spout(spout_class(max_pending=0), config={"on_error": "ignore"})
    topology.config = {"checked": "yes", "ack_timeout_s": "30", "state_dir": 5, "queue_capacity": True}
    return topology


@mistakes(
    'config of run: setting "split.batch_size": no component is named "split"; expected one of "s"',
    'config of run: unknown setting "maxpending"; did you mean "max_pending"?',
    'config of run, spout "s": unknown setting "batch_sise"; did you mean "batch_size"?',
    'config of run, spout "s": bad setting "max_pending"; expected a whole number of at least 1 and at '
    "most 16777216, got 'x'",
    'config of run, spout "s": setting "workers" belongs to the whole topology; write Topology(…, '
    "config={'workers': …})",
)
def unknown_setting_component() -> Case:
    overrides = {"split.batch_size": 1, "s.batch_sise": 3, "s.max_pending": "x", "maxpending": 3, "s.workers": 1}
    return with_spout(Lines), overrides


@mistakes(
    'bolt "b": Step defines tick(), but it would never be called; expected tick_interval_s; write '
    "tick_interval_s = 1.0 in the class",
)
def tick_without_interval() -> Topology:
    return with_bolt(bolt_class(tick=lambda self: None))


@mistakes(
    'bolt "b": Step has no tick() to call; expected no tick_interval_s, or a method tick(self), got tick_interval_s 2',
)
def interval_without_tick() -> Topology:
    return with_bolt(bolt_class(tick_interval_s=2))


@mistakes(
    'bolt "b": a batch of 2000 can never fill: its spouts have at most 1000 tuples pending; expected '
    "batch_size of at most 1000, got 2000; lower batch_size or raise max_pending",
)
def batch_never_fills() -> Topology:
    return with_bolt(batch_class(batch_size=2000))


@mistakes(
    'bolt "b": Store is a BatchBolt, which acks its batches itself; expected no auto_ack, got auto_ack '
    "False; remove it",
)
def batch_manual_ack() -> Topology:
    return with_bolt(batch_class(auto_ack=False))


@pytest.mark.parametrize("name", CASES)
def test_text_of_every_mistake(name: str) -> None:
    case, texts = CASES[name]
    found = problems_of(*case())
    assert [str(problem) for problem in found] == texts
    assert name in {problem.code for problem in found}


def test_every_kind_of_mistake_has_a_case() -> None:
    # Those of factories can only be found when a component is built; see below.
    assert {*CASES, "factory_result", "factory_fields"} == set(CODES)


def test_texts_are_of_one_style() -> None:
    for _, texts in CASES.values():
        for text in texts:
            assert not text.endswith(".")
            assert not text.split(": ", 1)[1].startswith(("The ", "A "))


def test_factory_result() -> None:
    topology = with_spout(lambda: 5, outputs=["n"])
    plan = compile_plan(topology)
    with pytest.raises(TopologyError) as caught:
        plan.components[0].build(TaskContext(topology="t", component="s"))
    assert str(caught.value) == 'spout "s": <lambda> built something else; expected an instance of Spout, got 5'


def test_factory_whose_bolt_wants_fields() -> None:
    class Step(Bolt):
        def process(self, word: str, n: int, tup: Tuple, again: bool = False) -> None: ...

    topology = with_spout(Lines)
    topology.bolt("step", lambda: Step(), inputs="s", outputs=["n"])  # noqa: PLW0108 - a factory, not the class
    with pytest.raises(TopologyError) as caught:
        compile_plan(topology).components[1].build(TaskContext(topology="t", component="step"))
    assert str(caught.value) == (
        'bolt "step": <lambda> built a Step whose process() takes "word", "n"; expected a process(tup), as the '
        "bolt's fields could not be bound before it was built; use partial(Step, …) in place of <lambda>"
    )


def test_attribute_set_in_the_constructor_that_hides_the_engine() -> None:
    class Range(Lines):
        def __init__(self, end: int) -> None:
            self.end = end  # type: ignore[method-assign,assignment]

    plan = compile_plan(with_spout(partial(Range, 3)))
    with pytest.raises(TopologyError, match=r'spout "s": "end" of Range hides the engine\'s method end\(\)'):
        plan.components[0].build(TaskContext(topology="t", component="s"))


def test_all_mistakes_at_once() -> None:
    topology = Topology("t")
    topology.bolt("b", Split, inputs="z", parallelism=0, config={"batchsize": 3})
    with pytest.raises(TopologyError) as caught:
        topology.check()
    assert str(caught.value).splitlines() == [
        'topology "t" has 4 mistakes:',
        '  bolt "b": bad parallelism; expected a whole number of at least 1, got 0',
        '  bolt "b", config: unknown setting "batchsize"; did you mean "batch_size"?',
        '  bolt "b": no component is named "z"; expected one of "b"',
        '  topology "t": it has no spout; add one: topology.spout("source", Source)',
    ]


def test_a_mistake_is_told_once() -> None:
    """What hangs on a component that is wrong is not reported again."""
    topology = with_spout(5)
    topology.bolt("b", Split, inputs={"s": grouping.fields("nothing")})
    topology.bolt("c", Split, inputs="b.none.at.all")
    topology.bolt("d", Split, inputs="c.late")
    codes = [problem.code for problem in problems_of(topology)]
    assert codes == ["not_a_component", "bad_source", "unknown_stream"]


def test_good_topologies() -> None:
    @bolt
    def show(tup: Tuple) -> None: ...

    topology = with_bolt(Split, partial(Split), bolt_class(outputs={"line": str}), inputs=["lines"])
    topology.bolt("loop", bolt_class(outputs=["line"]), inputs=["loop", "lines"])
    topology.bolt("show", show, inputs=["lines.dead_letter", "b", "loop"])
    topology.bolt("made", make_split, outputs=[], inputs={"b": grouping.fields("word")})
    topology.check()


def test_batches_that_can_fill_are_accepted() -> None:
    class Store(BatchBolt):
        batch_size = 2000

        def process_batch(self, tuples: Any) -> None: ...

    with_bolt(Store, config={"batch_size": 1000}).check()
    topology = with_bolt(Split)
    # A bolt between may emit any number of tuples for a root.
    topology.bolt("store", Store, inputs="b")
    topology.check()
    check(with_bolt(Store), {"lines.max_pending": 2000})


def test_tick_interval_of_the_whole_topology_needs_no_tick() -> None:
    topology = with_bolt(Split, bolt_class(tick=lambda self: None))
    topology.config = {"tick_interval_s": 1}
    topology.check()


def test_user_code_does_not_run() -> None:
    class Explodes(Lines):
        def __init__(self) -> None:
            raise AssertionError("built by check()")

    with_spout(Explodes).check()


def test_values_with_a_broken_repr_are_shown() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    (problem,) = problems_of(with_spout(Broken()))
    assert problem.got.startswith("<test_check.") or "Broken object" in problem.got


def test_check_component_lists_its_mistakes() -> None:
    with pytest.raises(TopologyError) as caught:
        check_component(Definition("bolt", "b", 5), {"max_pendin": 1})
    assert [problem.code for problem in caught.value.problems] == ["not_a_component", "unknown_setting"]
