"""What a component is: from the object given to `Topology.spout` or `bolt` to its `Anatomy`, or what is wrong with it.

Nothing is built here. A component is a class, a partial of one, a marked function, a partial of one, or another
callable that builds one (a factory, whose class is not known before). check.py calls `dissect` for every definition;
plan.py keeps the anatomies and builds instances from them.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import partial
from types import AsyncGeneratorType, BuiltinFunctionType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, get_origin

from . import problems as say
from .binding import Parameters, context_parameter, read, signature, unbuilt
from .component import BOLT_HOOKS, ENGINE_METHODS, SPOUT_HOOKS, BatchBolt, Bolt, Spout, overrides
from .errors import TopologyError
from .function import FunctionBolt, GeneratorSpout, Mark, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .component import TaskContext
    from .errors import Problem
    from .topology import Definition

BASES: dict[str, type[Spout | Bolt]] = {"spout": Spout, "bolt": Bolt}
WORK = {"spout": "next_tuple", "bolt": "process", "batch": "process_batch"}
OTHER_WORDS = (
    "nextTuple",
    "next",
    "execute",
    "process",
    "process_tuple",
    "process_batch",
    "next_tuple",
    "run",
    "__call__",
)
"""Names that people give to the work by mistake: Storm's, streamparse's, and those of the other kind."""
CALLS = {
    "open": ("context",),
    "next_tuple": (),
    "ack": ("id",),
    "fail": ("id", "failure"),
    "dead": ("id", "failure"),
    "activate": (),
    "deactivate": (),
    "prepare": ("context",),
    "process_batch": ("tuples",),
    "tick": (),
    "flush": (),
    "finish": (),
    "close": (),
}
"""What each hook but `process` is called with."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What is known of a component before it is built.

    Attributes:
        kind: "spout" or "bolt".
        name: the class or function, as texts name it.
        mode: "plain", "batch" or "async"; None for a factory, ask `mode_of` what it built.
        cls: the class, None for functions and factories.
        function: the marked function or partial of one.
        factory: builds the instance of a class or factory.
        outputs: as the component declares them.
        streams: as the component declares them.
        attributes: every attribute that may be a setting.
        hooks: names of the hooks that it defines itself; None for a factory.
        parameters: of `process`; None for spouts, batch bolts and factories.
        context_parameter: the parameter of a function that takes the TaskContext.
    """

    kind: str
    name: str
    mode: str | None = "plain"
    cls: type[Spout | Bolt] | None = None
    function: Callable[..., Any] | None = None
    factory: Callable[[], Any] | None = None
    outputs: Any = ()
    streams: Any = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    hooks: frozenset[str] | None = None
    parameters: Parameters | None = None
    context_parameter: str | None = None

    def build(self, where: str, context: TaskContext, fields: Sequence[str]) -> Spout | Bolt:
        """An instance for one task. Runs the user's constructor.

        Args:
            where: the component, as texts name it.
            context: of that task.
            fields: of the stream "default".

        Raises:
            TopologyError: a factory built something else, or an attribute set in the constructor hides a method of the
                engine.
            Exception: whatever the user's constructor raises.
        """
        if self.function is not None:
            if self.kind == "bolt":
                return FunctionBolt.of(self.function, self.context_parameter, context)
            return GeneratorSpout(self.function, context_parameter=self.context_parameter, fields=fields)
        assert self.factory is not None, "an anatomy has a function or a factory"
        made = self.factory()
        found: list[Problem] = []
        if not isinstance(made, BASES[self.kind]):
            found.append(say.factory_result(where, self.name, self.kind.capitalize(), made))
        else:
            found += [
                say.shadowed_method(where, self.name, m) for m in ENGINE_METHODS[self.kind] if _is_shadowed(made, m)
            ]
            if self.cls is None and isinstance(made, Bolt) and not isinstance(made, BatchBolt):
                found += _fields_of(made, where, self.name)
        if found:
            raise TopologyError(str(found[0]), found)
        return made  # type: ignore[no-any-return]


def _fields_of(made: Bolt, where: str, name: str) -> list[Problem]:
    """Of a bolt that was built by a callable: that its `process` wants fields, which nobody could bind before."""
    parameters, _ = read(made.process, where)
    wanted = [p.name for p in parameters.named if not p.optional and p.name != parameters.whole]
    return [say.factory_fields(where, name, type(made).__name__, wanted)] if wanted else []


def _is_shadowed(made: object, method: str) -> bool:
    # Not by way of `__dict__`: reading it once makes every later attribute access of the instance four times as slow
    # (CPython 3.11 gives up its inline values), which is a tenth of the word count.
    return bool(getattr(made, method) != getattr(type(made), method).__get__(made, type(made)))


def dissect(definition: Definition) -> tuple[Anatomy | None, list[Problem]]:
    """The anatomy of a definition's component, None where there is none to be had, and what is wrong with it.

    Example:
        >>> from rainband.topology import Definition
        >>> dissect(Definition("bolt", "count", 5))[1][0].code
        'not_a_component'
    """
    where, kind, given = definition.where, definition.kind, definition.component
    inner = given.func if isinstance(given, partial) else given
    origin = get_origin(inner)
    inner = origin if isinstance(origin, type) else inner  # Box[int] builds a Box
    mark = mark_of(inner)
    if mark is not None:
        return _function(where, kind, given, inner, mark)
    if isinstance(inner, type) and issubclass(inner, Spout | Bolt):
        return _class(where, kind, given, inner)
    if isinstance(given, Spout | Bolt):
        return None, [say.component_instance(where, type(given).__name__)]
    if isinstance(given, GeneratorType | CoroutineType | AsyncGeneratorType):
        return None, [say.generator_object(where, given.__name__)]
    if isinstance(inner, type) or not callable(given):
        return None, [say.not_a_component(where, kind, given)]
    return _factory(where, definition, inner)


def mode_of(component: Any) -> str:
    """How the engine calls a component, given as class or instance: "plain", "batch" or "async".

    Example:
        >>> class Ask(Bolt):
        ...     async def process(self, word): ...
        >>> mode_of(Ask), mode_of(BatchBolt), mode_of(Spout())
        ('async', 'batch', 'plain')
    """
    cls = component if isinstance(component, type) else type(component)
    if issubclass(cls, Spout):
        return "plain"
    if issubclass(cls, BatchBolt):
        return "batch"
    hooks = [hook for hook in BOLT_HOOKS if overrides(component, hook)]
    return "async" if any(_is_async(getattr(component, hook)) for hook in hooks) else "plain"


def _class(where: str, kind: str, given: Any, cls: type[Spout | Bolt]) -> tuple[Anatomy | None, list[Problem]]:
    name = cls.__name__
    actual = "spout" if issubclass(cls, Spout) else "bolt"
    if actual != kind:
        return None, [say.wrong_kind(where, name, actual, kind)]
    batch = issubclass(cls, BatchBolt)
    work = WORK["batch" if batch else kind]
    found = _constructor(where, name, given, cls)
    found += [say.shadowed_method(where, name, m) for m in ENGINE_METHODS[kind] if _hides(cls, m)]
    parameters = None
    if not overrides(cls, work):
        instead = next((w for w in OTHER_WORDS if w != work and callable(vars(cls).get(w))), "")
        found.append(
            say.missing_work(where, name, work, instead or say.near(work, (n for n in vars(cls) if n[0] != "_")))
        )
    elif kind == "bolt" and not batch:
        parameters, wrong = read(cls.process, where, owner=cls)  # type: ignore[union-attr]
        found += wrong
        parameters = None if wrong else parameters
    if batch and overrides(cls, "process"):
        found.append(say.batch_bolt_process(where, name))
    hooks = frozenset(hook for hook in _hooks_of(kind, batch) if overrides(cls, hook))
    for hook in _hooks_of(kind, batch):
        if hook in hooks and hook != "process":
            found += _check_hook(where, kind, cls, hook)
    return (
        Anatomy(
            kind,
            name,
            mode_of(cls),
            cls=cls,
            factory=given,
            outputs=cls.outputs,
            streams=cls.streams,
            attributes=_attributes(cls),
            hooks=hooks,
            parameters=parameters,
        ),
        found,
    )


def _function(
    where: str, kind: str, given: Any, function: Callable[..., Any], mark: Mark
) -> tuple[Anatomy | None, list[Problem]]:
    name = getattr(function, "__name__", "function")
    if mark.kind != kind:
        return None, [say.wrong_kind(where, name, mark.kind, kind)]
    context = context_parameter(given)
    found: list[Problem] = []
    parameters = None
    if kind == "bolt":
        parameters, found = read(given, where)
        parameters = None if found else parameters
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        found.append(say.async_spout(where, name))
    else:
        args, keywords = (given.args, given.keywords) if isinstance(given, partial) else ((), {})
        found += _call(where, name, function, args, {**keywords, **({context: None} if context else {})})
    return (
        Anatomy(
            kind,
            name,
            "async" if _is_async(function) and kind == "bolt" else "plain",
            function=given,
            outputs=() if mark.outputs is None else mark.outputs,
            streams={} if mark.streams is None else mark.streams,
            attributes=mark.config,
            hooks=frozenset({"process"} if kind == "bolt" else {"open", "next_tuple", "close"}),
            parameters=parameters,
            context_parameter=context,
        ),
        found,
    )


def _factory(where: str, definition: Definition, inner: Any) -> tuple[Anatomy | None, list[Problem]]:
    kind, given = definition.kind, definition.component
    name = getattr(inner, "__name__", None) or type(inner).__name__
    try:
        needed = [
            p.name for p in signature(given).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
        ]
        needed += [
            p.name for p in signature(given).parameters.values() if p.default is p.empty and p.kind is p.KEYWORD_ONLY
        ]
    except (TypeError, ValueError):
        needed = []
    yields = _is_async(inner) or inspect.isgeneratorfunction(inner)
    if needed or yields:
        return None, [say.unmarked_function(where, kind, name, needed)]
    found = (
        [say.factory_without_outputs(where, name)] if definition.outputs is None and definition.streams is None else []
    )
    return Anatomy(kind, name, None, factory=given), found


def _constructor(where: str, name: str, given: Any, cls: type) -> list[Problem]:
    """Whether the constructor takes the arguments of the partial."""
    if inspect.isabstract(cls):
        return [
            say.abstract_class(
                where, name, [m for m in dir(cls) if getattr(getattr(cls, m, None), "__isabstractmethod__", False)]
            )
        ]
    args, keywords = (given.args, given.keywords) if isinstance(given, partial) else ((), {})
    if cls.__init__ is object.__init__ and isinstance(cls.__new__, BuiltinFunctionType):  # type: ignore[misc]
        return [say.constructor_arguments(where, name, "it takes none", f"{name}()", [])] if args or keywords else []
    return _call(where, name, cls, args, keywords)


def _call(where: str, name: str, target: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[Problem]:
    """Whether a call with these arguments is possible."""
    try:
        taken = signature(target)
    except (TypeError, ValueError):
        return []
    try:
        taken.bind(*args, **keywords)
    except TypeError as error:
        needed = [p.name for p in taken.parameters.values() if p.default is p.empty and p.kind not in (2, 4)]
        header = name + _without_annotations(taken)
        missing = [n for n in needed[len(args) :] if n not in keywords][:3]
        return [say.constructor_arguments(where, name, str(error), header, missing)]
    return []


def _check_hook(where: str, kind: str, cls: type, hook: str) -> list[Problem]:
    function = getattr(cls, hook)
    if not callable(function):
        return [say.hook_signature(where, hook, _header(hook), say.shown(function))]
    if found := _check_colour(where, kind, cls, hook, function):
        return found
    try:
        taken = signature(unbuilt(cls, hook))
    except (TypeError, ValueError):
        return []
    try:
        taken.bind(*CALLS[hook])
    except TypeError:
        return [say.hook_signature(where, hook, _header(hook), f"{hook}{_without_annotations(signature(function))}")]
    return []


def _check_colour(where: str, kind: str, cls: type, hook: str, function: Any) -> list[Problem]:
    """Whether a hook is of a kind that the engine does not call: async, or a generator function."""
    batch, name = issubclass(cls, BatchBolt), cls.__name__
    if _is_async(function):
        if kind == "spout":
            return [say.async_spout(where, hook)]
        return [say.async_batch(where, name, hook)] if batch else []
    if not inspect.isgeneratorfunction(function):
        return []
    if hook == "next_tuple":
        return [say.yielding_hook(where, hook, "write self.emit(…), or a function marked @spout")]
    if hook == "process_batch":
        return [say.yielding_hook(where, hook, "write self.emit(…, anchors=…)")]
    return (
        [say.yielding_hook(where, hook, "remove the yield")] if kind == "spout" or hook in {"prepare", "close"} else []
    )


def _header(hook: str) -> str:
    return f"{hook}({', '.join(('self', *CALLS[hook]))})"


def _without_annotations(taken: inspect.Signature) -> str:
    plain = [p.replace(annotation=p.empty) for p in taken.parameters.values()]
    return str(taken.replace(parameters=plain, return_annotation=taken.empty))


def _hooks_of(kind: str, batch: bool) -> tuple[str, ...]:
    return SPOUT_HOOKS if kind == "spout" else (*BOLT_HOOKS, "process_batch") if batch else BOLT_HOOKS


def _hides(cls: type, method: str) -> bool:
    owner = next(base for base in cls.__mro__ if method in vars(base))
    return not owner.__module__.startswith("rainband._core")


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _attributes(cls: type) -> dict[str, Any]:
    """Class attributes, nearest first, without what the bases of this package define."""
    own = [base for base in cls.__mro__ if base not in (Spout, Bolt, BatchBolt) and base.__module__ != "rainband._core"]
    return {name: value for base in reversed(own) for name, value in vars(base).items()}
