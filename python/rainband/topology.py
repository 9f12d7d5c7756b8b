"""`Topology`: what a user wires together. It only records; check.py finds the mistakes and run.py runs it.

Nothing is built and nothing is imported here, so that a module that defines a topology stays cheap to import, and so
that every mistake can be told at once instead of the first one at its line.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .component import Bolt, Spout, Stream
    from .grouping import Grouping
    from .report import Report
    from .run import Run

    Component = type[Spout | Bolt] | Callable[..., Any]
    Outputs = Sequence[str] | Mapping[str, Any]
    Streams = Mapping[str, Stream | Sequence[str] | Mapping[str, Any]]
    Inputs = str | Sequence[str] | Mapping[str, Grouping]


@dataclass(frozen=True, slots=True)
class Origin:
    """The code that made a topology: workers import it again.

    Attributes:
        module: name of the module, `__main__` for a script.
        file: its file, None in an interactive session.
        function: qualified name of the function that made it, None at the level of the module.
        call: the function that was called for it by name, if one was (`rainband run file.py:build`).
        params: texts of the arguments of that call, or of the variables of a topology file.
    """

    module: str
    file: str | None
    function: str | None
    call: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """One call of `Topology.spout` or `Topology.bolt`, as it was written."""

    kind: str
    name: str
    component: Any
    parallelism: int = 1
    tasks: int | None = None
    inputs: Any = None
    outputs: Any = None
    streams: Any = None
    config: Any = None

    @property
    def where(self) -> str:
        """The component as texts of errors name it.

        Example:
            >>> Definition("bolt", "count", None).where
            'bolt "count"'
        """
        return f'{self.kind} "{self.name}"'


class Topology:
    """Spouts and bolts, wired together by name.

    Args:
        name: letters, digits, `_` and `-`, beginning with a letter.
        config: settings for the whole topology; see the configuration reference.

    Attributes:
        name: as given.
        config: as given.
        definitions: every call of `spout` and `bolt`, in order.
        origin: the module or file that made this topology.

    Example:
        >>> from rainband import Bolt, Spout, Topology, grouping
        >>> class Words(Spout):
        ...     outputs = ["word"]
        ...     def next_tuple(self) -> None:
        ...         self.end()
        >>> class Count(Bolt):
        ...     def process(self, word: str) -> None: ...
        >>> topology = Topology("wordcount", config={"max_pending": 5000})
        >>> topology.spout("words", Words)
        >>> topology.bolt("count", Count, inputs={"words": grouping.fields("word")}, parallelism=2)
        >>> topology.check()
        >>> topology
        Topology("wordcount", 1 spout, 1 bolt)
    """

    def __init__(self, name: str, *, config: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.config = config
        self.definitions: list[Definition] = []
        self.origin = _origin_of_caller()

    def spout(
        self,
        name: str,
        component: Component,
        *,
        parallelism: int = 1,
        tasks: int | None = None,
        outputs: Outputs | None = None,
        streams: Streams | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a source.

        Args:
            name: unique in the topology.
            component: a subclass of `Spout`, a `functools.partial` of one, or a function marked `@spout`.
            parallelism: executors (threads).
            tasks: instances, at least as many as executors, fixed for the run; as many as executors if not given.
            outputs: fields of the stream "default", in place of the component's own.
            streams: further streams, in place of the component's own.
            config: settings of this component.

        Example:
            >>> topology = Topology("t")
            >>> topology.spout("lines", print)  # recorded; check() says what is wrong with it
        """
        self.definitions.append(
            Definition("spout", name, component, parallelism, tasks, None, outputs, streams, config)
        )

    def bolt(
        self,
        name: str,
        component: Component,
        *,
        inputs: Inputs | None = None,
        parallelism: int = 1,
        tasks: int | None = None,
        outputs: Outputs | None = None,
        streams: Streams | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a step.

        Args:
            name: unique in the topology.
            component: a subclass of `Bolt`, a `functools.partial` of one, or a function marked `@bolt`.
            inputs: one source (`"split"` or `"split.late"`), a list of sources (shuffle), or a mapping source →
                grouping.
            parallelism: executors (threads).
            tasks: instances, at least as many as executors, fixed for the run; as many as executors if not given.
            outputs: fields of the stream "default", in place of the component's own.
            streams: further streams, in place of the component's own.
            config: settings of this component.

        Example:
            >>> topology = Topology("t")
            >>> topology.bolt("show", print, inputs="lines")
        """
        self.definitions.append(
            Definition("bolt", name, component, parallelism, tasks, inputs, outputs, streams, config)
        )

    def check(self) -> None:
        """Find every mistake, before any component is built.

        Raises:
            TopologyError: there are mistakes; `problems` lists them all.

        Example:
            >>> Topology("t").check()
            Traceback (most recent call last):
                ...
            rainband.errors.TopologyError: topology "t" has 1 mistake:
              topology "t": it has no spout; add one: topology.spout("source", Source)
        """
        from .check import check  # noqa: PLC0415 - pydantic comes with it

        check(self)

    def start(self, *, workers: int | None = None, config: Mapping[str, Any] | None = None) -> Run:
        """Check, build and start; returns at once.

        Raises:
            TopologyError: there are mistakes.

        Example:
            >>> run = Topology("t").start()
            Traceback (most recent call last):
                ...
            rainband.errors.TopologyError: topology "t" has 1 mistake:
              topology "t": it has no spout; add one: topology.spout("source", Source)
        """
        from .run import start  # noqa: PLC0415

        return start(self, workers=workers, config=config)

    def run(
        self,
        *,
        workers: int | None = None,
        config: Mapping[str, Any] | None = None,
        duration_s: float | None = None,
    ) -> Report:
        """Start, handle signals, and wait for the end.

        Args:
            workers: processes.
            config: settings that win over all others.
            duration_s: drain after so many seconds; without it the run ends when its spouts do.

        Raises:
            TopologyError: there are mistakes.
            RunError: the run failed; `__cause__` is the user's exception.

        Example:
            >>> report = Topology("t").run()
            Traceback (most recent call last):
                ...
            rainband.errors.TopologyError: topology "t" has 1 mistake:
              topology "t": it has no spout; add one: topology.spout("source", Source)
        """
        from .run import run  # noqa: PLC0415

        return run(self, workers=workers, config=config, duration_s=duration_s)

    def __repr__(self) -> str:
        counts = [sum(d.kind == kind for d in self.definitions) for kind in ("spout", "bolt")]
        parts = ", ".join(f"{n} {kind}{'s' * (n != 1)}" for n, kind in zip(counts, ("spout", "bolt"), strict=True))
        return f'Topology("{self.name}", {parts})'


def _origin_of_caller() -> Origin:
    frame = sys._getframe(2)  # noqa: SLF001 - the caller of Topology()
    function = None if frame.f_code.co_name == "<module>" else frame.f_code.co_qualname
    return Origin(frame.f_globals.get("__name__", "__main__"), frame.f_globals.get("__file__"), function)
