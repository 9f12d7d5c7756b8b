"""The text of every mistake that `Topology.check()` can find: one function a mistake, and the list of them, `CODES`.

check.py, anatomy.py, binding.py and config.py find the mistakes; here stands only what is said about them, so that
texts stay of one style and a test can hold the list complete. Each function takes where the mistake stands first and
returns a `Problem` whose code is the function's name.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec

from .errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")

CODES: dict[str, str] = {}
"""Every kind of mistake: its code and, in one line, what it is."""


class Text(NamedTuple):
    """What a problem says after where it stands."""

    what: str
    expected: str = ""
    got: str = ""
    fix: str = ""


def quoted(names: Iterable[object]) -> str:
    """Names for a text: `"a", "b"`, or `none`.

    Example:
        >>> quoted(["a", "b"]), quoted([])
        ('"a", "b"', 'none')
    """
    return ", ".join(f'"{name}"' for name in names) or "none"


def shown(value: object, limit: int = 60) -> str:
    """A value for a text, shortened.

    Example:
        >>> shown("x" * 100, 12)
        "'xxxxxxxxxx…"
        >>> shown(int)
        'int'
    """
    if isinstance(value, type):
        return value.__name__
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ must not hide the mistake
        text = object.__repr__(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def near(name: object, known: Iterable[str]) -> str:
    """The known name that was probably meant, or empty.

    Example:
        >>> near("splt", ["split", "count"]), near("zzz", ["split"])
        ('split', '')
    """
    known = list(known)
    by_case = [k for k in known if isinstance(name, str) and k.lower() == name.lower()]
    found = by_case or get_close_matches(name, known, 1, 0.6) if isinstance(name, str) else []
    return found[0] if found else ""


def did_you_mean(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean "split"?`, or what to say if nothing is near.

    Example:
        >>> did_you_mean("splt", ["split"])
        'did you mean "split"?'
    """
    found = near(name, known)
    return f'did you mean "{found}"?' if found else otherwise


def _listed(make: Callable[P, Text]) -> Callable[Concatenate[str, P], Problem]:
    code = make.__name__
    CODES[code] = (make.__doc__ or "").strip()

    def problem(where: str, /, *args: P.args, **kwargs: P.kwargs) -> Problem:
        return Problem(code, where, *make(*args, **kwargs))

    problem.__name__, problem.__doc__ = code, make.__doc__
    return problem


# Names, and the topology as a whole.


@_listed
def bad_name(what: str, name: object) -> Text:
    """A name of a topology, component or stream that is not of the allowed form."""
    if isinstance(name, str) and name.startswith("__"):
        return Text(f"names that begin with __ are reserved ({what})", "another name", shown(name))
    return Text(
        f"bad {what}", "letters, digits, _ and -, beginning with a letter", shown(name), 'for example "word-count"'
    )


@_listed
def duplicate_name(kind: str) -> Text:
    """Two components of one name."""
    return Text(f"the name is taken by a {kind} defined before it", "", "", "choose another name for one of them")


@_listed
def no_spout() -> Text:
    """A topology without a spout."""
    return Text("it has no spout", fix='add one: topology.spout("source", Source)')


@_listed
def unreachable_bolt(inputs: list[str]) -> Text:
    """A bolt that no spout feeds, directly or through other bolts."""
    return Text(
        f"no spout feeds it: what it takes ({quoted(inputs)}) comes only from a loop",
        fix="add an input that leads back to a spout",
    )


@_listed
def bad_count(key: str, least: int, got: object, reason: str = "") -> Text:
    """`parallelism` or `tasks` that is not a whole number of at least 1, or too small."""
    return Text(f"bad {key}", f"a whole number of at least {least}{reason}", shown(got))


@_listed
def workers_not_yet(got: object) -> Text:
    """More than one worker process, which this version cannot start."""
    return Text("more than one worker process is not available yet", "workers=1", str(got), "set parallelism instead")


