"""Checked mode: declared types hold at every emit, nobody changes a value that was emitted, and every value can travel.

Beside the tuple's path, and only with `checked=True`: the core calls `Checker.emit` in the collector, keeps the `Token`
with the tuple, and calls `Checker.receive` before and after the call that receives it. Values travel by reference, so a
sender that goes on filling a list, or a receiver that sorts it, changes what others see; that is found here, at the
next look, and named.

What is looked at: the contents of lists, dicts, sets, deques, bytearrays, arrays, dataclasses and other objects with
attributes, down to a limit. A field whose value cannot change costs a look at its type. Contents are remembered as one
hash a field and a short text for the message; nothing is copied. Not found: a change that is undone before the next
look.

With more than one worker every value is sent through the codec, also where the receiver is in the same process, and
must come back the same: which tasks share a process is nothing to rely on.
"""

from __future__ import annotations

import types
import typing
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

from . import codec
from .errors import CodecError, EmitError
from .exact import safe_repr
from .sameness import same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .check import StreamShape
    from .plan import ComponentPlan

__all__ = ["Checker", "Token", "fingerprint", "matches"]

_MAX_NODES: Final = 10_000  # objects that one fingerprint looks at; what lies beyond may change unseen
_SHOWN: Final = 80  # characters of a value in a message
_UNCHANGING: Final = frozenset({type(None), bool, int, float, complex, str, bytes, range, type, types.FunctionType})
_OPAQUE: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


@dataclass(frozen=True, slots=True)
class Token:
    """What the values of one tuple were when it was emitted.

    Attributes:
        sender: the emitting component and stream, as texts name them.
        fields: names of the fields that can change.
        at: their places in the tuple.
        prints: their fingerprints.
        texts: how they looked.
    """

    sender: str
    fields: tuple[str, ...]
    at: tuple[int, ...]
    prints: tuple[int, ...]
    texts: tuple[str, ...]


class Checker:
    """Checks the tuples of one run.

    Example:
        >>> from rainband import EmitError, bolt
        >>> from rainband.plan import compile_component
        >>> @bolt(outputs={"words": list})
        ... def split(line): ...
        >>> checker = Checker([compile_component("bolt", split, name="split")])
        >>> words = ["a", "b"]
        >>> token = checker.emit(0, "default", (words,))
        >>> words.append("c")
        >>> try:
        ...     checker.receive(0, token, (words,), "before")
        ... except EmitError as error:
        ...     print(str(error).partition(": it was")[0])
        bolt "split" stream "default": field "words" was changed after it was emitted
    """

    def __init__(self, components: Sequence[ComponentPlan], *, must_travel: bool = False) -> None:
        self._names = [component.where for component in components]
        self._streams: list[Mapping[str, StreamShape]] = [
            {shape.name: shape for shape in component.streams} for component in components
        ]
        self._must_travel = must_travel

    def emit(self, component: int, stream: str, values: tuple[Any, ...]) -> Token | None:
        """Check the types of what is emitted; a token if any of it can change.

        Raises:
            EmitError: a value is not of the declared type, or it must travel between workers and cannot.
        """
        shape = self._streams[component][stream]
        changing = []
        for place, ((name, declared), value) in enumerate(zip(shape.fields.items(), values, strict=True)):
            if declared is not None and not matches(value, declared):
                raise EmitError(
                    f'{self._names[component]} stream "{stream}": field "{name}" is declared {_type_text(declared)}, '
                    f"got {type(value).__name__} ({_shown(value)})"
                )
            if self._must_travel:
                self._send(component, shape, name, value)
            if type(value) not in _UNCHANGING:
                changing.append((name, place, fingerprint(value), _shown(value)))
        if not changing:
            return None
        return Token(f'{self._names[component]} stream "{stream}"', *zip(*changing, strict=True))

    def _send(self, component: int, shape: StreamShape, name: str, value: Any) -> None:
        where = f'{self._names[component]} stream "{shape.name}": field "{name}"'
        try:
            again = codec.decode(codec.encode(value, pickle=shape.pickle), pickle=shape.pickle)
        except CodecError as error:
            raise EmitError(f"{where} cannot travel to another worker: {error}") from error
        if not same(value, again):
            raise EmitError(
                f"{where} comes from another worker as something else: it was {_shown(value)} and is {_shown(again)}; "
                "correct the encode or decode of its type"
            )

    def receive(self, component: int, token: Token, values: tuple[Any, ...], when: Literal["before", "after"]) -> None:
        """Check that the values are what they were when they were emitted.

        Args:
            component: the receiving one.
            token: from `emit`.
            values: of the tuple.
            when: before the receiver is called, or after its call has ended.

        Raises:
            EmitError: a value was changed.
        """
        for name, place, before, text in zip(token.fields, token.at, token.prints, token.texts, strict=True):
            value = values[place]
            if fingerprint(value) == before:
                continue
            now = _shown(value)
            seen = f"it was {text} and is {now}" if now != text else f"it is {now}, and something inside differs"
            if when == "before":
                what = f'{token.sender}: field "{name}" was changed after it was emitted'
            else:
                what = f'{self._names[component]} changed field "{name}" of a tuple of {token.sender}'
            raise EmitError(f"{what}: {seen}; {'emit' if when == 'before' else 'work on'} a copy, or do not change it")


