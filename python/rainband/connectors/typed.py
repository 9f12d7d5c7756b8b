"""Values of the types that the wiring declares: what CSV says as text is converted, what JSON says is checked.

Called by `jsonlines` and `csvfiles` for every value of a declared type. Types that have no text form of their own
(`list`, classes of the user) are left alone.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["checker", "converter"]

_BOOLS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _bool(text: str) -> bool:
    value = _BOOLS.get(text.strip().lower())
    if value is None:
        raise ValueError("expected true or false")
    return value


_CONVERTERS: Final[dict[Any, Callable[[str], Any]]] = {
    int: int,
    float: float,
    bool: _bool,
    Decimal: Decimal,
    UUID: UUID,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
}


def converter(kind: Any) -> Callable[[str], Any] | None:
    """What makes a value of that type of text; None if text stays text. It raises on text that is no such value.

    Example:
        >>> converter(int)("7"), converter(bool)("no"), converter(str)
        (7, False, None)
    """
    return _CONVERTERS.get(kind)


def checker(kind: Any) -> Callable[[Any], bool] | None:
    """What tells whether a JSON value is of that type; None if any is.

    Example:
        >>> is_float = checker(float)
        >>> is_float(1), is_float(1.5), is_float(True), is_float("1")
        (True, True, False, False)
    """
    if kind is float:
        return lambda value: type(value) in {int, float}
    if kind in {int, bool, str, list, dict}:
        return lambda value: type(value) is kind
    return None
