"""`stdin`: lines of standard input.

A marked spout function, so the engine reads it on a helper thread into a bounded queue: a terminal or pipe that says
nothing blocks neither acks nor the end of the run. The helper waits in `poll` for at most `_LOOK_S` and then looks
whether it is to end; `os.read` in place of `sys.stdin`, whose lock would be held by a thread that waits while the
interpreter shuts down. What another part of the program has buffered of standard input is therefore not seen.

Volatile: standard input cannot be read twice, so there are no positions, and what is pending ends with the process.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any, Final

from rainband._core import To, to
from rainband.component import TaskContext  # noqa: TC001 - the engine looks the annotation up
from rainband.errors import ConnectorError
from rainband.function import IDLE, spout

from .malformed import MALFORMED_FIELDS, Malformed, Policy
from .paths import reason_of
from .rows import MAX_ROW_BYTES, canonical_encoding

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["stdin"]

_LOOK_S: Final = 0.2
_BLOCK_BYTES: Final = 64 * 1024


@spout(outputs={"line": str}, streams={"malformed": list(MALFORMED_FIELDS)})
def stdin(
    context: TaskContext, encoding: str = "utf-8", errors: str = "strict", malformed: Policy = "auto", fd: int = 0
) -> Iterator[Any]:
    r"""Lines of standard input, without their line ends, until it ends.

    Args:
        context: given by the engine.
        encoding: of the lines; one in which a newline is one byte, so not UTF-16.
        errors: what to do with bytes that are not of that encoding, as in Python; "strict" makes the line malformed.
        malformed: what becomes of such a line: "auto" (to the stream `malformed` if a bolt takes it, else the run
            stops), "raise" or "skip" (counted and logged).
        fd: another file descriptor to read.

    Raises:
        ConnectorError: it is closed or cannot be read, or several tasks would take turns at it.

    Example:
        >>> import os
        >>> from rainband import TaskContext
        >>> end, begin = os.pipe()
        >>> _ = os.write(begin, b"one\ntwo"); os.close(begin)
        >>> list(stdin(TaskContext(topology="t", component="lines"), fd=end))
        ['one', 'two']
    """
    if len(context.tasks.get(context.component, ())) > 1:
        raise ConnectorError("it has several tasks, but only one can read standard input")
    encoding = canonical_encoding(encoding, errors)
    if "\n".encode(encoding) != b"\n":
        raise ConnectorError(f"standard input cannot be read as {encoding}: convert it, for example with iconv")
    policy = Malformed(malformed)
    refused: list[To] = []
    policy.open(context, lambda *values, stream, id: refused.append(to(stream, *values)))  # noqa: A006, ARG005
    number = 0
    for row in _rows(fd):
        if row is None:
            yield IDLE
            continue
        number += 1
        try:
            yield str(row[:-1] if row[-1:] == b"\r" else row, encoding, errors)
        except UnicodeDecodeError as error:
            reason = f"not {encoding}: {error.reason} at its byte {error.start}"
            policy.add(row, "standard input", number, line=lambda: number, reason=reason)  # noqa: B023 - called at once
            yield from refused
            refused.clear()
    policy.close()


def _rows(fd: int) -> Iterator[bytes | None]:
    """The rows of a descriptor, None while there is nothing."""
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        parts: list[bytes] = []
        while True:
            if not poll.poll(_LOOK_S * 1000):
                yield None
                continue
            try:
                block = os.read(fd, _BLOCK_BYTES)
            except BlockingIOError:  # somebody made it non-blocking and took what poll had seen
                continue
            if not block:
                break
            rows = block.split(b"\n")
            parts.append(rows[0])
            if len(rows) > 1:
                rows[0] = b"".join(parts)
                parts = [rows.pop()]
                yield from rows
            elif sum(map(len, parts)) > MAX_ROW_BYTES:
                raise ConnectorError(f"standard input has no newline in {MAX_ROW_BYTES} bytes; is it text?")
        if rest := b"".join(parts):
            yield rest
    except OSError as error:
        raise ConnectorError(f"standard input cannot be read: {reason_of(error)}") from error
