"""What the commands write: results to stdout, messages to stderr, both without secrets.

Colours only on a terminal, and not with ``NO_COLOR``; click takes them out elsewhere.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

import click

from rainband.definition.problem import FileProblem, Masker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rainband.errors import Problem

_masks: list[Masker] = []
_results: list[TextIO] = []
_MOST_PROBLEMS = 100  # a file with more is not meant to be one of ours


def hide(masker: Masker) -> None:
    """From now on the secrets of ``masker`` are hidden in everything written here, and in all log records."""
    if not masker:
        return
    _masks.append(masker)
    if len(_masks) == 1:
        _mask_logs()


def _mask_logs() -> None:
    """Masks records where they are made, so that it holds for every handler, the user's own too."""
    make = logging.getLogRecordFactory()

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        hidden = mask()
        # A record with wrong arguments is left to logging, which tells about it.
        with suppress(TypeError, ValueError, KeyError):
            record.msg, record.args = hidden(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = hidden("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        return record

    logging.setLogRecordFactory(masked)


def mask() -> Masker:
    """All secrets known so far, as one function over texts."""

    class All(Masker):
        def __call__(self, text: str) -> str:
            for each in _masks:
                text = each(text)
            return text

    return All()


@contextmanager
def prints_to_stderr(*, when: bool) -> Iterator[None]:
    """What the user's code prints meanwhile goes to stderr, so that stdout is one JSON text."""
    _results.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr) if when else nullcontext():
            yield
    finally:
        _results.pop()


def result(text: str) -> None:
    """Writes a part of the result to stdout."""
    click.echo(mask()(text), file=_results[-1] if _results else None)


def result_json(value: Any) -> None:
    """Writes the result as JSON to stdout."""
    result(json.dumps(value, ensure_ascii=False, indent=2, default=repr))


def message(text: str, **style: Any) -> None:
    """Writes a message to stderr."""
    text = mask()(text)
    click.echo(click.style(text, **style) if style else text, err=True)


def error(text: str, *, fix: str = "") -> None:
    """Writes an error to stderr, with one thing to try."""
    click.echo(click.style("error: ", fg="red", bold=True) + mask()(text), err=True)
    if fix:
        message(f"try: {fix}")


def problems(found: Sequence[Problem], heading: str) -> None:
    """Writes every mistake of a topology to stderr, those of files with their line and a caret."""
    for problem in found[:_MOST_PROBLEMS]:
        if not isinstance(problem, FileProblem):
            message(str(problem))
            continue
        click.echo(click.style(f"{problem.where}: ", bold=True) + mask()(problem.message), err=True)
        if problem.excerpt:
            number = f"{problem.line:>5} | "
            line = problem.excerpt.replace("\t", " ")
            caret = " " * (len(number) + problem.column - 1) + click.style("^", fg="red", bold=True)
            click.echo(mask()(number + line) + "\n" + caret, err=True)
        if problem.details:
            message("\n".join("      " + line for line in problem.details.splitlines()))
    if len(found) > _MOST_PROBLEMS:
        message(f"… {len(found) - _MOST_PROBLEMS} more; --json shows all of them")
    error(heading)


def problem_as_dict(problem: Any) -> dict[str, Any]:
    """A problem for ``--json``."""
    if isinstance(problem, FileProblem):
        return dict(problem.as_dict())
    keys = ("code", "where", "what", "expected", "got", "fix")
    return {"message": str(problem)} | {key: getattr(problem, key) for key in keys if getattr(problem, key, "")}
