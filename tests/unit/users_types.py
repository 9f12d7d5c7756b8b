"""Types of a user that travel, and some that must not be touched. They are found by name, so they stand in a module."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import pydantic

TOUCHED: list[str] = []
"""What was called that decoding must not call."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = (0, 0, 255)
    CRIMSON = "red"  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Odd(enum.Flag):
    ONE = 1
    TWO = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        TOUCHED.append("_missing_")
        return super()._missing_(value)


@dataclass
class Point:
    x: int
    tags: list[Any] = field(default_factory=list)
    size: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        TOUCHED.append("__post_init__")

    @cached_property
    def double(self) -> int:
        return self.x * 2


class Point3(Point):
    z: int = 3


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: Any = None


@dataclass
class Shadowed:
    value: Any

    def __setattr__(self, name: str, value: Any) -> None:
        TOUCHED.append("__setattr__")
        super().__setattr__(name, value)

    def _get(self) -> Any:
        TOUCHED.append("get")
        return self.__dict__["value"]

    def _set(self, value: Any) -> None:
        TOUCHED.append("set")
        self.__dict__["value"] = value


Shadowed.value = property(Shadowed._get, Shadowed._set)


@dataclass
class OfDict(dict[str, int]):
    x: int = 0


class Pair(NamedTuple):
    left: Any
    right: Any = "r"


Old = namedtuple("Old", "a b")  # noqa: PYI024 - the older form travels, too


class Labelled(Pair):
    label: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    kinds: ClassVar[int] = 3
    a: int
    b: list[int] = []
    _note: str = pydantic.PrivateAttr("n")

    def model_post_init(self, context: Any, /) -> None:
        TOUCHED.append("model_post_init")


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Money:
    """Registered by the tests."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return type(other) is Money and other.cents == self.cents

    def __hash__(self) -> int:
        return hash(self.cents)


class Dangerous:
    def __new__(cls, *_: Any) -> Any:
        TOUCHED.append("__new__")
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        TOUCHED.append("__init__")

    def __setstate__(self, state: Any) -> None:
        TOUCHED.append("__setstate__")


class Meta(type):
    def __getattr__(cls, name: str) -> Any:
        TOUCHED.append(f"metaclass {name}")
        raise AttributeError(name)

    def __call__(cls, *_: Any) -> Any:
        TOUCHED.append("metaclass call")


class WithMeta(metaclass=Meta):
    pass


def function(*_: Any) -> None:
    TOUCHED.append("function")


def __getattr__(name: str) -> Any:
    TOUCHED.append(f"module {name}")
    raise AttributeError(name)


alias = Point


class MyList(list[int]):
    pass


class MyInt(int):
    pass


class Plain:
    pass


def made(cls: Any, /, *args: Any, **attributes: Any) -> Any:
    """An instance with attributes beside its fields."""
    value = cls(*args)
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
    return value


def without(cls: Any, **attributes: Any) -> Any:
    """An instance whose constructor was not called."""
    value = object.__new__(cls)
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
    return value
