"""Every error that rainband raises on purpose, as one tree, and `Reject`, which users raise.

    RainbandError
    ├── TopologyError        a topology that cannot run; `problems` lists every mistake
    │   └── DefinitionError  the same, found in a topology file; texts begin with file:line:col
    ├── ConfigError          a setting that is unknown or out of its bounds
    ├── RunError             a run that failed; its cause is the exception that stopped it
    │   ├── DrainError       a run that was told to end and could not within `drain_timeout_s`
    │   └── RunInterrupted   a run that a second signal stopped at once
    ├── WorkerError          an exception that was raised in a worker process; its cause there does not travel
    ├── StateError           positions or dead letters that cannot be read or written, a state folder in use
    ├── ConnectorError       a source that cannot be read, or a sink that cannot be written (rainband.connectors)
    ├── CodecError           a value that does not travel between processes, or bytes that are none (also a ValueError)
    └── EmitError            a call of emit() or ack() that cannot be right: wrong count, stream, thread, anchor
        └── KeyTypeError     a value that cannot be a key (also a TypeError)

`Reject` stands outside: it is a verdict on a tuple, not an error of the engine, and `except RainbandError` around an
`emit` must not swallow it.

The texts are lower case without a final dot. They name the component, what was expected, what came, and what to write.
Nothing here imports anything of the package, so that every other module and the Rust door can use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .report import Report


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a topology: what, where, expected, got, and what to write.

    Attributes:
        code: name of the kind of mistake, one of `rainband.problems.CODES`.
        where: the component or setting, as `bolt "count"`.
        what: what is wrong.
        expected: what would be right, or empty.
        got: what stands there, or empty.
        fix: what to write instead, or empty.

    Example:
        >>> print(Problem("no_spout", 'topology "t"', "it has no spout", fix="add topology.spout(…)"))
        topology "t": it has no spout; add topology.spout(…)
        >>> print(Problem("x", 'bolt "b"', "bad parallelism", expected="an integer of at least 1", got="0"))
        bolt "b": bad parallelism; expected an integer of at least 1, got 0
    """

    code: str
    where: str
    what: str
    expected: str = ""
    got: str = ""
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        seen = [f"expected {self.expected}"] if self.expected else []
        seen += [f"got {self.got}"] if self.got else []
        return "; ".join(part for part in (text, ", ".join(seen), self.fix) if part)


class RainbandError(Exception):
    """Root of the tree: `except RainbandError` catches whatever rainband raises on purpose.

    Example:
        >>> from rainband import EmitError, RainbandError
        >>> issubclass(EmitError, RainbandError)
        True
    """


class TopologyError(RainbandError):
    """A topology that cannot run. The text lists every mistake, not only the first.

    Attributes:
        problems: the mistakes, in the order of the definition.

    Example:
        >>> from rainband import Topology, TopologyError
        >>> try:
        ...     Topology("empty").check()
        ... except TopologyError as error:
        ...     print(error)
        topology "empty" has 1 mistake:
          topology "empty": it has no spout; add one: topology.spout("source", Source)
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = tuple(problems)

    @classmethod
    def listing(cls, subject: str, problems: Sequence[Problem]) -> TopologyError:
        """An error whose text is a heading and one line a problem.

        Example:
            >>> print(TopologyError.listing("a.yaml", [Problem("x", "a.yaml:1:2", "no name")]))
            a.yaml has 1 mistake:
              a.yaml:1:2: no name
        """
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        return cls("\n  ".join([f"{subject} has {count}:", *map(str, problems)]), problems)


class DefinitionError(TopologyError):
    """A topology file that cannot be read as one. Each problem begins with `file:line:col`.

    Example:
        >>> issubclass(DefinitionError, TopologyError)
        True
    """


class ConfigError(RainbandError):
    """A setting that is unknown, of the wrong type or out of bounds, where no topology is at hand to list it with.

    Attributes:
        problems: every such setting.

    Example:
        >>> from rainband.config import parse_setting
        >>> parse_setting("max_pendin=5")
        Traceback (most recent call last):
            ...
        rainband.errors.ConfigError: --set max_pendin=5: unknown setting "max_pendin"; did you mean "max_pending"?
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = tuple(problems)


