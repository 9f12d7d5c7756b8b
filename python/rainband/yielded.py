"""What a component yields, turned into emits: one rule for generators, async generators, tests and files.

The core has this rule for plain generators in Rust; async generators (`aio`) and harnesses (`testing`) come here.

One declared field: the value itself is yielded. Several: a sequence of that length. Another stream: `to(stream,
*values)`.

    outputs = ["word"]           yield "a"            -> emit("a")
    outputs = ["word", "count"]  yield "a", 1         -> emit("a", 1)
    streams = {"late": [...]}    yield to("late", 7)  -> emit(7, stream="late")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._core import To
from .errors import EmitError

__all__ = ["emit_yielded"]


def emit_yielded(emit: Callable[..., None], streams: Mapping[str, Sequence[str]], value: Any) -> None:
    """Call `emit` with what one yielded value says.

    Args:
        emit: the component's `emit`.
        streams: the fields of each stream of the component.
        value: what was yielded.

    Raises:
        EmitError: the value does not fit the fields of the stream "default".

    Example:
        >>> emit_yielded(print, {"default": ["word", "count"]}, ("a", 1))
        a 1
    """
    if isinstance(value, To):
        emit(*value.values, stream=value.stream)
        return
    fields = streams.get("default", ())
    if len(fields) == 1:
        emit(value)
        return
    if not fields:
        raise EmitError('a value was yielded, but the component declares no fields for the stream "default"')
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        raise EmitError(
            f"yielded a {type(value).__name__}, expected a sequence of the {len(fields)} fields {', '.join(fields)}"
        )
    if len(value) != len(fields):
        raise EmitError(f"yielded {len(value)} values, expected the {len(fields)} fields {', '.join(fields)}")
    emit(*value)