# What a component is.


@_listed
def not_a_component(kind: str, got: object) -> Text:
    """Something that is neither a component class, a partial of one, nor a marked function."""
    cls = kind.capitalize()
    return Text(
        "it is not a component",
        f"a subclass of {cls}, a functools.partial of one, or a function marked @{kind}(outputs=…)",
        shown(got),
    )


@_listed
def component_instance(name: str) -> Text:
    """An instance where a class belongs."""
    return Text(
        f"an instance of {name} was given, but every task builds its own",
        f"the class {name} or a partial of it",
        "",
        f"write {name}, or partial({name}, …) if it takes arguments",
    )


@_listed
def generator_object(name: str) -> Text:
    """A generator object, which only one task could read and none could restart."""
    return Text(
        f"a generator object was given, made by calling {name}(…)",
        "the function itself",
        "",
        f"write partial({name}, …) with the arguments; each task calls it",
    )


@_listed
def wrong_kind(name: str, kind: str, wanted: str) -> Text:
    """A bolt given to `spout()` or a spout given to `bolt()`."""
    return Text(f"{name} is a {kind}", f"a {wanted}", "", f"use topology.{kind}(…) for it")


@_listed
def unmarked_function(kind: str, name: str, parameters: list[str]) -> Text:
    """A plain function that can neither be a component nor build one."""
    why = f" and takes {quoted(parameters)}" if parameters else ""
    return Text(
        f"the function {name} is not marked{why}",
        "a marked function, or a callable without arguments that builds a component",
        "",
        f"write @{kind}(outputs=…) above it",
    )


@_listed
def factory_without_outputs(name: str) -> Text:
    """A callable that builds components, without `outputs=` at the wiring."""
    return Text(
        f"what {name} builds is not known before it runs",
        "outputs= at the wiring (outputs=[] for none)",
        "",
        "give outputs=, or use functools.partial of the class in place of it",
    )


@_listed
def factory_result(name: str, wanted: str, got: object) -> Text:
    """A callable that built something else than a component of its kind. Found when it is built."""
    return Text(f"{name} built something else", f"an instance of {wanted}", shown(got))


@_listed
def constructor_arguments(name: str, error: str, header: str, missing: list[str]) -> Text:
    """Arguments that the constructor or spout function does not take, or lacks."""
    arguments = ", ".join(f"{k}=…" for k in missing)
    fix = f"write partial({name}, {arguments})" if missing else ""
    return Text(f"{name} cannot be built with these arguments: {error}", header, "", fix)


@_listed
def abstract_class(name: str, methods: list[str]) -> Text:
    """A component class that still has abstract methods."""
    return Text(f"{name} is abstract", "", "", f"define {quoted(methods)}")


@_listed
def missing_work(name: str, hook: str, instead: str) -> Text:
    """A component that does not define `next_tuple`, `process` or `process_batch`."""
    fix = f'rename "{instead}" to "{hook}"' if instead else f"define {hook}(self, …)"
    return Text(f"{name} does not define {hook}()", "", "", fix)


@_listed
def batch_bolt_process(name: str) -> Text:
    """A `BatchBolt` that defines `process`."""
    return Text(
        f"{name} is a BatchBolt and defines process(), which is never called for one",
        "process_batch(self, tuples)",
        "",
        "derive it from Bolt, or rename the method",
    )


@_listed
def hook_signature(hook: str, wanted: str, got: str) -> Text:
    """A hook that cannot take the arguments it is called with."""
    return Text(f"{hook}() has the wrong parameters", wanted, got, f"write def {wanted}")


@_listed
def async_spout(hook: str) -> Text:
    """An `async` hook of a spout."""
    return Text(f"{hook}() is async; async spouts are not supported", f"def {hook}", f"async def {hook}")


