"""One incarnation of a worker, from its first word to its last: loads the topology, runs its part, leaves.

The supervisor decides, this obeys; in order:

    Hello, Planned            found and compiled the topology (or LoadFailed)
    Start                     makes the engine, binds the inbound socket, starts the I/O thread: Bound
    View …                    sockets to all live peers, `install_view`: Installed; after the first the executors start
    Ready                     the tasks are open and all links of the view are up
    Activated                 spouts emit; State every quarter of a second
    Over                      all own executors are over; the I/O thread goes on for the peers
    Finish                    closes everything and returns

The thread that calls `run` is the loop: it owns the control channel and makes all sockets. `install_view` and `replay`
may wait for executors, and those for the supervisor's reply to a request, so they run on a thread of their own, in
order. Runs as the main thread of a process (`processes`) or as a thread (`threads`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import zmq

from rainband.engine_threads import EngineThreads
from rainband.runtime import Runtime

from . import logs, native
from .control import Client
from .failures import load_failure, run_failure
from .keys import Doorkeeper
from .merge import pending_rows
from .messages import (
    Activated,
    AskPending,
    Bound,
    Deactivated,
    Drain,
    Finish,
    Hello,
    Installed,
    Look,
    Looked,
    Lose,
    Over,
    PendingRows,
    Planned,
    Ready,
    Replay,
    Start,
    State,
    Stop,
    View,
)
from .remote import RemoteState
from .sockets import DataSockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from rainband.plan import CompiledPlan

    from .assignment import Assignment
    from .messages import Message
    from .native import NewEngine, WorkerEngine

__all__ = ["Worker"]

_REPORT_S: Final = 0.25
_NAP_S: Final = _REPORT_S  # whatever else happens rings
_SHORT_NAP_S: Final = 0.01  # while links come up, and while threads end
_LINK_GRACE_S: Final = 5.0  # for the I/O thread to return
_OVER: Final = frozenset({"ended", "failed", "stopped"})
_log = logging.getLogger("rainband.cluster")


class Worker:
    """One incarnation of a worker.

    Args:
        assignment: who it is.
        load: finds and compiles the topology.
        new_engine: makes the engine.
        pid: told to the supervisor.
        on_start: told the state folder, before the engine is made.
    """

    def __init__(
        self,
        assignment: Assignment,
        load: Callable[[], CompiledPlan],
        *,
        new_engine: NewEngine,
        pid: int,
        on_start: Callable[[Path], object] | None = None,
    ) -> None:
        self.assignment = assignment
        self.is_stuck = False  # threads were left behind inside user code
        self._on_start = on_start
        self._load = load
        self._new_engine = new_engine
        self._pid = pid
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        keys = assignment.keys
        self._door = None if keys is None else Doorkeeper(self._context)
        own = None if keys is None else keys.own
        self._key = "" if own is None else own.public
        enter = _open if keys is None or own is None else partial(own.enter, server=keys.supervisor)
        self.client = Client(
            self._context, assignment.control, (assignment.worker, assignment.incarnation), enter, self._door
        )
        self._sockets = DataSockets(
            self._context, _open if own is None else own.guard, _open_to if own is None else own.enter
        )
        self._plan: CompiledPlan | None = None
        self._part: _Part | None = None
        self._is_leaving = False

    def run(self) -> bool:
        """Do the work; True if it ended as it should, False if the topology could not be loaded.

        Raises:
            Exception: a defect of ours.
        """
        try:
            self.client.post(Hello(self._pid))
            self.client.poll(0.0)  # loading may take its time
            try:
                self._plan = self._load()
            except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit too
                self.client.post(load_failure(error))
                return False
            self.client.post(Planned(self._plan.plan_hash, {each.name: each.hash for each in self._plan.components}))
            while not self._is_leaving:
                for message in self.client.poll(self._nap_s()):
                    self._obey(message)
                if self._part is not None:
                    self._part.look()
            return True
        finally:
            self._close()

    def abandon(self) -> None:
        """Leave as if killed, without a last word; from any thread. Only a worker that is a thread needs it."""
        self._is_leaving = True
        if self._part is not None:
            self._part.engine.stop()
        self.client.wake()

    def _nap_s(self) -> float:
        return _SHORT_NAP_S if self._part is not None and self._part.is_hurried else _NAP_S

    def _obey(self, message: Message) -> None:
        part = self._part
        if isinstance(message, Start):
            assert self._plan is not None
            if self._on_start is not None:
                self._on_start(Path(message.state_dir))
            self._part = _Part(self.assignment, self._plan, message, self.client, self._sockets, self._new_engine)
            self.client.post(Bound(self._part.endpoint, self._key))
        elif isinstance(message, Finish) or part is None:  # whatever comes before a start, it is no start
            self._is_leaving = True
        elif isinstance(message, View):
            if self._door is not None:
                self._door.allow(key for _, _, endpoint, key in message.members if endpoint is not None)
            part.take_view(message)
        else:
            part.obey(message)

    def _close(self) -> None:
        part = self._part
        if part is not None:
            part.close()
            self.is_stuck = part.is_stuck
        self.client.close()
        if self._door is not None:
            self._door.close()
        if part is None or not part.is_link_stuck:  # else its sockets are still in use
            self._sockets.close()
            self._context.term()


def _open(socket: zmq.Socket[bytes]) -> None:
    """Without encryption there is nothing to configure."""


def _open_to(socket: zmq.Socket[bytes], key: str) -> None:
    """As `_open`, for a socket to a peer."""


class _Part:
    """The engine of a worker with all that belongs to it, from `Start` to `Finish`."""

    def __init__(  # noqa: PLR0917 - of the one caller above
        self,
        assignment: Assignment,
        plan: CompiledPlan,
        start: Start,
        client: Client,
        sockets: DataSockets,
        new_engine: NewEngine,
    ) -> None:
        self._client = client
        self._sockets = sockets
        self._worker = assignment.worker
        self._plan = plan
        self.runtime = Runtime(plan, RemoteState(client, start))
        options: native.WorkerOptions = {
            "worker": assignment.worker,
            "incarnation": assignment.incarnation,
            "workers": assignment.workers,
            "run_id": bytes.fromhex(start.run_id),
            "plan_version": int(plan.plan_hash[:16], 16),
            "placement": start.placement,
            "ended": start.ended,
            "charged": [(task, identity, attempts) for task, identity, attempts in start.charged],
            "slots": start.slots,
        }
        self.engine: WorkerEngine = new_engine(plan.core, self.runtime, options)
        pointer, self.endpoint = sockets.bind(start.endpoint)
        executors = self.engine.own_executors()
        own = [(index, plan.components[component].name) for index, component, _ in executors]
        self._threads = EngineThreads(self.engine, own, self._on_defect, client.wake)
        for thread, (_, component, tasks) in zip(self._threads.all, executors, strict=False):  # and a timer
            logs.mark(thread, f"{plan.name}/{plan.components[component].name}/{'+'.join(map(str, tasks))}")
        self._has_started = False
        self._is_told_over = False
        self._installed = 0  # the latest view; written by the commands' thread
        self._ready = 0  # the latest view of which `Ready` was told
        self._report_at = time.monotonic()
        self._audit_at = self._report_at + plan.config["audit_s"]
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._helpers = [
            threading.Thread(
                target=self._guarded,
                args=(partial(self.engine.run_link, pointer, native.libzmq_path()),),
                name=f"rainband-link-{assignment.worker}",
                daemon=True,
            ),
            threading.Thread(
                target=self._guarded, args=(self._command,), name=f"rainband-views-{assignment.worker}", daemon=True
            ),
        ]
        for helper in self._helpers:
            helper.start()

    # -- the supervisor's words ------------------------------------------------------------------------------------

    def take_view(self, message: View) -> None:
        """Make the sockets that are missing, and have the view installed."""
        members: list[tuple[int, int, int]] = []
        for worker, incarnation, endpoint, key in message.members:
            is_peer = endpoint is not None and worker != self._worker
            pointer = self._sockets.connect(worker, incarnation, endpoint, key) if is_peer else 0
            members.append((worker, incarnation, pointer))
        suspects = [(task, incarnation, attempt) for task, incarnation, attempt in message.suspects]
        self._commands.put(partial(self._install, message.view, members, suspects, message.reason))

    def obey(self, message: Message) -> None:
        """Do what the supervisor says; `View` and `Finish` are not for here."""
        engine = self.engine
        if isinstance(message, Replay):
            self._commands.put(partial(engine.replay, message.view, message.reason))
        elif isinstance(message, Activated):
            engine.activate()
        elif isinstance(message, Deactivated):
            engine.deactivate()
        elif isinstance(message, Drain):
            engine.drain()
        elif isinstance(message, Stop):
            engine.stop()
            if not self._has_started:  # its executors would only come to be stopped
                self._has_started = True
                self._tell_over("stopped")
        elif isinstance(message, AskPending):
            self._client.post(PendingRows(message.request, pending_rows(engine.pending())))
        elif isinstance(message, Look):
            found, moves = engine.look_for([tuple(root) for root in message.roots]) or ([], None)
            self._client.post(Looked(message.request, found, moves))
        elif isinstance(message, Lose):
            engine.lose([tuple(root) for root in message.roots])

    def _install(
        self, view: int, members: list[tuple[int, int, int]], suspects: list[tuple[int, int, int]], reason: str
    ) -> None:
        self.engine.install_view(view, members, suspects, reason)
        self._installed = view
        self._client.post(Installed(view))

    # -- what is looked at between them ----------------------------------------------------------------------------

    @property
    def is_hurried(self) -> bool:
        """Whether something is about to come up, or to end, that nobody rings for."""
        if self._installed != self._ready or not self._has_started:
            return True
        return not self._is_told_over and self.engine.wait(0.0) in _OVER

    def look(self) -> None:
        """Start, tell and release what it is time for."""
        if self._installed and not self._has_started:
            self._has_started = True
            self._threads.start()
        self._sockets.release(self.engine.released_sockets())
        view = self._installed
        if view != self._ready and self.engine.is_ready() and self.engine.links_up():
            self._ready = view
            self._client.post(Ready(view))
        if self._has_started and not self._is_told_over and self._threads.are_over:
            self._tell_over(self.engine.wait(0.0))
        now = time.monotonic()
        if now >= self._report_at and not self._is_told_over and not self._client.is_behind:
            self._report_at = now + _REPORT_S
            old = None
            if now >= self._audit_at:
                self._audit_at = now + self._plan.config["audit_s"] / 8
                old = self.engine.old_roots()
            self._client.post(
                State(
                    self.engine.wait(0.0),
                    self.engine.snapshot(),
                    self.runtime.user_counters(),
                    list(self.engine.standing()),
                    old,
                )
            )

    def _tell_over(self, state: str) -> None:
        self._is_told_over = True
        error = self.engine.error() or self.runtime.lost_positions
        told = None if error is None else run_failure(error, self.runtime.describe(error))
        if error is not None or state not in _OVER:
            state = "failed" if error is not None else "stopped"
        rows = pending_rows(self.engine.pending())
        self._client.post(Over(state, self.engine.snapshot(), self.runtime.user_counters(), rows, told))

    # -- threads ---------------------------------------------------------------------------------------------------

    def _command(self) -> None:
        while (command := self._commands.get()) is not None:
            command()

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - a worker without this thread would hang
            self._on_defect(error)

    def _on_defect(self, error: BaseException) -> None:
        self.engine.fail_run(error)
        self.engine.stop()

    @property
    def is_stuck(self) -> bool:
        """Whether a thread has not returned."""
        return any(thread.is_alive() for thread in [*self._helpers, *self._threads.all])

    @property
    def is_link_stuck(self) -> bool:
        """Whether the I/O thread has not returned."""
        return self._helpers[0].is_alive()

    def close(self) -> None:
        """Let go of everything; executors that never return are left behind."""
        self.engine.stop()
        self._commands.put(None)
        self.engine.stop_link()
        until = time.monotonic() + _LINK_GRACE_S
        for helper in self._helpers:
            helper.join(max(0.0, until - time.monotonic()))
        if self._has_started and not self._is_told_over:
            self._threads.join(until)
        with contextlib.suppress(Exception):
            self.runtime.close()
        stuck = [thread.name for thread in [*self._helpers, *self._threads.all] if thread.is_alive()]
        if stuck:
            _log.error("worker %d: still running at its end: %s", self._worker, ", ".join(stuck))
