"""The text of every mistake that `Topology.check()` can find: one function a mistake, and the list of them, `CODES`.

check.py, anatomy.py, binding.py and config.py find the mistakes; here stands only what is said about them, so that
texts stay of one style and a test can hold the list complete. Each function takes where the mistake stands first and
returns a `Problem` whose code is the function's name. Texts about streams, inputs and parameters: wiring_problems.py.
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


def listed(make: Callable[P, Text]) -> Callable[Concatenate[str, P], Problem]:
    """Enter a kind of mistake into `CODES`; what is decorated takes where the mistake stands first."""
    code = make.__name__
    CODES[code] = (make.__doc__ or "").strip()

    def problem(where: str, /, *args: P.args, **kwargs: P.kwargs) -> Problem:
        return Problem(code, where, *make(*args, **kwargs))

    problem.__name__, problem.__doc__ = code, make.__doc__
    return problem


# Names, and the topology as a whole.


@listed
def bad_name(what: str, name: object) -> Text:
    """A name of a topology, component or stream that is not of the allowed form."""
    if isinstance(name, str) and name.startswith("__"):
        return Text(f"names that begin with __ are reserved ({what})", "another name", shown(name))
    return Text(
        f"bad {what}", "letters, digits, _ and -, beginning with a letter", shown(name), 'for example "word-count"'
    )


@listed
def duplicate_name(kind: str) -> Text:
    """Two components of one name."""
    return Text(f"the name is taken by a {kind} defined before it", "", "", "choose another name for one of them")


@listed
def no_spout() -> Text:
    """A topology without a spout."""
    return Text("it has no spout", fix='add one: topology.spout("source", Source)')


@listed
def unreachable_bolt(inputs: list[str]) -> Text:
    """A bolt that no spout feeds, directly or through other bolts."""
    return Text(
        f"no spout feeds it: what it takes ({quoted(inputs)}) comes only from a loop",
        fix="add an input that leads back to a spout",
    )


@listed
def bad_count(key: str, least: int, got: object, reason: str = "") -> Text:
    """`parallelism` or `tasks` that is not a whole number of at least 1, or too small."""
    return Text(f"bad {key}", f"a whole number of at least {least}{reason}", shown(got))


# What a component is.


@listed
def not_a_component(kind: str, got: object) -> Text:
    """Something that is neither a component class, a partial of one, nor a marked function."""
    cls = kind.capitalize()
    return Text(
        "it is not a component",
        f"a subclass of {cls}, a functools.partial of one, or a function marked @{kind}(outputs=…)",
        shown(got),
    )


@listed
def component_instance(name: str) -> Text:
    """An instance where a class belongs."""
    return Text(
        f"an instance of {name} was given, but every task builds its own",
        f"the class {name} or a partial of it",
        "",
        f"write {name}, or partial({name}, …) if it takes arguments",
    )


@listed
def generator_object(name: str) -> Text:
    """A generator object, which only one task could read and none could restart."""
    return Text(
        f"a generator object was given, made by calling {name}(…)",
        "the function itself",
        "",
        f"write partial({name}, …) with the arguments; each task calls it",
    )


@listed
def wrong_kind(name: str, kind: str, wanted: str) -> Text:
    """A bolt given to `spout()` or a spout given to `bolt()`."""
    return Text(f"{name} is a {kind}", f"a {wanted}", "", f"use topology.{kind}(…) for it")


@listed
def unmarked_function(kind: str, name: str, parameters: list[str]) -> Text:
    """A plain function that can neither be a component nor build one."""
    why = f" and takes {quoted(parameters)}" if parameters else ""
    return Text(
        f"the function {name} is not marked{why}",
        "a marked function, or a callable without arguments that builds a component",
        "",
        f"write @{kind}(outputs=…) above it",
    )


@listed
def factory_without_outputs(name: str) -> Text:
    """A callable that builds components, without `outputs=` at the wiring."""
    return Text(
        f"what {name} builds is not known before it runs",
        "outputs= at the wiring (outputs=[] for none)",
        "",
        "give outputs=, or use functools.partial of the class in place of it",
    )


@listed
def factory_result(name: str, wanted: str, got: object) -> Text:
    """A callable that built something else than a component of its kind. Found when it is built."""
    return Text(f"{name} built something else", f"an instance of {wanted}", shown(got))


@listed
def factory_fields(name: str, built: str, parameters: list[str]) -> Text:
    """A bolt built by a callable that wants fields, which are bound before it is built. Found when it is built."""
    return Text(
        f"{name} built a {built} whose process() takes {quoted(parameters)}",
        "a process(tup), as the bolt's fields could not be bound before it was built",
        "",
        f"use partial({built}, …) in place of {name}",
    )


@listed
def constructor_arguments(name: str, error: str, header: str, missing: list[str]) -> Text:
    """Arguments that the constructor or spout function does not take, or lacks."""
    arguments = ", ".join(f"{k}=…" for k in missing)
    fix = f"write partial({name}, {arguments})" if missing else ""
    return Text(f"{name} cannot be built with these arguments: {error}", header, "", fix)


@listed
def abstract_class(name: str, methods: list[str]) -> Text:
    """A component class that still has abstract methods."""
    return Text(f"{name} is abstract", "", "", f"define {quoted(methods)}")


@listed
def missing_work(name: str, hook: str, instead: str) -> Text:
    """A component that does not define `next_tuple`, `process` or `process_batch`."""
    fix = f'rename "{instead}" to "{hook}"' if instead else f"define {hook}(self, …)"
    return Text(f"{name} does not define {hook}()", "", "", fix)


@listed
def batch_bolt_process(name: str) -> Text:
    """A `BatchBolt` that defines `process`."""
    return Text(
        f"{name} is a BatchBolt and defines process(), which is never called for one",
        "process_batch(self, tuples)",
        "",
        "derive it from Bolt, or rename the method",
    )


@listed
def hook_signature(hook: str, wanted: str, got: str) -> Text:
    """A hook that cannot take the arguments it is called with."""
    return Text(f"{hook}() has the wrong parameters", wanted, got, f"write def {wanted}")


@listed
def async_spout(hook: str) -> Text:
    """An `async` hook of a spout."""
    return Text(f"{hook}() is async; async spouts are not supported", f"def {hook}", f"async def {hook}")


@listed
def async_batch(name: str, hook: str) -> Text:
    """An `async` hook of a `BatchBolt`."""
    return Text(
        f"{hook}() of {name} is async; a BatchBolt cannot be async",
        f"def {hook}",
        f"async def {hook}",
        "derive it from Bolt",
    )


@listed
def yielding_hook(hook: str, fix: str) -> Text:
    """A hook that is a generator function, so that calling it would run nothing."""
    return Text(f"{hook}() yields, and what it yields would be lost", "a plain method", "a generator function", fix)


@listed
def shadowed_method(name: str, method: str) -> Text:
    """An attribute or method of a component that hides one of the engine."""
    return Text(
        f'"{method}" of {name} hides the engine\'s method {method}()',
        "another name",
        "",
        f'rename "{method}" in {name}',
    )


@listed
def shared_source(name: str, got: int) -> Text:
    """A spout function with several tasks that would all read everything."""
    return Text(
        f"each of its tasks would read everything: {name} takes no TaskContext",
        "one task, or a parameter annotated TaskContext that tells the tasks apart",
        str(got),
        "add a parameter context: TaskContext and read the share of context.task_index",
    )


@listed
def generator_on_error(got: object) -> Text:
    """`on_error` of a spout function other than `stop`."""
    return Text(
        "a generator cannot be resumed after an exception",
        'on_error "stop"',
        shown(got),
        "use a Spout class to restart",
    )


# Configuration.


@listed
def bad_config(got: object) -> Text:
    """`config` that is not a mapping."""
    return Text("bad config", "a mapping setting → value", shown(got))


@listed
def unknown_setting(name: object, known: list[str]) -> Text:
    """A setting that does not exist."""
    return Text(f"unknown setting {quoted([name])}", "", "", did_you_mean(name, known, f"known are {quoted(known)}"))


@listed
def misplaced_setting(name: str) -> Text:
    """A setting of the whole topology given to one component."""
    return Text(f'setting "{name}" belongs to the whole topology', "", "", f"write Topology(…, config={{{name!r}: …}})")


@listed
def bad_setting(name: str, expected: str, got: object) -> Text:
    """A setting of the wrong type or out of its bounds."""
    return Text(f'bad setting "{name}"', expected, shown(got))


@listed
def unknown_setting_component(name: str, component: str, known: list[str]) -> Text:
    """A setting `component.key` of a run that names no component."""
    return Text(
        f'setting "{name}": no component is named "{component}"',
        f"one of {quoted(known)}",
        "",
        did_you_mean(component, known),
    )


@listed
def no_such_worker(got: list[int], workers: int) -> Text:
    """`on_workers` that names a worker which the run does not have."""
    return Text("bad on_workers", f"workers 0 to {workers - 1}", shown(got), "workers are numbered from 0")


@listed
def bind_without_tcp(got: str) -> Text:
    """`bind` where no transport is chosen, which leaves it at sockets in a folder."""
    return Text('"bind" does not count', 'transport "tcp" with it', shown(got), 'add transport "tcp", or leave it out')


@listed
def torn_cycle(pins: dict[str, list[int]]) -> Text:
    """`on_workers` that puts the components of a cycle on several workers."""
    got = ", ".join(f'"{name}" on {workers}' for name, workers in pins.items())
    return Text(
        "it is part of a cycle, and a cycle ends by counting inside one process",
        "one worker, the same for all components of the cycle",
        got,
        "give on_workers with one number to one of them",
    )


@listed
def tick_without_interval(name: str) -> Text:
    """A bolt that defines `tick` without `tick_interval_s`."""
    return Text(
        f"{name} defines tick(), but it would never be called",
        "tick_interval_s",
        "",
        "write tick_interval_s = 1.0 in the class",
    )


@listed
def interval_without_tick(name: str, got: float) -> Text:
    """`tick_interval_s` for a component without `tick`."""
    return Text(
        f"{name} has no tick() to call", "no tick_interval_s, or a method tick(self)", f"tick_interval_s {got:g}"
    )


@listed
def batch_never_fills(size: int, pending: int) -> Text:
    """A `batch_size` that `max_pending` of its spouts can never fill."""
    return Text(
        f"a batch of {size} can never fill: its spouts have at most {pending} tuples pending",
        f"batch_size of at most {pending}",
        str(size),
        "lower batch_size or raise max_pending",
    )


@listed
def batch_manual_ack(name: str) -> Text:
    """`auto_ack = False` on a `BatchBolt`."""
    return Text(f"{name} is a BatchBolt, which acks its batches itself", "no auto_ack", "auto_ack False", "remove it")


def join(problems: Iterable[Any]) -> list[Problem]:
    """Problems without repetitions, in order."""
    return list(dict.fromkeys(problems))