def matches(value: Any, declared: Any) -> bool:  # noqa: PLR0911 - a table of types
    """Whether a value is of a declared type. What is inside containers is not looked at; int passes for float.

    Example:
        >>> matches(1, float), matches("1", int | None), matches([1], list[str]), matches(None, str)
        (True, False, True, False)
    """
    if declared is Any or declared is object:
        return True
    if declared is None:
        return value is None
    if isinstance(declared, type) and not isinstance(declared, types.GenericAlias):
        return _is_instance(value, declared)
    origin = get_origin(declared)
    if origin is Union or origin is types.UnionType:
        return any(matches(value, option) for option in get_args(declared))
    if origin is typing.Annotated:
        return matches(value, get_args(declared)[0])
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(declared))
    if isinstance(origin, type):
        return _is_instance(value, origin)
    supertype = getattr(declared, "__supertype__", None)  # of a NewType
    return True if supertype is None else matches(value, supertype)


def _is_instance(value: Any, declared: type) -> bool:
    if declared is float:
        return isinstance(value, float | int)
    if declared is complex:
        return isinstance(value, complex | float | int)
    try:
        return isinstance(value, declared)
    except TypeError:  # a protocol that cannot be checked
        return True


def _shown(value: Any) -> str:
    text = safe_repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _type_text(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) and not get_args(declared) else str(declared)


def fingerprint(value: Any) -> int:
    """A hash of an object and of what it holds; equal as long as nothing of it changes.

    Example:
        >>> row = {"words": ["a"]}
        >>> before = fingerprint(row)
        >>> row["words"].append("b")
        >>> fingerprint(row) == before
        False
    """
    return _Fingerprint().of(value)


class _Fingerprint:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, value: Any) -> int:
        kind = type(value)
        if kind in _UNCHANGING:
            return hash((kind, value))
        if id(value) in self._seen or len(self._seen) >= _MAX_NODES or isinstance(value, _OPAQUE):
            return id(value)
        self._seen.add(id(value))
        return hash((kind, self._contents(value)))

    def _contents(self, value: Any) -> Any:
        if isinstance(value, dict):
            return tuple((self.of(key), self.of(item)) for key, item in value.items())
        if isinstance(value, list | tuple | deque):
            return tuple(map(self.of, value))
        if isinstance(value, set | frozenset):
            return frozenset(map(self.of, value))
        if isinstance(value, bytearray | array | memoryview):
            return bytes(value)
        if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # numpy and its relatives
            return (str(value.dtype), tuple(value.shape), value.tobytes())
        return self._attributes(value)

    def _attributes(self, value: Any) -> Any:
        names = [name for cls in type(value).__mro__ for name in _slots(cls)]
        found = [self.of(getattr(value, name)) for name in names if hasattr(value, name)]
        own = getattr(value, "__dict__", None)
        if own:
            found.append(self.of(own))
        return tuple(found) if found else id(value)


def _slots(cls: type) -> Sequence[str]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(name for name in slots if not name.startswith("__"))