class RunError(RainbandError):
    """A run that failed. `__cause__` is the exception that stopped it; the text holds that exception's text.

    Attributes:
        report: what had been counted when it stopped, None if the run never began.

    Example:
        >>> RunError("the run failed").report is None
        True
    """

    def __init__(self, message: str, *, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class DrainError(RunError):
    """A run that was told to end and had not resolved everything after `drain_timeout_s`.

    Example:
        >>> issubclass(DrainError, RunError)
        True
    """


class ConnectorError(RainbandError):
    """A source that cannot be read or a sink that cannot be written, raised by `rainband.connectors`.

    The text names the file (or table, or stream), the place in it, what the system said, and what to do.

    Example:
        >>> issubclass(ConnectorError, RainbandError)
        True
    """


class RunInterrupted(RunError):  # noqa: N818 - as KeyboardInterrupt
    """A run that a second SIGINT or SIGTERM stopped at once; what was pending is in the text.

    Attributes:
        signum: the number of that signal.

    Example:
        >>> RunInterrupted("stopped", signum=2).signum
        2
    """

    def __init__(self, message: str, *, report: Report | None = None, signum: int) -> None:
        super().__init__(message, report=report)
        self.signum = signum


class WorkerError(RainbandError):
    """What a worker process failed of. The exception itself stays there; its text and traceback come along.

    Attributes:
        worker: index of the worker.
        kind: name of the class of the exception.
        traceback: the user's part of it, as Python prints it.

    Example:
        >>> error = WorkerError("process() raised KeyError('a')", worker=1, kind="KeyError", traceback="")
        >>> error.worker, error.kind
        (1, 'KeyError')
    """

    def __init__(self, message: str, *, worker: int, kind: str, traceback: str) -> None:
        super().__init__(message)
        self.worker, self.kind, self.traceback = worker, kind, traceback
        if traceback:
            self.add_note(traceback)


class StateError(RainbandError):
    """A state folder that is in use, or positions or dead letters in it that cannot be read or written.

    Example:
        >>> issubclass(StateError, RainbandError)
        True
    """


class CodecError(RainbandError, ValueError):
    """A value that does not travel between processes, or bytes that are no value.

    The text says where inside the value the refused part is, its type, and what to do.

    Example:
        >>> from rainband import codec
        >>> codec.encode({"rows": [1, print]})
        Traceback (most recent call last):
            ...
        rainband.errors.CodecError: ["rows"][1]: type "builtin_function_or_method" does not travel; register it with \
rainband.codec.register
    """


class EmitError(RainbandError):
    """A call of `emit`, `ack`, `fail` or `end` that cannot be right.

    Raised at the call: before `open` or `prepare`, from another thread than the task's, with the wrong number of
    values, to an unknown stream, anchored to a tuple that was acked. Also once the run was stopped at once, so that a
    call that emits without end comes to one; its tuple stays unacked.

    Example:
        >>> from rainband import Bolt
        >>> Bolt().emit("too early")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        rainband.errors.EmitError: emit() before prepare()...
    """


class KeyTypeError(EmitError, TypeError):
    """A value that has no canonical bytes and so cannot be the key of a grouping, as NaN, a Decimal or a list.

    Example:
        >>> issubclass(KeyTypeError, EmitError) and issubclass(KeyTypeError, TypeError)
        True
    """


class Reject(Exception):  # noqa: N818 - a verdict of the user, not an error
    """Raised by a bolt: this tuple is no good, send it to the dead letters without more attempts.

    Attributes:
        reason: why, as it appears in the dead letter.

    Example:
        >>> raise Reject("no such country: XX")
        Traceback (most recent call last):
            ...
        rainband.errors.Reject: no such country: XX
    """

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason
