"""Whether two values are the same in type and content, all the way down; stricter than `==`.

Checked mode compares what was emitted with what comes back from the codec. Equality is not enough for that: 1, 1.0 and
True are equal, nan is not equal to itself, and arrays compare element by element. Values are as deep as the codec
allows, so pairs that are still to be compared stand in a list and not on the stack.
"""

from __future__ import annotations

import struct
from datetime import datetime, time, timezone
from decimal import Decimal
from enum import Enum
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["same"]

_UNSET: Final = object()
_BY_REPR: Final = (Decimal, timezone)


def same(left: Any, right: Any) -> bool:
    """Whether both are of the same type and hold the same.

    Example:
        >>> same([1, float("nan")], [1, float("nan")]), same((1,), (1.0,)), same({"a": 1, "b": 2}, {"b": 2, "a": 1})
        (True, False, False)
    """
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if one is other:
            continue
        if type(one) is not type(other) or isinstance(one, Enum):
            return False
        inner = _within(one, other)
        if inner is None:
            return False
        pairs.extend(inner)
    return True


def _within(one: Any, other: Any) -> Iterable[tuple[Any, Any]] | None:  # noqa: PLR0911 - a table of types
    """What of two values of one type has to be the same, too; None if they differ by themselves."""
    kind: Any = type(one)
    if isinstance(one, dict | list | tuple | set | frozenset):
        return _elements(one, other)
    if kind is float:
        return _if(struct.pack("d", one) == struct.pack("d", other))
    if kind is complex:
        return [(one.real, other.real), (one.imag, other.imag)]
    if kind in _BY_REPR:
        return _if(repr(one) == repr(other))
    if kind is datetime or kind is time:
        is_same = one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold
        return [(one.tzinfo, other.tzinfo)] if is_same else None
    if hasattr(one, "tobytes") and hasattr(one, "dtype") and not isinstance(one, str | bytes):  # numpy
        return _if(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if (
        kind.__eq__ is object.__eq__
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__pydantic_fields_set__")
    ):
        return _state(one, other)
    return _if(one == other)


def _if(is_same: object) -> list[tuple[Any, Any]] | None:
    return [] if is_same else None


def _elements(one: Any, other: Any) -> Iterable[tuple[Any, Any]] | None:
    if len(one) != len(other):
        return None
    if isinstance(one, dict):
        ours, theirs = ([each for item in held.items() for each in item] for held in (one, other))
        return zip(ours, theirs, strict=True)
    if isinstance(one, set | frozenset):
        return _if(_same_sets(one, other))
    return [*zip(one, other, strict=True), *_state(one, other)]


def _same_sets(one: Collection[Any], other: Collection[Any]) -> bool:
    equals = {element: element for element in other}
    # An element that is not equal to itself, as nan, is only found by looking at each.
    return all(same(each, equals[each]) if each in equals else any(same(each, o) for o in other) for each in one)


def _state(one: Any, other: Any) -> list[tuple[Any, Any]]:
    slots = [
        found for base in type(one).__mro__ for found in vars(base).values() if type(found) is MemberDescriptorType
    ]
    held = [(_slot(slot, one), _slot(slot, other)) for slot in slots]
    return [*held, (getattr(one, "__dict__", None), getattr(other, "__dict__", None))]


def _slot(slot: Any, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:
        return _UNSET
