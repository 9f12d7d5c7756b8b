"""Exceptions that cross from a worker to the supervisor: as texts, and there as a `WorkerError`.

Nothing is pickled, so the class of a user's exception does not travel; its name, text and the user's part of its
traceback do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rainband.errors import ConnectorError, RunError, StateError, TopologyError, WorkerError

from .messages import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rainband.plan import CompiledPlan

__all__ = ["another_topology", "load_failure", "run_failure", "worker_error"]


def load_failure(error: BaseException) -> LoadFailed:
    """Why the topology could not be loaded."""
    from rainband.definition.imports import user_traceback  # noqa: PLC0415 - only for what goes wrong

    is_invalid = isinstance(error, TopologyError)
    details = "\n".join(d for d in (getattr(p, "details", "") for p in getattr(error, "problems", ())) if d)
    trace = details if is_invalid else user_traceback(error)
    return LoadFailed(type(error).__name__, _text(error), trace, is_invalid)


def run_failure(error: BaseException, text: str) -> list[str]:
    """Why a run failed: name of the class, text, traceback."""
    from rainband.definition.imports import user_traceback  # noqa: PLC0415

    says_all = isinstance(error, ConnectorError | StateError)  # what went wrong, and where; the way there is ours
    return [type(error).__name__, text, "" if says_all else user_traceback(error)]


def worker_error(worker: int, told: Sequence[str]) -> WorkerError:
    """What a worker told, as an exception."""
    kind, text, traceback = told
    return WorkerError(f"worker {worker}: {text}", worker=worker, kind=kind, traceback=traceback)


def another_topology(worker: int, plan: CompiledPlan, found: Mapping[str, str]) -> RunError:
    """A worker did not find the topology that this process has.

    Args:
        worker: its index.
        plan: of this process.
        found: hashes of the worker's components.
    """
    own = {each.name: each.hash for each in plan.components}
    names = sorted({name for name, code in {*own.items()} ^ {*found.items()}})
    which = ", ".join(f'"{name}"' for name in names)
    what = f"component {which}" if len(names) == 1 else f"components {which}" if names else "the topology"
    return RunError(
        f"worker {worker} found another topology than this process: {what} differs; "
        "make it so that it comes out alike wherever it is imported (no random values, dates or process ids in it)"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return type(error).__name__
