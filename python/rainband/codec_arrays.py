"""dtypes of numpy as values that travel, and back. The Rust codec asks here once for each dtype.

A plain dtype is a text, as "<f8" or "<M8[us]". A structured one is a dict of names, formats, offsets and size; the
format of a field that is itself an array is (format, shape). A dtype that does not come back equal and of the same
scalar type is refused: one with objects, one that a library added. Metadata is left behind, as numpy does.
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["dtype_of", "dtype_spec"]

_PLAIN: Final = re.compile(r"[<>|=]?[biufcmMSUV?]\d*(\[[0-9A-Za-z]+\])?|[a-zA-Z?]")


def dtype_spec(dtype: Any) -> tuple[Any, str | None]:
    """What to write for a dtype, or None and why it does not travel.

    Example:
        >>> import numpy
        >>> dtype_spec(numpy.dtype("float64"))
        ('<f8', None)
    """
    if dtype.hasobject:
        return None, f': its dtype "{dtype}" holds Python objects; emit a list, or an array of another dtype'
    try:
        spec = _spec(dtype)
        again = dtype_of(spec)
        is_same = again == dtype and again.type is dtype.type
    except (ValueError, TypeError, KeyError):
        is_same = False
    if not is_same:
        return None, f': its dtype "{dtype}" would come back as another; emit an array of a plain dtype'
    return spec, None


def _spec(dtype: Any) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return (_spec(base), tuple(int(n) for n in shape))
    if dtype.names is not None:
        held = [(name, *dtype.fields[name]) for name in dtype.names]  # name, dtype, offset[, title]
        return {
            "names": [each[0] for each in held],
            "formats": [_spec(each[1]) for each in held],
            "offsets": [int(each[2]) for each in held],
            "titles": [each[3] if len(each) > 3 else None for each in held],
            "itemsize": int(dtype.itemsize),
        }
    import numpy as np  # noqa: PLC0415 - only where there are arrays

    text = str(dtype.str)
    # On this machine two C types may have one size, as long and long long: then the letter tells them apart.
    return text if np.dtype(text).type is dtype.type else str(dtype.char)


def dtype_of(spec: Any) -> Any:
    """The dtype that was written so.

    Raises:
        ValueError: it is no dtype that `dtype_spec` writes.
    """
    import numpy as np  # noqa: PLC0415 - only where there are arrays

    made = np.dtype(_readable(spec))
    if made.hasobject:
        raise ValueError("a dtype that holds Python objects")
    return made


def _readable(spec: Any) -> Any:
    if type(spec) is str and _PLAIN.fullmatch(spec):
        return spec
    if type(spec) is tuple and len(spec) == 2 and type(spec[1]) is tuple:
        return (_readable(spec[0]), spec[1])
    if type(spec) is dict and spec.keys() == {"names", "formats", "offsets", "titles", "itemsize"}:
        titles = {"titles": spec["titles"]} if any(title is not None for title in spec["titles"]) else {}
        formats = [_readable(each) for each in spec["formats"]]
        return {**{key: spec[key] for key in ("names", "offsets", "itemsize")}, "formats": formats, **titles}
    raise ValueError(f"no dtype: {spec!r}")
