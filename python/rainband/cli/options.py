"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


if TYPE_CHECKING:
    _PairType = click.ParamType[tuple[str, str]]
    _SecondsType = click.ParamType[float]
else:
    # Generic only since click 8.5.
    _PairType = _SecondsType = click.ParamType


class _Pair(_PairType):
    """``KEY=VALUE``."""

    name = "K=V"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f'expected KEY=VALUE, got "{value}"', param, ctx)
        return key.strip(), text


class _Seconds(_SecondsType):
    """``90``, ``90s``, ``1.5m``, ``2h``."""

    name = "S"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)(ms|s|m|h)?", str(value).strip())
        seconds = float(match[1]) * {"ms": 0.001, "m": 60, "h": 3600}.get(match[2], 1) if match else 0
        if seconds <= 0:
            self.fail(f'expected a time above 0 in seconds, as 90, 1.5m or 2h, got "{value}"', param, ctx)
        return seconds


SECONDS = _Seconds()


def params_option(function: F) -> F:
    """``--param K=V``: values for ``${K}`` of a file, or arguments of a function."""
    text = "Value for ${K} of a file, or argument K of a function. May be repeated; wins over the environment."
    option = click.option("--param", "-p", "params", type=_Pair(), multiple=True, help=text, callback=_as_dict)
    return option(function)


def json_option(function: F) -> F:
    """``--json``: the result as JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Write the result as JSON to stdout.")(function)


def _as_dict(ctx: click.Context, param: click.Parameter, value: Any) -> dict[str, str]:  # noqa: ARG001
    return dict(value)
