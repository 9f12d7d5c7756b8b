"""Which classes travel between processes, under which name, and what a name that came from outside may stand for.

The Rust codec asks here once for every class that it meets (`describe`) and once for every name that it reads
(`resolve`), and keeps the answer; nothing here is on a tuple's path.

What `resolve` promises, as names may come from anybody who can send bytes: it looks into the `__dict__` of modules and
classes and calls nothing that it finds there. It imports a module only if the package that the module belongs to is
loaded already. It gives back only a class whose own name is the one that was asked for and that is exactly of the
announced kind: an Enum, a dataclass, a NamedTuple, a pydantic model, or a class that was registered.

"__main__" is the name of the program's own module in every process, also where multiprocessing calls it "__mp_main__".
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from enum import Enum, Flag
from importlib import import_module
from types import BuiltinFunctionType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Registered", "add", "describe", "name_of", "resolve"]

_MAIN: Final = "__main__"
_MAIN_NAMES: Final = (_MAIN, "__mp_main__")
_ADVICE: Final = "register it with rainband.codec.register"

# Types that the codec knows itself: where they come from, and the word for them.
_LIBRARY: Final = {
    ("datetime", "timezone"): "timezone",
    ("zoneinfo", "ZoneInfo"): "zoneinfo",
    ("decimal", "Decimal"): "decimal",
    ("uuid", "UUID"): "uuid",
    ("numpy", "ndarray"): "array",
    ("numpy", "str_"): "numpy text",
    ("numpy", "bytes_"): "numpy text",
}
_BUILTIN: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range}
)


class Registered(NamedTuple):
    """What a user registered."""

    name: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_guard = threading.Lock()
_by_class: dict[type, Registered] = {}
_by_name: dict[str, Registered] = {}


def name_of(cls: type) -> str:
    """The name under which a class travels.

    Example:
        >>> import decimal
        >>> name_of(decimal.Decimal)
        'decimal:Decimal'
    """
    module = type.__getattribute__(cls, "__module__")
    return f"{_MAIN if module in _MAIN_NAMES else module}:{type.__getattribute__(cls, '__qualname__')}"


def _dotted(cls: type) -> str:
    name = name_of(cls).replace(":", ".")
    return name.removeprefix("builtins.")


# -- what the user registered --------------------------------------------------------------------------------------


def add(entry: Registered) -> None:
    """Keep it.

    Raises:
        ValueError: the class travels already, or another class has the name.
    """
    with _guard:
        if entry.cls in _BUILTIN or _library_word(entry.cls) is not None:
            raise ValueError(f'type "{_dotted(entry.cls)}" travels already and cannot be registered')
        holder = _by_name.get(entry.name)
        if holder is not None and name_of(holder.cls) != name_of(entry.cls):
            raise ValueError(
                f'the name "{entry.name}" is registered for type "{_dotted(holder.cls)}"; '
                f'give type "{_dotted(entry.cls)}" another one with name='
            )
        former = _by_class.get(entry.cls)
        if former is not None:
            del _by_name[former.name]
        if holder is not None:  # the same class, made anew by a reload
            _by_class.pop(holder.cls, None)
        _by_class[entry.cls] = _by_name[entry.name] = entry


# -- what is known of a class --------------------------------------------------------------------------------------


def describe(cls: type) -> tuple[Any, ...]:
    """How values of a class are written: a word, the name on the wire, and what the word needs.

    ("refused", why) tells why they are not.
    """
    entry = _by_class.get(cls)
    if entry is not None:
        return ("registered", entry.name, entry.cls, entry.encode, entry.decode)
    word = _library_word(cls)
    if word is not None:
        return (word,)
    found = _state(cls)
    if found is None:
        return ("refused", _why_not(cls))
    try:
        _find(name_of(cls))
    except CodecError:
        return (
            "refused",
            f': no other process finds "{name_of(cls)}"; define it at the top of a module, or {_ADVICE}',
        )
    return found


def _library_word(cls: type) -> str | None:
    """The word for a class that the codec knows itself; what is not loaded cannot be it."""
    for (module, name), word in _LIBRARY.items():
        if getattr(sys.modules.get(module), name, None) is cls:
            return word
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    if generic is not None and generic in cls.__mro__ and cls.__module__ == "numpy":
        return "scalar"
    return None


def _state(cls: type) -> tuple[Any, ...] | None:
    """The description of an Enum, NamedTuple, model or dataclass; None for what is none of them."""
    mro = type.__getattribute__(cls, "__mro__")
    if Enum in mro:
        return _enum(cls)
    if tuple in mro:
        return _named_tuple(cls, mro)
    if any(type(vars(base).get("__new__")) is BuiltinFunctionType for base in mro[:-1]):
        return None  # what a type in C keeps is not in slots and `__dict__`
    if _model_class() in mro:
        return _object("model", cls, mro, tuple(cls.model_fields))  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(cls):
        return _object("dataclass", cls, mro, tuple(field.name for field in dataclasses.fields(cls)))
    return None


def _model_class() -> Any:
    return getattr(sys.modules.get("pydantic"), "BaseModel", None)


def _why_not(cls: type) -> str:
    for base in cls.__mro__[1:-1]:
        if base in _BUILTIN or _library_word(base) is not None:
            return f": it is a subclass of {_dotted(base)} and would lose what it adds; {_ADVICE}"
    return f"; {_ADVICE}"


def _enum(cls: Any) -> tuple[Any, ...]:
    members = [(member, f"{name_of(cls)}:{member._name_}") for member in cls._member_map_.values()]
    missing = getattr(cls._missing_, "__func__", None)
    has_combinations = issubclass(cls, Flag) and missing is Flag._missing_.__func__  # type: ignore[attr-defined]
    return ("enum", name_of(cls), members, has_combinations, cls)


def _named_tuple(cls: type, mro: tuple[type, ...]) -> tuple[Any, ...] | None:
    for base in mro:
        own = vars(base)
        if tuple in base.__bases__ and {"_fields", "_field_defaults", "_make"} <= own.keys():
            fields = own["_fields"]
            return ("namedtuple", f"{name_of(cls)}({','.join(fields)})", cls, len(fields))
    return None


def _object(word: str, cls: type, mro: tuple[type, ...], names: tuple[str, ...]) -> tuple[Any, ...]:
    slots: dict[str, Any] = {}
    for base in mro:
        for name, found in vars(base).items():
            if type(found) is MemberDescriptorType:
                slots.setdefault(name, found)
    names += tuple(name for name in slots if name not in names)
    fields = [(name, slots.get(name), name not in slots and _is_shadowed(name, mro)) for name in names]
    return (word, f"{name_of(cls)}({','.join(names)})", cls, fields, cls.__dictoffset__ != 0)


def _is_shadowed(name: str, mro: tuple[type, ...]) -> bool:
    found = next((vars(base)[name] for base in mro if name in vars(base)), None)
    return hasattr(type(found), "__set__")


# -- what a name stands for ----------------------------------------------------------------------------------------


def resolve(kind: str, text: str) -> tuple[Any, ...]:
    """What the name `text` of that kind stands for, described as by `describe`.

    Raises:
        CodecError: nothing that may be found has this name and is of this kind.
    """
    if kind == "registered":
        return _resolve_registered(text)
    if kind == "zoneinfo":
        return ("zoneinfo", _zone(text))
    if kind in {"enum", "flag"}:
        name, _, member = text.partition(":")[2].partition(":")
        name = f"{text.partition(':')[0]}:{name}"
    else:
        name, member = text.partition("(")[0], ""
    cls = _find(name)
    found = _state(cls) if cls not in _by_class else None
    if found is None or found[0] != {"flag": "enum"}.get(kind, kind):
        raise CodecError(f'"{name}" is no {_KINDS[kind]}; nothing else is made of a name')
    if kind == "flag":
        if not found[3]:
            raise CodecError(f'"{name}" has no members without a name')
        return ("flag", cls)
    if kind == "enum":
        if member not in cls._member_map_:  # type: ignore[attr-defined]
            raise CodecError(f'"{name}" has no member "{member}"')
        return ("enum", cls._member_map_[member])  # type: ignore[attr-defined]
    if found[1] != text:
        raise CodecError(f'"{text}" was written, but here it is "{found[1]}": the fields differ')
    return found


_KINDS: Final = {
    "enum": "Enum",
    "flag": "Flag",
    "dataclass": "dataclass",
    "model": "pydantic model",
    "namedtuple": "NamedTuple",
}


def _resolve_registered(name: str) -> tuple[Any, ...]:
    entry = _by_name.get(name)
    if entry is None and ":" in name:
        _module(name.partition(":")[0], name)  # importing it may register the class
        entry = _by_name.get(name)
    if entry is None:
        raise CodecError(f'no type is registered as "{name}"; import the module that registers it in every process')
    return describe(entry.cls)


def _zone(key: str) -> Any:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - not every program has dates

    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError) as error:
        raise CodecError(f'there is no time zone "{key}" on this machine ({error})') from error


def _find(name: str) -> type:
    """The class of that name, without calling or importing anything that could not be expected."""
    module, colon, path = name.partition(":")
    if not colon or not path:
        raise _not_found(name)
    found: Any = _module(module, name)
    for part in path.split("."):
        found = _own(found, name).get(part)
    if not issubclass(type(found), type) or name_of(found) != name:
        raise _not_found(name)
    return found  # type: ignore[no-any-return]


def _own(holder: Any, name: str) -> Mapping[str, Any]:
    """The `__dict__` of a module or class, past any `__getattr__`."""
    if issubclass(type(holder), ModuleType):
        return object.__getattribute__(holder, "__dict__")  # type: ignore[no-any-return]
    if issubclass(type(holder), type):
        return type.__getattribute__(holder, "__dict__")  # type: ignore[no-any-return]
    raise _not_found(name)


def _module(module: str, name: str) -> ModuleType:
    if module == _MAIN:
        own = [sys.modules[each] for each in _MAIN_NAMES if each in sys.modules]
        first = name.partition(":")[2].partition(".")[0]
        return next((each for each in own if first in vars(each)), own[0])
    found = sys.modules.get(module)
    if found is not None:
        return found
    if not _is_below_a_loaded_package(module):
        raise _not_found(name)
    try:
        return import_module(module)
    except Exception as error:
        raise CodecError(f'"{name}" is not found: importing "{module}" raised {error!r}') from error


def _is_below_a_loaded_package(module: str) -> bool:
    parts = module.split(".")
    above = [".".join(parts[:n]) for n in range(1, len(parts))]
    loaded = [sys.modules[each] for each in above if each in sys.modules]
    return (
        bool(above)
        and above[0] in sys.modules
        and _MAIN not in parts  # that of a package is a program
        and all(map(str.isidentifier, parts))
        and all("__path__" in _own(each, module) for each in loaded)
    )


def _not_found(name: str) -> CodecError:
    return CodecError(f'"{name}" is not found; import its module in every process')
