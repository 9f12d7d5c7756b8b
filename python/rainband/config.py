"""Settings: one model, `Config`, the only place where defaults stand, and the layers that are merged into it.

    Defaults < topology < class attribute of the component < config= of the component < arguments of run (`--set`)

Every setting is either of the whole topology or of a component. A setting of a component may also be given for the
whole topology and is then the default of all its components. In the arguments of a run `count.batch_size` means the
setting of one component.

This module imports pydantic, so it is imported only when a configuration is checked. The page docs/configuration.md is
made from the descriptions here by `reference()`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import problems as say
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic.fields import FieldInfo

    from .errors import Problem

Scope = Literal["topology", "component"]


def _topology(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"scope": "topology"}, **bounds)


def _component(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"scope": "component"}, **bounds)


class Config(BaseModel):
    """Every setting with its default, bounds and meaning.

    Example:
        >>> Config().max_pending
        1000
        >>> Config(max_pending=5).max_pending
        5
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    workers: int = _topology(1, "Worker processes; 1 runs everything in the process that is there.", ge=1)
    worker_restart_limit: int = _topology(
        10, "Restarts in a row of a worker that dies again within 60 s, before the run fails.", ge=0
    )
    transport: Literal["ipc", "tcp"] = _topology(
        "ipc", "How workers talk: sockets in a private folder, or TCP, encrypted with keys of this run."
    )
    bind: str = _topology("127.0.0.1", "Address of this machine for `transport: tcp`; a mistake without it.")
    drain_timeout_s: float = _topology(
        30.0, "How long a run that was told to end may take to resolve what is pending.", ge=0
    )
    state_dir: str | Path | None = _topology(
        None,
        "Folder for positions and dead letters. Give one to continue an earlier run at its positions; without it "
        "every run has a new folder below the user's XDG state folder: rainband / topology / run.",
    )
    checked: bool = _topology(
        False,
        "Check the values of every emit against the declared types, and find values that were changed after they were "
        "emitted. On in the test harness.",
    )
    audit_s: float = _topology(
        600.0, "A root older than this is audited: if no task holds it, it fails as `lost`.", gt=0, le=86_400
    )
    max_hops: int = _topology(10_000, "Components that one tuple may pass; beyond, its root fails. Ends loops.", ge=1)

    link_bytes: int = _topology(
        2**20,
        "Bytes under way from one worker to a task of another, or waiting in its inbox; beyond, its producers wait. "
        "Of values larger than that two may be.",
        ge=1,
        le=2**30,
    )

    queue_capacity: int = _component(
        1024,
        "Tuples in the inbox of a task; when it is full, its producers wait. Those from other workers are bounded by "
        "`link_bytes` in its place.",
        ge=1,
        le=2**24,
    )
    queue_bytes: int = _component(
        64 * 2**20, "Estimated bytes in the inbox of a task; when it is full, its producers wait.", ge=1
    )
    loop_bytes: int = _component(
        64 * 2**20,
        "Estimated bytes that a task queues from back edges of a cycle, which never wait; beyond, the root fails "
        "with `loop full`.",
        ge=1,
    )
    max_pending: int = _component(
        1000, "Roots that a spout task may have unresolved; at the limit it is not asked for more.", ge=1, le=2**24
    )
    max_attempts: int = _component(
        5, "Attempts of a root, the first included, before it goes to the dead letters.", ge=1, le=65_535
    )
    retry_backoff_s: float = _component(
        0.1, "Wait before the second attempt; it doubles with each further one.", ge=0, le=3600
    )
    retry_backoff_max_s: float = _component(10.0, "The longest wait between two attempts.", ge=0, le=3600)
    ack_timeout_s: float = _component(
        30.0, "A tuple that a bolt holds un-acked for so long, outside of a call, fails as `timeout`.", gt=0, le=86_400
    )
    execute_timeout_s: float = _component(
        300.0,
        "One synchronous call that takes longer stops the run; with several workers, its worker is replaced.",
        gt=0,
        le=86_400,
    )
    max_anchors: int = _component(
        64, "Distinct roots that one tuple may belong to; an emit above it raises.", ge=1, le=65_535
    )
    on_workers: list[Annotated[int, Field(ge=0)]] | None = _component(
        None,
        "Numbers of the workers that its executors may run on, from 0; all without it. The components of a cycle run "
        "on one. With one worker it does not count.",
        min_length=1,
    )
    on_error: Literal["fail", "restart", "stop"] = _component(
        "fail",
        "What an exception in user code does: `fail` the tuple (a spout's `next_tuple` has none, it restarts), "
        "`restart` the task with a fresh instance, `stop` the run.",
    )
    restart_limit: int = _component(10, "Restarts of a task within 60 s before the run fails.", ge=0)
    tick_interval_s: float | None = _component(None, "Call `tick` so often; no ticks without it.", ge=0.001, le=86_400)
    concurrency: int = _component(16, "Tuples that an `async` bolt task has in flight at a time.", ge=1, le=65_535)
    batch_size: int = _component(100, "Tuples in a full batch of a `BatchBolt`.", ge=1, le=2**20)
    batch_interval_s: float = _component(
        1.0, "The longest time that a `BatchBolt` waits to fill a batch.", gt=0, le=3600
    )
    auto_ack: bool = _component(
        True,
        "Ack a tuple when `process` ends and fail it when it raises. When off, the bolt acks and fails.",
    )


def scope_of(name: str) -> Scope:
    """Whether a setting belongs to the whole topology or to a component.

    Example:
        >>> scope_of("workers"), scope_of("batch_size")
        ('topology', 'component')
    """
    extra = Config.model_fields[name].json_schema_extra
    scope: Scope = "topology" if isinstance(extra, dict) and extra["scope"] == "topology" else "component"
    return scope


KEYS = tuple(Config.model_fields)
TOPOLOGY_KEYS = tuple(name for name in KEYS if scope_of(name) == "topology")
COMPONENT_KEYS = tuple(name for name in KEYS if scope_of(name) == "component")


def defaults(scope: Scope) -> dict[str, Any]:
    """The default of every setting of a scope.

    Example:
        >>> defaults("topology")["drain_timeout_s"]
        30.0
    """
    config = Config()
    return {name: getattr(config, name) for name in KEYS if scope_of(name) == scope}


def check_layer(settings: object, where: str, scope: Scope) -> tuple[dict[str, Any], list[Problem]]:
    """The good settings of one layer, and what is wrong with the others. None is an empty layer.

    Args:
        settings: what the user gave.
        where: what the layer belongs to, as texts name it.
        scope: "component" refuses what belongs to the whole topology.

    Example:
        >>> check_layer({"max_pending": 5, "batch_sise": 3}, 'bolt "b"', "component")[0]
        {'max_pending': 5}
    """
    if settings is None:
        return {}, []
    if not isinstance(settings, Mapping):
        return {}, [say.bad_config(where, settings)]
    known = list(KEYS if scope == "topology" else COMPONENT_KEYS)
    good: dict[str, Any] = {}
    found: list[Problem] = []
    for name, value in settings.items():
        if name not in KEYS:
            found.append(say.unknown_setting(where, name, known))
        elif scope == "component" and name in TOPOLOGY_KEYS:
            found.append(say.misplaced_setting(where, name))
        else:
            try:
                good[name] = getattr(Config.model_validate({name: value}), name)
            except ValidationError:
                found.append(say.bad_setting(where, name, expected(name), value))
    return good, found


_TAKES = {
    "state_dir": "the path of a folder",
    "on_workers": "a list of numbers of workers, from 0",
    "bind": "an address",
}
"""What settings take that are neither numbers, words nor bools."""


def expected(name: str) -> str:
    """What a setting takes, in words.

    Example:
        >>> expected("workers"), expected("on_error")
        ('a whole number of at least 1', 'one of "fail", "restart", "stop"')
        >>> expected("batch_interval_s")
        'a number above 0 and at most 3600'
    """
    info = Config.model_fields[name]
    if name in _TAKES:
        return _TAKES[name]
    kinds = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not type(None)]
    if isinstance(kinds[0], str):
        return f"one of {say.quoted(kinds)}"
    if kinds[0] is bool:
        return "True or False"
    bounds = _bounds(info)
    return ("a whole number" if kinds[0] is int else "a number") + (f" {bounds}" if bounds else "")


def _bounds(info: FieldInfo) -> str:
    words = {"ge": "of at least", "gt": "above", "le": "at most"}
    parts = []
    for constraint in info.metadata:
        for key, word in words.items():
            if (limit := getattr(constraint, key, None)) is not None:
                parts.append(f"{word} {limit}")
    return " and ".join(parts)


def parse_setting(text: str) -> dict[str, Any]:
    """A setting as the command line writes it: `max_pending=5`, or `count.batch_size=5` for one component.

    Raises:
        ConfigError: it is unknown, or the value is not one that it takes.

    Example:
        >>> parse_setting("max_pending=5"), parse_setting("count.auto_ack=false")
        ({'max_pending': 5}, {'count.auto_ack': False})
        >>> parse_setting("checked=maybe")
        Traceback (most recent call last):
            ...
        rainband.errors.ConfigError: --set checked=maybe: bad setting "checked"; expected True or False, got 'maybe'
    """
    where = f"--set {text}"
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals:
        raise ConfigError(f"{where}: expected setting=value; for example max_pending=500")
    component, dot, name = key.rpartition(".")
    scope: Scope = "component" if dot else "topology"
    good, found = check_layer({name: _read(name, value)}, where, scope)
    if found:
        raise ConfigError(str(found[0]), found)
    return {key if component else name: good[name]}


def _read(name: str, value: str) -> Any:
    """The text of a value as the type that the setting takes; as it is where that fails, so that the check says so."""
    if name not in KEYS:
        return value
    annotation = Config.model_fields[name].annotation
    kinds = get_args(annotation) or (annotation,)
    words: dict[str, Any] = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if name == "on_workers" and value.lower() not in {"none", ""}:
        numbers_given = [part.strip() for part in value.strip("[]").split(",")]
        return [int(part) if part.isdecimal() else part for part in numbers_given]
    if bool in kinds:
        return words.get(value.lower(), value)
    if type(None) in kinds and value.lower() in {"none", ""}:
        return None
    numbers: list[Callable[[str], Any]] = [int] if int in kinds else [int, float] if float in kinds else []
    for number in numbers:
        try:
            return number(value)
        except ValueError:
            continue
    return value


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Several settings as the command line writes them; a later one wins.

    Raises:
        ConfigError: any is wrong; the text holds all that are, one a line.

    Example:
        >>> parse_settings(["max_pending=5", "checked=true"])
        {'max_pending': 5, 'checked': True}
    """
    settings: dict[str, Any] = {}
    wrong: list[ConfigError] = []
    for text in texts:
        try:
            settings |= parse_setting(text)
        except ConfigError as error:
            wrong.append(error)
    if wrong:
        raise ConfigError("\n".join(map(str, wrong)), [problem for error in wrong for problem in error.problems])
    return settings


def default_state_dir(topology: str, run: str) -> Path:
    """Where a run keeps what must survive it if `state_dir` is not given.

    Example:
        >>> default_state_dir("wordcount", "7f3a").parts[-3:]
        ('rainband', 'wordcount', '7f3a')
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    # The specification says that a relative path in the variable is to be ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".local" / "state"
    return base / "rainband" / topology / run


def reference() -> str:
    """The settings as Markdown tables, for the docs page.

    Example:
        >>> "| `max_pending` | 1000 |" in reference()
        True
    """
    lines: list[str] = []
    for title, keys in (("Settings of the whole topology", TOPOLOGY_KEYS), ("Settings of a component", COMPONENT_KEYS)):
        lines += [f"## {title}", "", "| setting | default | takes | meaning |", "|---|---|---|---|"]
        for name in keys:
            info = Config.model_fields[name]
            default = f'"{info.default}"' if isinstance(info.default, str) else str(info.default)
            lines.append(f"| `{name}` | {default} | {expected(name)} | {info.description} |")
        lines.append("")
    return "\n".join(lines)
