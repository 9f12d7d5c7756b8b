"""Everything that the supervisor of a run has in its hands: folder, control channel, keys, launcher, slots, log.

`Supervisor` decides and never touches any of it but through here. Only its control thread may enter, except for `ring`.
The private folder (mode 0700) holds the sockets of `ipc` and the slots; see `folder`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import zmq

from rainband.errors import ConfigError

from . import native
from .assignment import Assignment
from .control import Server
from .folder import PrivateFolder
from .keys import Doorkeeper, Keys, WorkerKeys
from .logbook import Logbook
from .messages import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .launcher import Event, Launcher
    from .messages import Log, Message
    from .native import Slots

__all__ = ["Headquarters"]

_LOG_GRACE_S: Final = 2.0  # for the handlers to take what is left to log


class Headquarters:
    """Where a run is directed from.

    Args:
        name: of the topology.
        launcher: starts workers.
        workers: how many there are.
        origin: where workers find the topology.
        overrides: settings of this run.
        state_dir: says where the state folder is, asked when a worker starts.
        bind: address of this machine for `tcp`, None for `ipc`.

    Attributes:
        warn: logs a warning; whatever handlers do, it returns at once.
    """

    def __init__(
        self,
        name: str,
        launcher: Launcher,
        *,
        workers: int,
        origin: Mapping[str, Any],
        overrides: Mapping[str, Any],
        state_dir: Callable[[], Path],
        bind: str | None = None,
    ) -> None:
        self._name = name
        self._launcher = launcher
        self._workers = workers
        self._origin = dict(origin)
        self._overrides = dict(overrides)
        self._state_dir = state_dir
        self._bind = bind
        self._private = PrivateFolder()
        self._folder = self._private.path
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keys = None if bind is None else Keys.fresh()
        self._door = None if bind is None else Doorkeeper(self._context)
        self._book = Logbook()
        self.warn = self._book.warn
        self._public: dict[tuple[int, int], str] = {}  # keys of the incarnations that may come in
        prepare = _open if self._keys is None else self._keys.guard
        try:
            self._server = Server(self._context, self._endpoint("control"), prepare, self._door, warn=self._book.warn)
        except zmq.ZMQError as error:
            if self._door is not None:
                self._door.close()
            self._context.term()
            self._private.remove()
            where = f'"{self._folder}"' if bind is None else f'bind "{bind}"'
            raise ConfigError(f"{where}: sockets cannot be bound there: {str(error).lower()}") from error

    def _endpoint(self, name: str) -> str:
        return f"ipc://{self._folder}/{name}" if self._bind is None else f"tcp://{self._bind}:*"

    # -- the control channel ---------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Make `poll` return; from any thread."""
        self._server.ring()

    def poll(self, timeout_s: float) -> list[tuple[int, int, Message]]:
        """What workers said: (worker, incarnation, message)."""
        return self._server.poll(timeout_s)

    def send(self, worker: int, incarnation: int, message: Message) -> bool:
        """Tell a worker; False if it is not connected."""
        return self._server.send(worker, incarnation, message)

    def log(self, worker: int, record: Log) -> None:
        """Log what a worker logged."""
        self._book.replay(worker, record)

    # -- workers ---------------------------------------------------------------------------------------------------

    def launch(self, worker: int, incarnation: int, tell: Callable[[Event], None]) -> None:
        """Start an incarnation.

        Raises:
            OSError: it cannot be started.
        """
        keys = None
        if self._keys is not None and self._door is not None:
            own = Keys.fresh()
            keys = WorkerKeys(own.public, own.secret, self._keys.public)
            self._public[worker, incarnation] = own.public
            self._door.allow(self._public.values())
        assignment = Assignment(
            worker,
            incarnation,
            self._workers,
            self._server.endpoint,
            self._name,
            self._origin,
            self._overrides,
            keys,
        )
        self._launcher.start(assignment, tell)

    def start(
        self,
        worker: int,
        incarnation: int,
        placement: list[int],
        run_id: str,
        *,
        positions: list[Any],
        ended: list[int],
        charged: list[Any],
    ) -> Start:
        """The message that makes a worker begin."""
        slots, endpoint = str(self._slots_file(worker, incarnation)), self._endpoint(f"worker-{worker}.{incarnation}")
        return Start(placement, run_id, positions, ended, str(self._state_dir()), charged, slots, endpoint)

    def kill(self, worker: int, incarnation: int) -> None:
        """End an incarnation at once."""
        self._launcher.kill(worker, incarnation)

    def dismiss(self, worker: int, incarnation: int) -> None:
        """One is dead: whoever has its keys is not let in any more."""
        if self._public.pop((worker, incarnation), None) is not None and self._door is not None:
            self._door.allow(self._public.values())

    def slots(self, worker: int, incarnation: int) -> Slots | None:
        """What a dead incarnation had in hand; None if it left nothing that can be read."""
        path = self._slots_file(worker, incarnation)
        if not path.exists():
            return None
        try:
            return native.read_slots(str(path))
        except (OSError, ValueError):  # it died while it made the file
            return None
        finally:
            path.unlink(missing_ok=True)

    def _slots_file(self, worker: int, incarnation: int) -> Path:
        return self._folder / f"slots-{worker}.{incarnation}"

    def close(self) -> None:
        """End what still runs, close the channel, remove the folder, and log what is left."""
        try:
            self._launcher.close()
        finally:
            self._server.close()
            if self._door is not None:
                self._door.close()
            self._context.term()
            self._private.remove()
            self._book.close(_LOG_GRACE_S)


def _open(socket: zmq.Socket[bytes]) -> None:
    """Without encryption there is nothing to configure."""
