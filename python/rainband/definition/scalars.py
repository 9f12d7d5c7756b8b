"""Scalars by the core schema of YAML 1.2, and nothing of YAML 1.1.

``on``, ``no``, ``yes``, ``12:30``, ``0b1``, ``1_000`` and dates stay text; ``012`` is the number 12, ``0o14`` the
octal one. Only plain scalars are read this way: whatever stands in quotes or in a block is text.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_NUMBER: Final = re.compile(
    r"""(?P<int>[-+]?[0-9]+)
      | 0o(?P<oct>[0-7]+)
      | 0x(?P<hex>[0-9a-fA-F]+)
      | (?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)
      | (?P<inf>[-+]?\.(?:inf|Inf|INF))
      | (?P<nan>\.(?:nan|NaN|NAN))""",
    re.VERBOSE,
)
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_SAFE: Final = re.compile(r"[A-Za-z_./][A-Za-z0-9_ ./:-]*")
_NUMBER_STARTS: Final = frozenset("-+.0123456789")

MAX_DIGITS: Final = 400
"""Longer integers are refused: nobody means them, and Python refuses to print them beyond 4,300 digits."""


def read_scalar(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar.

    Raises:
        ValueError: an integer of more than ``MAX_DIGITS`` digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    # Most scalars are names; the first character spares them the regular expression.
    if text[0] not in _NUMBER_STARTS:
        return text
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    kind = match.lastgroup
    if kind in ("int", "oct", "hex"):
        if len(text) > MAX_DIGITS:
            msg = f"a whole number of {len(text)} digits"
            raise ValueError(msg)
        return int(match[kind], {"int": 10, "oct": 8, "hex": 16}[kind])
    if kind == "float":
        return float(text)
    return float("nan") if kind == "nan" else float(text[0] + "inf" if text[0] in "-+" else "inf")


def plain_text(value: str) -> str:
    """``value`` as it must be written in a file to be read as the same text: in quotes where it needs them."""
    safe = _SAFE.fullmatch(value) and ": " not in value and not value.endswith((" ", ":"))
    if safe and read_scalar(value) == value:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in quoted)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def values_text(value: Any) -> str:
    """Any plain value as it would stand in a file, on one line."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(values_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {values_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str):
        return plain_text(value)
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