@_listed
def async_batch(name: str, hook: str) -> Text:
    """An `async` hook of a `BatchBolt`."""
    return Text(
        f"{hook}() of {name} is async; a BatchBolt cannot be async",
        f"def {hook}",
        f"async def {hook}",
        "derive it from Bolt",
    )


@_listed
def yielding_hook(hook: str, fix: str) -> Text:
    """A hook that is a generator function, so that calling it would run nothing."""
    return Text(f"{hook}() yields, and what it yields would be lost", "a plain method", "a generator function", fix)


@_listed
def shadowed_method(name: str, method: str) -> Text:
    """An attribute or method of a component that hides one of the engine."""
    return Text(
        f'"{method}" of {name} hides the engine\'s method {method}()',
        "another name",
        "",
        f'rename "{method}" in {name}',
    )


@_listed
def shared_source(name: str, got: int) -> Text:
    """A spout function with several tasks that would all read everything."""
    return Text(
        f"each of its tasks would read everything: {name} takes no TaskContext",
        "one task, or a parameter annotated TaskContext that tells the tasks apart",
        str(got),
        "add a parameter context: TaskContext and read the share of context.task_index",
    )


@_listed
def generator_on_error(got: object) -> Text:
    """`on_error` of a spout function other than `stop`."""
    return Text(
        "a generator cannot be resumed after an exception",
        'on_error "stop"',
        shown(got),
        "use a Spout class to restart",
    )


# Outputs and streams.


@_listed
def bad_fields(stream: str, got: object) -> Text:
    """Fields that are neither a list of names nor a mapping name → type."""
    fix = f"write [{got!r}]" if isinstance(got, str) else ""
    return Text(f'bad fields of stream "{stream}"', "a list of names or a mapping name → type", shown(got), fix)


@_listed
def bad_field(stream: str, name: object) -> Text:
    """A field name that is no identifier, a keyword, or `tup`."""
    reason = ' ("tup" is the parameter that takes the whole tuple)' if name == "tup" else ""
    return Text(f'bad field in stream "{stream}"', f"an identifier that is no keyword{reason}", shown(name))


@_listed
def duplicate_field(stream: str, name: str) -> Text:
    """A field that stands twice in a stream."""
    return Text(f'field "{name}" stands twice in stream "{stream}"', "", "", "rename one of them")


@_listed
def bad_streams(got: object) -> Text:
    """`streams` that is not a mapping name → fields."""
    return Text("bad streams", "a mapping name → list of fields or Stream(…)", shown(got))


@_listed
def duplicate_stream() -> Text:
    """A stream `default` in `streams` beside `outputs`."""
    return Text('stream "default" is declared by outputs and by streams', "", "", "remove one of them")


@_listed
def reserved_stream() -> Text:
    """A stream `dead_letter` declared by a user."""
    return Text(
        'stream "dead_letter" is the engine\'s: every spout has it',
        "another name",
        "",
        "subscribe to it without declaring it",
    )


@_listed
def no_outputs(name: str) -> Text:
    """A spout that declares no stream."""
    return Text(f"{name} declares no outputs", 'outputs = ["field", …]', "", "name the fields of what it emits")


# Inputs and groupings.


@_listed
def no_inputs(known: list[str]) -> Text:
    """A bolt without inputs."""
    first = known[0] if known else "source"
    return Text("it has no inputs", f"inputs= with one of {quoted(known)}", "", f'write inputs="{first}"')


@_listed
def bad_inputs(got: object) -> Text:
    """`inputs` that is neither a source, a list of sources nor a mapping source → grouping."""
    return Text("bad inputs", "a source, a list of sources, or a mapping source → grouping", shown(got))


@_listed
def bad_source(got: object) -> Text:
    """A source that is not `component` or `component.stream`."""
    return Text("bad source", '"component" or "component.stream"', shown(got))


@_listed
def unknown_component(name: str, known: list[str]) -> Text:
    """A source that names no component."""
    return Text(f'no component is named "{name}"', f"one of {quoted(known)}", "", did_you_mean(name, known))


