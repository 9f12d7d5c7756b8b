"""Values as JSON that come back exactly: positions on disk, and which values of a dead letter JSON says.

None, bool, int, float, str, bytes, tuples and lists of these, dicts with str keys. JSON has no bytes and no tuples,
has no NaN, and joins surrogates, so such values are written as an object with one key:

    (7, b"ab")  ->  {"tuple": [7, {"bytes": "YWI="}]}
    {"a": 1}    ->  {"dict": [["a", 1]]}

Whatever else travels between processes (a date, a dataclass) is written as the bytes of the codec; nobody can read them
in the file, so they are the last resort: {"codec": "xwgH6gsV"}.

Not here: the codec itself, and the canonical bytes of keys, which the core has.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final

from . import codec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["decode", "encode", "encode_any", "encoded_text", "is_exact_json", "safe_repr"]

_MAX_DEPTH: Final = 64  # deeper is a cycle or a mistake, and would end in RecursionError
_PLAIN_INT_BITS: Final = 4096  # longer ones meet the interpreter's limit on digits when they are read back


def is_exact_json(value: Any, depth: int = 0) -> bool:
    """Whether plain JSON says this value exactly, so that reading it back gives an equal one of equal types.

    Example:
        >>> is_exact_json({"a": [1, None]}), is_exact_json((1,)), is_exact_json(b"x")
        (True, False, False)
    """
    if depth > _MAX_DEPTH:
        return False
    kind = type(value)
    if kind is dict:
        return all(type(k) is str and is_exact_json(k) and is_exact_json(v, depth + 1) for k, v in value.items())
    if kind is list:
        return all(is_exact_json(item, depth + 1) for item in value)
    return _is_plain_scalar(value)


def _is_plain_scalar(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return not _has_surrogates(value)
    if kind is float:
        return math.isfinite(value)
    if kind is int:
        return bool(value.bit_length() <= _PLAIN_INT_BITS)
    return value is None or kind is bool


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def safe_repr(value: Any, limit: int = 10_000) -> str:
    """`repr(value)`, cut at `limit` characters, also when the object's own `__repr__` raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def encode(value: Any, *, _depth: int = 0) -> Any:  # noqa: PLR0911 - a table of types
    """What JSON is to say for `value`, so that `decode` gives an equal value of equal types.

    Raises:
        ValueError: the value is, or holds, something else than None, bool, int, float, str, bytes, tuple, list or a
        dict
            with str keys; subclasses count as something else, because they would come back as their base.

    Example:
        >>> decode(encode((1, b"x", [None, 2.5]))) == (1, b"x", [None, 2.5])
        True
    """
    if _depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    if _is_plain_scalar(value):
        return value
    kind = type(value)
    if kind is list:
        return [encode(item, _depth=_depth + 1) for item in value]
    if kind is tuple:
        return {"tuple": [encode(item, _depth=_depth + 1) for item in value]}
    if kind is dict:
        return {"dict": [[_encode_key(key), encode(item, _depth=_depth + 1)] for key, item in value.items()]}
    if kind is bytes:
        return {"bytes": base64.b64encode(value).decode("ascii")}
    if kind is int:
        return {"int": hex(value)}
    if kind is float:
        return {"float": repr(value)}
    if kind is str:
        return {"str": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")}
    raise ValueError(
        f"{safe_repr(value, 80)} is a {kind.__module__}.{kind.__qualname__}; "
        "use None, bool, int, float, str, bytes, or a tuple, list or dict (with str keys) of these"
    )


def encode_any(value: Any) -> Any:
    """As `encode`, for any value that travels.

    Raises:
        CodecError: it does not.

    Example:
        >>> from datetime import date
        >>> encode_any((1, date(2026, 11, 21)))
        {'codec': '1AIBxwgH6gsV'}
    """
    try:
        return encode(value)
    except ValueError:
        return {"codec": encoded_text(value)}


def encoded_text(value: Any) -> str:
    """The bytes of the codec in base64; `codec.decode(base64.b64decode(text))` gives the value.

    Raises:
        CodecError: the value does not travel.
    """
    return base64.b64encode(codec.encode(value)).decode("ascii")


def _encode_key(key: Any) -> Any:
    if type(key) is not str:
        raise ValueError(f"a dict has the key {safe_repr(key, 80)}; keys must be str")
    return encode(key)


def decode(encoded: Any) -> Any:
    """The value that `encode` or `encode_any` was given; a damaged one raises ValueError, KeyError or TypeError."""
    if type(encoded) is list:
        return [decode(item) for item in encoded]
    if type(encoded) is not dict:
        return encoded
    if len(encoded) != 1:
        raise ValueError(f"not an encoded value: {encoded!r}")
    [(tag, content)] = encoded.items()
    if tag not in _DECODERS:
        raise ValueError(f'unknown tag "{tag}"')
    return _DECODERS[tag](content)


_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": lambda content: tuple(decode(item) for item in content),
    "dict": lambda content: {decode(key): decode(item) for key, item in content},
    "bytes": lambda content: base64.b64decode(content, validate=True),
    "int": lambda content: int(content, 16),
    "float": float,
    "str": lambda content: base64.b64decode(content, validate=True).decode("utf-8", "surrogatepass"),
    "codec": lambda content: codec.decode(base64.b64decode(content, validate=True)),
}
