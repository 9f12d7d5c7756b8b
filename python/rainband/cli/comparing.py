"""What a component emitted against what a test expects, and the difference for people.

Values of the run are brought to what a YAML file can say: tuples are lists, dates, paths, UUIDs and the like their
text, an enum its value. Numbers are equal to nine digits; true is not 1.
"""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rainband.definition.scalars import values_text

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """How the values of one component differ.

    Attributes:
        component: the component, or ``component.stream``.
        order: ``any`` or ``exact``.
        expected: how many values were expected.
        got: how many came.
        lines: the difference, a value a line: ``-`` is missing, ``+`` is too much, two spaces are in both.
    """

    component: str
    order: str
    expected: int
    got: int
    lines: list[str]

    def text(self) -> str:
        """For people."""
        order = "in this order" if self.order == "exact" else "in any order"
        lines = self.lines[:_SHOWN] + ([f"… {len(self.lines) - _SHOWN} more"] if len(self.lines) > _SHOWN else [])
        heading = (
            f"{self.component}: expected {_values(self.expected)} {order}, got {self.got}; - missing, + not expected"
        )
        return "\n".join([heading, *(f"  {line}" for line in lines)])

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def compare(component: str, expected: Sequence[Any], got: Sequence[Any], order: str) -> Difference | None:
    """The difference between two lists of values, or None."""
    wanted, came = [plain(value) for value in expected], [plain(value) for value in got]
    lines = _exact(wanted, came) if order == "exact" else _any(wanted, came)
    if all(line.startswith("  ") for line in lines):
        return None
    return Difference(component, order, len(wanted), len(came), lines)


def _exact(wanted: list[Any], came: list[Any]) -> list[str]:
    if len(wanted) == len(came) and all(map(is_same, wanted, came)):
        return []
    left, right = [values_text(value) for value in wanted], [values_text(value) for value in came]
    lines = [line for line in difflib.ndiff(left, right) if not line.startswith("?")]
    if any(not line.startswith("  ") for line in lines):
        return lines
    return [*(f"- {line}" for line in left), *(f"+ {line}" for line in right)]


def _any(wanted: list[Any], came: list[Any]) -> list[str]:
    left = list(came)
    missing = []
    for value in wanted:
        found = next((index for index, other in enumerate(left) if is_same(value, other)), None)
        if found is None:
            missing.append(value)
        else:
            del left[found]
    return [*(f"- {values_text(value)}" for value in missing), *(f"+ {values_text(value)}" for value in left)]


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    """A value of the run as a file would write it."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=repr)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)


def is_same(first: Any, second: Any) -> bool:
    """Whether two plain values are equal."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first == second or (first != first and second != second) or math.isclose(first, second)  # noqa: PLR0124
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(is_same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(is_same(first[key], second[key]) for key in first)
    return type(first) is type(second) and first == second


def _values(count: int) -> str:
    return f"{count} value{'' if count == 1 else 's'}"
