"""What the Rust core gives to worker processes, as types, and the three places where it is called.

The methods of a worker's engine beside those of `run.EngineLike`, and two functions of `rainband._core`. Tests give
their own `NewEngine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from rainband import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rainband.runtime import Runtime

__all__ = ["libzmq_path", "new_engine", "read_slots"]


class WorkerOptions(TypedDict):
    """What `Engine` is told of its worker."""

    worker: int
    incarnation: int
    workers: int
    run_id: bytes
    plan_version: int
    placement: list[int]
    ended: list[int]
    charged: list[tuple[int, int, int]]
    slots: str | None


class WorkerEngine(Protocol):
    """`_core.Engine` of a worker. It starts inactive: spouts emit nothing before `activate`."""

    def own_executors(self) -> list[tuple[int, int, list[int]]]:
        """The executors placed here: (executor index, component index, task ids)."""
        ...

    def is_ready(self) -> bool:
        """Whether all tasks are open."""
        ...

    def run_executor(self, index: int) -> None: ...
    def run_timer(self) -> None: ...
    def wait(self, timeout_s: float) -> str: ...
    def activate(self) -> None: ...
    def deactivate(self) -> None: ...
    def drain(self) -> None: ...
    def stop(self) -> None: ...
    def fail_run(self, error: BaseException) -> None: ...
    def error(self) -> BaseException | None: ...
    def snapshot(self) -> dict[str, Any]: ...
    def pending(self) -> list[tuple[str, int, object, int, float, bool]]: ...

    def run_link(self, inbound: int, libzmq: str) -> None:
        """The body of the I/O thread; returns after `stop_link`."""
        ...

    def stop_link(self) -> None: ...

    def install_view(
        self,
        view: int,
        members: Sequence[tuple[int, int, int]],
        suspects: Sequence[tuple[int, int, int]],
        reason: str,
    ) -> None:
        """Install a view: (worker, incarnation, pointer of the outbound socket or 0); blocks until it is done.

        Roots among `suspects` (owner, its incarnation, attempt) are charged with an attempt, for `reason`.
        """
        ...

    def replay(self, view: int, reason: str) -> None: ...

    def links_up(self) -> bool:
        """Whether every live member of the view is connected, both ways."""
        ...

    def old_roots(self) -> list[tuple[int, int, int]]:
        """The own roots that are older than `audit_s`: (task, incarnation, attempt)."""
        ...

    def look_for(self, roots: Sequence[tuple[int, ...]]) -> tuple[list[int], int] | None:
        """The indexes of those that are here, and a number that grows whenever something moves.

        None if somebody has something in hand, so that nothing can be said.
        """
        ...

    def lose(self, roots: Sequence[tuple[int, ...]]) -> None:
        """Fail those that are pending here as lost."""
        ...

    def standing(self) -> tuple[bool, int, list[tuple[int, int]]]:
        """Whether a spout is at `max_pending`, how many calls there were, and (task, how many) of who holds tuples."""
        ...

    def released_sockets(self) -> list[int]:
        """Pointers that the I/O thread has given back."""
        ...


class NewEngine(Protocol):
    """Makes the engine of a worker."""

    def __call__(self, core: dict[str, Any], runtime: Runtime, worker: WorkerOptions) -> WorkerEngine: ...


class Slots(TypedDict):
    """What a dead worker left in the file of its executors.

    suspects: rows of executor, its task, and of a root of what it had in hand: the task that owns it, that task's
        incarnation, the attempt, a hash of the user's id or 0.
    busy: rows of executor and task, for every executor that had something in hand.
    said: why the worker ended itself; empty if it did not.
    counts: of each task, by name: `executed`, `roots.emitted`, `failed.<reason>`; those that are 0 are left out.
    """

    suspects: list[tuple[int, int, int, int, int, int]]
    busy: list[tuple[int, int]]
    said: str
    counts: list[dict[str, int]]


def new_engine(core: dict[str, Any], runtime: Runtime, worker: WorkerOptions) -> WorkerEngine:
    """The real one."""
    from rainband import homecore  # noqa: PLC0415 - only for the real engine

    homecore.install()
    make: Any = _core.Engine
    engine: WorkerEngine = make(core, runtime, worker)
    return engine


def watch_parent(fd: int) -> None:
    """From now on this process group is killed when the other end of the pipe is closed."""
    _core.watch_parent(fd)  # whatever holds the GIL


def read_slots(path: str) -> Slots:
    """What stands in the file of a worker that is dead."""
    suspects, busy, said, counts = _core.read_slots(path)
    return {"suspects": suspects, "busy": busy, "said": said, "counts": [dict(each) for each in counts]}


def libzmq_path() -> str:
    """The shared object that brings libzmq: the core calls the same copy."""
    from zmq.backend.cython import _zmq  # noqa: PLC0415 - the extension module itself

    return str(_zmq.__file__)
