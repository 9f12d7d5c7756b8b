"""How an exception ends: a text on stderr that says what, where, why and one thing to try, and an exit code.

With ``--json`` on the command line the same goes to stdout as one JSON object, so that a program never has to read
texts. Tracebacks of the user's code are always shown, those of rainband's own only with ``--debug``.
"""

from __future__ import annotations

import json
import os
import traceback
from typing import Any

import click

from rainband.cli import output
from rainband.definition.problem import FileProblem
from rainband.errors import (
    ConfigError,
    ConnectorError,
    DefinitionError,
    DrainError,
    RainbandError,
    RunError,
    RunInterrupted,
    TopologyError,
    WorkerError,
)


class NotFoundError(click.ClickException):
    """A file, module or topology that does not exist."""

    exit_code = 3


class Failed(Exception):  # noqa: N818 - a result that is not good, already told
    """The command has said what is wrong; only its exit code is left.

    Attributes:
        exit_code: of the process.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def report_error(error: BaseException, args: list[str], *, debug: bool = False) -> int:
    """Tells what happened and returns the exit code."""
    if isinstance(error, Failed):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    code = exit_code(error)
    mask = output.mask()
    if "--json" in args:
        output.result(mask(json.dumps(_as_dict(error, code), ensure_ascii=False, indent=2, default=str)))
    _tell(error, debug=debug)
    return code


def exit_code(error: BaseException) -> int:
    """The exit code that belongs to an exception."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, RunInterrupted):
        return 128 + error.signum
    if isinstance(error, DefinitionError):
        only_user = all(getattr(problem, "code", "") == "import_failed" for problem in error.problems)
        return 1 if only_user and error.problems else 78
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (TopologyError, 78),
    (ConfigError, 2),
    (DrainError, 5),
    (RunError, 1),
    (FileNotFoundError, 3),
    (KeyboardInterrupt, 130),
    (click.Abort, 130),
)


def _as_dict(error: BaseException, code: int) -> dict[str, Any]:
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    found: dict[str, Any] = {"error": {"kind": type(error).__name__, "message": text, "exit_code": code}}
    problems = getattr(error, "problems", ())
    if problems:
        found["error"]["problems"] = [output.problem_as_dict(problem) for problem in problems]
    report = getattr(error, "report", None)
    if report is not None:
        found["report"] = json.loads(report.json())
    return found


def _tell(error: BaseException, *, debug: bool) -> None:
    if isinstance(error, click.ClickException):
        _tell_usage(error)
    elif isinstance(error, TopologyError) and error.problems:
        output.problems(error.problems, str(error).partition("\n")[0].rstrip(":"))
    elif isinstance(error, RunError):
        _tell_run(error)
    elif isinstance(error, RainbandError):
        output.error(str(error))
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        output.error("interrupted")
    elif isinstance(error, OSError) and error.filename is not None:
        output.error(f'"{os.fsdecode(error.filename)}": {(error.strerror or str(error)).lower()}')
    elif not debug:
        text = f"{type(error).__name__}: {error}"
        output.error(f"internal error: {text}", fix="run it again with --debug, and report what it shows")
    if debug and not isinstance(error, click.ClickException):
        output.message("".join(traceback.format_exception(error)).rstrip())


def _tell_usage(error: click.ClickException) -> None:
    output.error(error.format_message())
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        output.message(f"try: {context.command_path} --help")


def _tell_run(error: RunError) -> None:
    from rainband.definition.imports import user_traceback  # noqa: PLC0415

    if error.report is not None:
        output.message(str(error.report))
    cause = error.__cause__
    if isinstance(cause, WorkerError):
        if cause.traceback:
            output.message(cause.traceback)
    elif cause is not None and not isinstance(cause, ConnectorError | RunError):
        output.message(user_traceback(cause))
    output.error(str(error))


__all__ = ["Failed", "FileProblem", "NotFoundError", "exit_code", "report_error"]
