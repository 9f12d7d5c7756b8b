"""What the core calls on cold paths: it builds tasks, logs what users' code raised, and keeps state.

The core (`_core.Engine`) holds one `Runtime` and calls it attached and never under a lock of its own: `build` on the
executor's thread, at a task's first start and after a restart; `user_error`, `log` and `dead_letter` on any executor;
`positions` on the timer thread.

A built task is a `TaskSpec`: the instance and its bound methods, None where the class does not override a hook, so
that the core neither looks up names nor calls empty methods on the tuple's path. `batching` and `aio` put their own
callables in the same places.

Left out on purpose: what an error means for the tuple (the core decides and passes it as `note`), and how logging is
set up (the program's business; the command line does it for itself).
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from . import batching
from .anatomy import mode_of
from .checked import Checker, Token
from .component import BatchBolt, Bolt, Spout, TaskContext, overrides
from .errors import ConnectorError, RainbandError, StateError
from .standstill import standstill_text
from .state import LocalState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from .binding import Binding
    from .plan import CompiledPlan, ComponentPlan
    from .state import State

__all__ = ["Runtime", "TaskSpec"]

_PACKAGE_FOLDER: Final = str(Path(__file__).parent)
_ENGINE_FILES: Final = frozenset(
    f"{_PACKAGE_FOLDER}/{name}.py"
    for name in ("aio", "aio_loop", "batching", "function", "runtime", "run", "engine_threads")
)
_LOGGED_IN_FULL: Final = 5  # times the same error is logged with its traceback …
_WINDOW_S: Final = 10.0  # … in this time; the rest is counted


@dataclass(slots=True)
class TaskSpec:
    """One task as the core runs it; None stands for a hook that the component does not have."""

    instance: object
    open: Callable[[], object]
    close: Callable[[], object] | None = None
    # spouts
    next_tuple: Callable[[], object] | None = None
    ack: Callable[[Any], object] | None = None
    fail: Callable[[Any, Any], object] | None = None
    dead: Callable[[Any, Any], object] | None = None
    activate: Callable[[], object] | None = None
    deactivate: Callable[[], object] | None = None
    # bolts
    mode: str = "plain"
    process: Callable[..., object] | None = None
    bindings: Mapping[tuple[int, str], Binding] | None = None
    auto_ack: bool = True
    tick: Callable[[], object] | None = None
    flush: Callable[[], object] | None = None
    finish: Callable[[], object] | None = None
    # modes "batch" and "async"
    timer: Callable[[], float | None] | None = None  # after each slice and at its deadline; gives the next, in seconds
    loop: Callable[[Any], None] | None = None  # in place of the core's own loop
    cancel: Callable[[Any], None] | None = None  # a held tuple timed out
    settle: Callable[[object], object] | None = None  # runs a coroutine that a plain process() returned


class Runtime:
    """The Python side of one engine.

    Args:
        plan: what the engine runs.
        state: where positions and dead letters go; a folder of this run if not given.
    """

    def __init__(self, plan: CompiledPlan, state: State | None = None) -> None:
        self.plan = plan
        self.name = plan.name
        self.state: State = LocalState(plan) if state is None else state
        self.lost_positions: StateError | None = None
        self.contexts: dict[int, TaskContext] = {}  # by task id; the report reads the counters
        self._log = logging.getLogger(f"rainband.{plan.name}")
        self._batching: set[int] = set()  # components whose tasks take batches; of a factory the plan does not know
        self._checker = Checker(plan.components, must_travel=plan.config["workers"] > 1)
        self._errors = _ErrorLog(plan.name)
        self._told: deque[tuple[BaseException, str]] = deque(maxlen=16)

    def open(self) -> None:
        """Make the state ready.

        Raises:
            StateError: the folder that the user named is in use, or it or what is in it cannot be read.
        """
        self.state.open()
        if self.plan.config["workers"] > 1:
            self._tell_of_pickles()

    def _tell_of_pickles(self) -> None:
        for component in self.plan.components:
            for shape in component.streams:
                if shape.pickle:
                    text = '%s stream "%s" has pickle=True: whoever can send to a worker can run any code in it'
                    self._log.warning(text, component.where, shape.name)

    def close(self) -> None:
        """Write what is still counted and give the state back; may be called twice."""
        self._errors.tell_rest()
        self.state.close()

    # -- called by the core ----------------------------------------------------------------------------------------

    def build(self, component: int, task_id: int, task_index: int) -> TaskSpec:
        """Construct one instance of a component and say how to call it; it is not opened yet."""
        planned = self.plan.components[component]
        context = self._context(planned, task_id, task_index)
        self.contexts[task_id] = context
        instance = planned.build(context)
        if isinstance(instance, Spout):
            return _spout_spec(instance, context)
        return self._bolt_spec(instance, context, planned)

    def _bolt_spec(self, instance: Bolt, context: TaskContext, planned: ComponentPlan) -> TaskSpec:
        spec = bolt_spec(instance, context, planned)
        if isinstance(instance, BatchBolt):
            self._batching.add(planned.index)
        if mode_of(instance) == "async":
            from . import aio  # noqa: PLC0415 - asyncio costs every start of a program some 20 ms

            names = [component.name for component in self.plan.components]
            bindings = {(names[i], stream): binding for (i, stream), binding in planned.bindings.items()}
            aio.install(
                spec,
                instance,
                task_id=context.task_id,
                concurrency=planned.config["concurrency"],
                binding_of=lambda tup: bindings[tup.component, tup.stream],
                streams={shape.name: tuple(shape.fields) for shape in planned.streams},
                on_raise=partial(self._raised, planned.index, context.task_id),
            )
        return spec

    def _raised(self, component: int, task_id: int, where: str, error: BaseException) -> None:
        self.user_error(component, task_id, where, error, "the tuple failed" if where == "process" else "")

    def prepare_groupings(self, component: int, task_id: int) -> None:
        """Prepare the custom groupings of the streams of a task, on its thread and before it emits."""
        for subscriber in self.plan.core["components"]:
            for wired in subscriber["inputs"]:
                custom = wired["grouping"].get("custom")
                prepare = getattr(custom, "prepare", None)
                if wired["component"] == component and prepare is not None:
                    prepare(self.contexts[task_id], list(self.plan.tasks[subscriber["name"]]))

    def user_error(self, component: int, task_id: int, where: str, error: BaseException, note: str) -> None:
        """Log an exception of user code with its traceback; one that repeats is counted instead."""
        planned = self.plan.components[component]
        if component in self._batching and where in {"process", "timer"}:
            where, note = "process_batch", "every tuple of the batch failed and is tried again by itself"
        call = where if where.endswith(")") else f"{where}()"
        # What a connector raises says what, where and why; how it came to be raised is our own affair.
        what = str(error) if isinstance(error, ConnectorError) else f"{call} raised {_short(error)}"
        text = f'{planned.kind} "{planned.name}" task {task_id}: {what}'
        self._told.append((error, text))
        self._errors.tell(planned.name, f"{text}; {note}" if note else text, where, error)

    def log(self, level: int, message: str) -> None:
        """Log a line of the engine."""
        self._log.log(level, "%s", message)

    def standstill(self, holders: list[tuple[int, int]]) -> None:
        """Warn that nothing moves; (task, how many) of those that hold tuples."""
        self._log.warning("%s", standstill_text(self.plan, holders))

    def dead_letter(self, record: Mapping[str, Any]) -> None:
        """Keep a tuple that nobody tries again; durable on return, raises if that is not possible."""
        self.state.append_letter(record)

    def positions(self, items: list[tuple[int, int, object]]) -> None:
        """Keep what spout tasks have resolved so far; durable on return, raises if that is not possible."""
        named = [(self.plan.components[component], index, position) for component, index, position in items]
        try:
            self.state.save_positions([(planned.name, i, planned.tasks, position) for planned, i, position in named])
        except StateError as error:
            # The last positions of a run come when the core counts it as ended; that must not hide that they are lost.
            self.lost_positions = error
            raise

    def ended(self, task_ids: list[int]) -> None:
        """Note that tasks are over, before their end-of-stream is sent; only a worker process asks for it."""
        self.state.end_tasks(task_ids)

    def check_emit(self, component: int, stream: str, values: tuple[Any, ...]) -> object | None:
        """With `checked` only: look at what is emitted; what this returns is handed to `check_receive`."""
        return self._checker.emit(component, stream, values)

    def check_receive(
        self, component: int, token: Token, values: tuple[Any, ...], when: Literal["before", "after"]
    ) -> None:
        """With `checked` only: look at a tuple again before and after the call that receives it."""
        self._checker.receive(component, token, values, when)

    # -- called by run ---------------------------------------------------------------------------------------------

    def describe(self, error: BaseException) -> str:
        """Where an error came from and what it was, in one line."""
        for known, text in reversed(self._told):
            if known is error:
                return text
        return str(error) if isinstance(error, RainbandError) else _short(error)

    @property
    def folder(self) -> Path:
        """The state folder."""
        return self.state.path

    @property
    def letter_file(self) -> str | None:
        """The file of dead letters if this run wrote any."""
        return self.state.letter_file if isinstance(self.state, LocalState) else None

    def notes(self) -> list[str]:
        """What else the reader of the report should know."""
        return []

    def user_counters(self) -> dict[str, dict[str, int]]:
        """What users counted, by component and counter, summed over the tasks."""
        sums: dict[str, dict[str, int]] = {}
        for context in list(self.contexts.values()):
            for counter in list(context.counters.values()):
                own = sums.setdefault(context.component, {})
                own[counter.name] = own.get(counter.name, 0) + counter.value
        return sums

    def _context(self, planned: ComponentPlan, task_id: int, task_index: int) -> TaskContext:
        position = self.state.position(planned.name, task_index, planned.tasks) if planned.kind == "spout" else None
        taken = {
            entry.stream.name for p in self.plan.components for entry in p.inputs if entry.component == planned.index
        }
        earlier = self.contexts.get(task_id)
        return TaskContext(
            topology=self.name,
            component=planned.name,
            task_id=task_id,
            task_index=task_index,
            parallelism=planned.parallelism,
            config=MappingProxyType(dict(planned.config)),
            position=position,
            state_dir=self.state.path,
            tasks=self.plan.tasks,
            streams={s.name: {f: Any if t is None else t for f, t in s.fields.items()} for s in planned.streams},
            subscribed=frozenset(taken),
            counters={} if earlier is None else earlier.counters,
        )


def _spout_spec(instance: Spout, context: TaskContext) -> TaskSpec:
    own = partial(_own_hook, instance)
    return TaskSpec(
        instance=instance,
        open=_opening(own("open"), context),
        close=own("close"),
        next_tuple=instance.next_tuple,
        ack=own("ack"),
        fail=own("fail"),
        dead=own("dead"),
        activate=own("activate"),
        deactivate=own("deactivate"),
    )


def bolt_spec(
    instance: Bolt,
    context: TaskContext,
    planned: ComponentPlan,
    clock: Callable[[], float] = time.monotonic,
) -> TaskSpec:
    """How to call a bolt that is plain or takes batches; for an `async` one `aio.install` has to follow."""
    own = partial(_own_hook, instance)
    spec = TaskSpec(
        instance=instance,
        open=_opening(own("prepare"), context),
        close=own("close"),
        process=instance.process,
        bindings=planned.bindings,
        auto_ack=planned.config["auto_ack"],
        tick=own("tick"),
        flush=own("flush"),
        finish=own("finish"),
        settle=_settle,
    )
    if isinstance(instance, BatchBolt):
        batching.install(spec, instance, planned.config, clock)
    return spec


def _settle(returned: object) -> object:
    from . import aio  # noqa: PLC0415 - as above

    return aio.settle(returned)


def _own_hook(instance: Spout | Bolt, name: str) -> Any:
    return getattr(instance, name) if overrides(instance, name) else None


def _opening(hook: Callable[[TaskContext], object] | None, context: TaskContext) -> Callable[[], object]:
    return _nothing if hook is None else partial(hook, context)


def _nothing() -> None:
    return None


def _short(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception as second:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"{type(error).__name__} (its repr raised {type(second).__name__})"


@dataclass(slots=True)
class _Repeats:
    since: float
    seen: int = 0
    hidden: int = 0
    text: str = ""


class _ErrorLog:
    """Logs errors of users' code; the same one (component, hook, type, line) in full only so many times a while."""

    def __init__(self, topology: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._topology = topology
        self._clock = clock
        self._guard = threading.Lock()
        self._repeats: dict[tuple[str, str, type, int], _Repeats] = {}

    def tell(self, component: str, text: str, where: str, error: BaseException) -> None:
        trace = _users_part(error.__traceback__)
        now = self._clock()
        key = (component, where, type(error), _raised_at(trace))
        with self._guard:
            entry = self._repeats.setdefault(key, _Repeats(now))
            hidden = 0
            if now - entry.since >= _WINDOW_S:
                hidden, entry.since, entry.seen, entry.hidden = entry.hidden, now, 0, 0
            entry.seen += 1
            entry.text = text
            is_told = entry.seen <= _LOGGED_IN_FULL
            entry.hidden += not is_told
            is_last = entry.seen == _LOGGED_IN_FULL
        if not is_told:
            return
        more = f" ({hidden} more like it were not logged)" if hidden else ""
        more += " (the next ones like it are counted)" if is_last else ""
        info = None if isinstance(error, ConnectorError) else (type(error), error, trace)
        self._log(component, f"{text}{more}", info)

    def tell_rest(self) -> None:
        """Log the counts of what was hidden so far."""
        with self._guard:
            rest = [(key[0], entry.hidden, entry.text) for key, entry in self._repeats.items() if entry.hidden]
            self._repeats.clear()
        for component, hidden, text in rest:
            self._log(component, f"{hidden} more like it were not logged: {text}", None)

    def _log(self, component: str, text: str, info: Any) -> None:
        logging.getLogger(f"rainband.{self._topology}.{component}").error("%s", text, exc_info=info)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not the engine's; all of it if there is no other."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename in _ENGINE_FILES:
        part = part.tb_next
    return part if part is not None else trace


def _raised_at(trace: TracebackType | None) -> int:
    lines = [line for _, line in traceback.walk_tb(trace)]
    return lines[-1] if lines else 0