@_listed
def unknown_stream(component: str, stream: str, known: list[str]) -> Text:
    """A source that names no stream of its component."""
    if not known:
        return Text(f'"{component}" emits nothing: it declares no outputs', "", "", f'declare outputs on "{component}"')
    fix = did_you_mean(stream, known)
    if stream == "default":
        fix = f'write "{component}.{known[0]}"'
    return Text(f'"{component}" has no stream "{stream}"', f"one of {quoted(known)}", "", fix)


@_listed
def duplicate_source(source: str) -> Text:
    """A stream that a bolt takes twice."""
    return Text(f'input "{source}" stands twice', "each stream once", "", "remove one of them")


@_listed
def bad_grouping(source: str, got: object) -> Text:
    """Something that is no grouping."""
    fix = 'write grouping.fields("word")' if isinstance(got, str) else ""
    return Text(f'bad grouping of input "{source}"', "a grouping, as grouping.shuffle()", shown(got), fix)


@_listed
def uncalled_grouping(source: str, name: str) -> Text:
    """A grouping that was not called."""
    return Text(f'the grouping of input "{source}" is not called', f"grouping.{name}()", f"grouping.{name}")


@_listed
def no_key(source: str, kind: str) -> Text:
    """A grouping by fields without fields."""
    return Text(
        f'grouping.{kind}() of input "{source}" names no field', "at least one", "", f'write grouping.{kind}("field")'
    )


@_listed
def unknown_key(source: str, name: object, known: list[str]) -> Text:
    """A grouping by a field that the stream lacks."""
    if isinstance(name, list | tuple):
        return Text(f'the key of input "{source}" is a list', 'names, as in grouping.fields("a", "b")', shown(name))
    fix = did_you_mean(name, known)
    return Text(f'input "{source}" has no field {shown(name)} to group by', f"one of {quoted(known)}", "", fix)


@_listed
def duplicate_key(source: str, name: str) -> Text:
    """A grouping that names a field twice."""
    return Text(f'the key of input "{source}" names field "{name}" twice', "each field once")


@_listed
def bad_chooser(source: str, got: object, missing: str) -> Text:
    """A `custom` grouping whose object cannot choose."""
    return Text(
        f'the object of grouping.custom of input "{source}" has no method {missing}()',
        "an object with prepare(context, tasks) and choose(values)",
        shown(got),
        f"write custom({got.__name__}(…))" if isinstance(got, type) else f"define {missing}",
    )


@_listed
def not_direct(source: str) -> Text:
    """A direct grouping of a stream whose emitter does not choose the task."""
    return Text(
        f'input "{source}" is grouped direct, but the stream is not declared so',
        "Stream([…], direct=True)",
        "",
        "declare it so, or take another grouping",
    )


@_listed
def only_direct(source: str, kind: str) -> Text:
    """Another grouping than direct of a stream whose emitter chooses the task."""
    return Text(
        f'input "{source}" is a direct stream: its emitter chooses the task', "grouping.direct()", f"grouping.{kind}()"
    )


# Parameters of process.


@_listed
def unknown_parameter(name: str, source: str, fields: list[str], hint: str = "") -> Text:
    """A parameter without default that no field of an input supplies."""
    fix = hint or did_you_mean(name, fields, "rename it, or give it a default, or take tup: Tuple")
    return Text(
        f'parameter "{name}" of process(): input "{source}" has no such field', f"one of {quoted(fields)}", "", fix
    )


@_listed
def parameter_type(name: str, source: str, declared: str, annotated: str) -> Text:
    """A parameter whose annotation contradicts the declared type of the field."""
    return Text(
        f'parameter "{name}" of process() contradicts input "{source}"', f"{declared} as declared there", annotated
    )


