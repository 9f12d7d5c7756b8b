"""`Print`: a line per tuple to standard output.

The last stage of a tuple's path, on its own thread. A tuple is acked after its line was written and flushed, one small
write a tuple: who reads the pipe sees a line when it is there, and nothing that was acked is lost in a buffer.

When the reader goes away (`rainband run x.yaml | head`) the run stops with one error; the tuple in hand is not acked.
Standard output is then pointed at nothing, because the interpreter would complain again when it flushes at its exit.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Literal

from rainband._core import Tuple  # noqa: TC001 - the engine looks the annotation up
from rainband.component import Bolt
from rainband.errors import ConnectorError, Reject

from .paths import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Print"]


class Print(Bolt):
    """Prints tuples.

    Args:
        form: "text" (values with tabs between them), "json" (an object of the fields), or a template with fields in
        braces:
            `"{word}: {count:>6}"`.
        to: "stdout" or "stderr".

    Raises:
        ValueError: the template or the stream is none.

    Example:
        >>> from functools import partial
        >>> from rainband.testing import BoltHarness
        >>> with BoltHarness(partial(Print, "{word}: {n:>3}")) as show:
        ...     _ = show.process(word="a", n=1)
        a:   1
    """

    on_error = "stop"

    def __init__(self, form: str = "text", *, to: Literal["stdout", "stderr"] = "stdout") -> None:
        if to not in {"stdout", "stderr"}:
            raise ValueError(f'to is {to!r}; expected "stdout" or "stderr"')
        if form not in {"text", "json"} and "{" not in form:
            raise ValueError(f'form is {form!r}; expected "text", "json" or a template as "{{word}}: {{count}}"')
        self._format: Callable[[Tuple], str] = {"text": _text, "json": _json}.get(form) or _Template(form)
        self._to = to

    def process(self, tup: Tuple) -> None:
        """Print one line.

        Raises:
            ConnectorError: nobody reads it, or the disk behind it is full.
            Reject: the tuple has not what the template wants.
        """
        try:
            line = self._format(tup)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise Reject(f"it cannot be printed: {error!r}") from error
        stream = getattr(sys, self._to)  # looked up now: tests and notebooks put another one there
        try:
            stream.write(f"{line}\n")
            stream.flush()
        except UnicodeEncodeError as error:
            raise Reject(f"{self._to} is {error.encoding} and cannot show {error.object[error.start]!r}") from error
        except OSError as error:
            _silence(stream)
            why = "its reader is gone" if isinstance(error, BrokenPipeError) else reason_of(error)
            raise ConnectorError(f"{self._to} cannot be written: {why}") from error


class _Template:
    def __init__(self, form: str) -> None:
        self._form = form

    def __call__(self, tup: Tuple) -> str:
        return self._form.format(*tup.values, **dict(zip(tup.fields, tup.values, strict=True)))


def _text(tup: Tuple) -> str:
    return "\t".join(map(str, tup.values))


def _json(tup: Tuple) -> str:
    return json.dumps(dict(zip(tup.fields, tup.values, strict=True)), ensure_ascii=False, default=str)


def _silence(stream: object) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        fd = stream.fileno()  # type: ignore[attr-defined]
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, fd)
        os.close(nothing)
