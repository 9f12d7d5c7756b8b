"""Keeps what user code starts, or asks, from seeing the one core that the engine keeps an executor on (ENGINE 6.3).

Off the tuple's path; called once a process, when the first engine is made. The core lifts the restriction of an
executor at audit events (`rust/py/src/affinity.rs`). Two calls raise none and are wrapped here: starting a thread (they
came with Python 3.12), and asking which cores there are, from which pools take their size. Both pay one call more.
"""

from __future__ import annotations

import _thread
import functools
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._core import _free_core

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

_done = False


def install() -> None:
    """Wrap what raises no audit event; the second call does nothing."""
    global _done  # noqa: PLW0603 - once a process
    if _done:
        return
    _done = True
    if sys.version_info < (3, 12):
        start = _freed(_thread.start_new_thread)
        _thread.start_new_thread = start
        threading._start_new_thread = start  # type: ignore[attr-defined]  # noqa: SLF001 - its own reference
    if hasattr(os, "sched_getaffinity"):
        os.sched_getaffinity = _freed(os.sched_getaffinity)


def _freed(function: F) -> F:
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        _free_core()
        return function(*args, **named)

    return cast("F", call)