@_listed
def star_args(name: str) -> Text:
    """`*args` in `process`."""
    return Text(
        f"process() takes *{name}, but fields are bound by name",
        "named parameters",
        "",
        "name the fields, or take tup: Tuple",
    )


@_listed
def two_tuples(names: list[str]) -> Text:
    """Two parameters of `process` that would take the whole tuple."""
    return Text(f"process() takes the whole tuple twice, as {quoted(names)}", "one of them", "", "remove one")


@_listed
def typing_tuple(name: str) -> Text:
    """`typing.Tuple` in place of `rainband.Tuple`."""
    return Text(
        f'parameter "{name}" of process() is annotated typing.Tuple',
        "rainband.Tuple",
        "typing.Tuple",
        "write from rainband import Tuple",
    )


@_listed
def tup_annotation(annotated: str) -> Text:
    """A parameter named `tup` that is annotated as something else."""
    return Text(
        'parameter "tup" of process() takes the whole tuple', "Tuple", annotated, "rename it if a field is meant"
    )


@_listed
def positional_gap(name: str, before: str, source: str) -> Text:
    """A positional-only parameter behind one that the stream lacks."""
    return Text(
        f'parameter "{name}" of process() is positional-only behind "{before}", which input "{source}" lacks',
        "",
        "",
        "remove the / from the parameters",
    )


@_listed
def unreadable_signature(name: str) -> Text:
    """A `process` whose parameters cannot be seen, as of a function written in C."""
    return Text(f"the parameters of {name} cannot be read", "a function written in Python")


# Configuration.


@_listed
def bad_config(got: object) -> Text:
    """`config` that is not a mapping."""
    return Text("bad config", "a mapping setting → value", shown(got))


@_listed
def unknown_setting(name: object, known: list[str]) -> Text:
    """A setting that does not exist."""
    return Text(f"unknown setting {quoted([name])}", "", "", did_you_mean(name, known, f"known are {quoted(known)}"))


@_listed
def misplaced_setting(name: str) -> Text:
    """A setting of the whole topology given to one component."""
    return Text(f'setting "{name}" belongs to the whole topology', "", "", f"write Topology(…, config={{{name!r}: …}})")


@_listed
def bad_setting(name: str, expected: str, got: object) -> Text:
    """A setting of the wrong type or out of its bounds."""
    return Text(f'bad setting "{name}"', expected, shown(got))


@_listed
def unknown_setting_component(name: str, component: str, known: list[str]) -> Text:
    """A setting `component.key` of a run that names no component."""
    return Text(
        f'setting "{name}": no component is named "{component}"',
        f"one of {quoted(known)}",
        "",
        did_you_mean(component, known),
    )


@_listed
def tick_without_interval(name: str) -> Text:
    """A bolt that defines `tick` without `tick_interval_s`."""
    return Text(
        f"{name} defines tick(), but it would never be called",
        "tick_interval_s",
        "",
        "write tick_interval_s = 1.0 in the class",
    )


@_listed
def interval_without_tick(name: str, got: float) -> Text:
    """`tick_interval_s` for a component without `tick`."""
    return Text(
        f"{name} has no tick() to call", "no tick_interval_s, or a method tick(self)", f"tick_interval_s {got:g}"
    )


@_listed
def batch_never_fills(size: int, pending: int) -> Text:
    """A `batch_size` that `max_pending` of its spouts can never fill."""
    return Text(
        f"a batch of {size} can never fill: its spouts have at most {pending} tuples pending",
        f"batch_size of at most {pending}",
        str(size),
        "lower batch_size or raise max_pending",
    )


@_listed
def batch_manual_ack(name: str) -> Text:
    """`auto_ack = False` on a `BatchBolt`."""
    return Text(f"{name} is a BatchBolt, which acks its batches itself", "no auto_ack", "auto_ack False", "remove it")


def join(problems: Iterable[Any]) -> list[Problem]:
    """Problems without repetitions, in order."""
    return list(dict.fromkeys(problems))
