"""The codec of values: what travels between worker processes, and types of your own.

    from rainband import codec

    codec.register(Money, encode=lambda money: (money.cents, money.currency), decode=lambda pair: Money(*pair))

Type and value come back exactly, or the value is refused when it is emitted; docs/codec.md lists what travels. The work
is done in Rust; here stand `register`, and the pair `encode` and `decode` for whoever wants to see or keep the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from . import _core
from .codec_types import Registered, add, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["decode", "encode", "register"]

T = TypeVar("T")


def register(cls: type[T], *, name: str | None = None, encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Let values of a class travel. Call it at the top of the module that defines the class, so that every worker does.

    It holds for values whose type is exactly `cls`, not for subclasses.

    Args:
        cls: the class.
        name: what stands for the class in the bytes; "module:Class" if not given. Choose one for values that are kept,
            so that they can be read when the class has moved.
        encode: makes something that travels of a value: a tuple, a dict, a text. Called where the value is emitted.
        decode: makes an equal value of that. Called where it arrives, with bytes that may have come from elsewhere.

    Raises:
        TypeError: `cls` is no class, or `encode` or `decode` cannot be called.
        ValueError: the class travels already, or another class has the name.

    Example:
        >>> from fractions import Fraction
        >>> register(Fraction, encode=lambda f: (f.numerator, f.denominator), decode=lambda pair: Fraction(*pair))
        >>> decode(encode([Fraction(2, 3)]))
        [Fraction(2, 3)]
    """
    if not isinstance(cls, type):
        raise TypeError(f"register() takes a class, got {cls!r}")
    for word, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise TypeError(f"register({cls.__name__}, {word}=…) takes a function, got {function!r}")
    add(Registered(name or name_of(cls), cls, encode, decode))
    _core._forget_types()  # noqa: SLF001 - the door's own


def encode(value: Any, *, pickle: bool = False) -> bytes:
    """The bytes of a value, as they travel.

    Args:
        value: what to write.
        pickle: write what the codec refuses with pickle.

    Raises:
        CodecError: some part of the value does not travel; the text says where it is and what to do.

    Example:
        >>> encode(("word", 1)).hex(" ")
        'd4 02 a4 77 6f 72 64 01'
    """
    return _core._encode(value, pickle=pickle)  # noqa: SLF001 - the door's own


def decode(data: bytes | bytearray | memoryview, *, pickle: bool = False) -> Any:
    """The value that `encode` was given.

    Args:
        data: what it returned.
        pickle: read pickled values, too. Whoever made the bytes can then run any code here.

    Raises:
        CodecError: the bytes are no value, or name a class that is not found.

    Example:
        >>> decode(encode({"at": [1.5, None]}))
        {'at': [1.5, None]}
    """
    return _core._decode(data, pickle=pickle)  # noqa: SLF001 - the door's own
