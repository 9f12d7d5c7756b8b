"""The control channel: a ROUTER socket in the supervisor, a DEALER in each worker, and messages of `messages.py`.

    Server   the supervisor's end; only the control thread may enter, except for `ring`
    Client   a worker's end; `poll` is the loop thread's alone, `post` and `request` may be called from any other

A socket of ZeroMQ belongs to one thread, so what other threads want to say waits in a queue, and an eventfd, the
*doorbell*, wakes the thread that polls. A worker's identity on the socket is `worker.incarnation`; a second process
that claims one that is connected is refused by the socket itself.

`request` blocks until the supervisor has done what was asked; it raises `StateError` with the supervisor's text if it
could not, and when the channel is closed meanwhile. Log records are dropped, and counted, while the supervisor does not
take them; everything else is kept.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zmq

from rainband.errors import StateError

from . import messages
from .messages import Log, Message, ProtocolError, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from .keys import Doorkeeper

__all__ = ["Client", "Doorbell", "Server"]

_LINGER_MS: Final = 1000  # for the last words of an end that closes
_MOST_LOGS: Final = 1000  # records that wait to be sent
_AT_ONCE: Final = 100  # messages read before others have their turn
_MAX_MESSAGE_BYTES: Final = 64 * 2**20
_log = logging.getLogger("rainband.cluster")


class Doorbell:
    """Wakes a thread that polls; ringing twice is as good as once."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._guard = threading.Lock()  # a closed number may be another file's the next moment

    def ring(self) -> None:
        """Wake the thread that polls, or keep it from going to sleep; does nothing once closed."""
        with self._guard:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Forget that it rang."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._guard:
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Server:
    """The supervisor's end.

    Args:
        context: of ZeroMQ.
        endpoint: where to bind; a port that is * is chosen by the system.
        prepare: configures the socket before it is bound (keys).
        door: answers who may connect; None without encryption.
        warn: logs.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        prepare: Callable[[zmq.Socket[bytes]], None],
        door: Doorkeeper | None = None,
        *,
        warn: Callable[..., object] = _log.warning,
    ) -> None:
        self._door = door
        self._warn = warn
        self._socket = context.socket(zmq.ROUTER)
        self._bell = Doorbell()
        try:
            self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.setsockopt(zmq.SNDHWM, 0)  # few messages, and none may be lost
            self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
            prepare(self._socket)
            self._socket.bind(endpoint)
        except BaseException:
            self.close()
            raise
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller = _poller(self._socket, self._bell, door)

    def poll(self, timeout_s: float) -> list[tuple[int, int, Message]]:
        """What came in, as (worker, incarnation, message); waits for the first, for a ring, or for the time."""
        ready = dict(self._poller.poll(max(0, int(timeout_s * 1000))))
        if self._bell.fd in ready:
            self._bell.clear()
        if self._door is not None and self._door.socket in ready:
            self._door.answer()
        found: list[tuple[int, int, Message]] = []
        if self._socket not in ready:
            return found
        while len(found) < _AT_ONCE:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                worker, incarnation = map(int, frames[0].split(b"."))
                found.append((worker, incarnation, messages.decode(frames[-1])))
            except (ProtocolError, ValueError) as error:
                self._warn("a message on the control channel cannot be read: %s", error)
        return found

    def send(self, worker: int, incarnation: int, message: Message) -> bool:
        """Send a message; False if that worker is not connected (any more)."""
        try:
            self._socket.send_multipart([_identity(worker, incarnation), messages.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                return False
            raise
        return True

    def ring(self) -> None:
        """Make `poll` return; from any thread."""
        self._bell.ring()

    def close(self) -> None:
        """Send what waits, for a second at most, and close."""
        self._socket.close()
        self._bell.close()


@dataclass(slots=True)
class _Asked:
    """A request that waits for its reply."""

    done: threading.Event = field(default_factory=threading.Event)
    error: str | None = None


class Client:
    """A worker's end.

    Args:
        context: of ZeroMQ.
        endpoint: of the supervisor.
        identity: the worker's index and its incarnation.
        prepare: configures the socket before it is connected (keys).
        door: answers who may connect to the worker's own sockets; None without encryption.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: tuple[int, int],
        prepare: Callable[[zmq.Socket[bytes]], None],
        door: Doorkeeper | None = None,
    ) -> None:
        self._door = door
        self._socket = context.socket(zmq.DEALER)
        self._bell = Doorbell()
        self._waiting: deque[Message] = deque()
        self._guard = threading.Lock()  # of the fields below; never held while a socket is used
        self._asked: dict[int, _Asked] = {}
        self._last_request = 0
        self._logs_waiting = 0
        self._logs_dropped = 0
        self._is_closed = False
        try:
            self._socket.setsockopt(zmq.IDENTITY, _identity(*identity))
            self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
            self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
            prepare(self._socket)
            self._socket.connect(endpoint)
        except BaseException:
            self._socket.close()
            self._bell.close()
            raise
        self._poller = _poller(self._socket, self._bell, door)

    # -- any thread ------------------------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Send a message soon; after `close` it is dropped."""
        with self._guard:
            if self._is_closed:
                return
            if isinstance(message, Log):
                if self._logs_waiting >= _MOST_LOGS:
                    self._logs_dropped += 1
                    return
                self._logs_waiting += 1
            self._waiting.append(message)
        self._bell.ring()

    def request(self, make: Callable[[int], Message]) -> None:
        """Have the supervisor do something, and wait until it has.

        Args:
            make: the message for a request number.

        Raises:
            StateError: it could not be done, or the channel was closed before it was.
        """
        asked = _Asked()
        with self._guard:
            if self._is_closed:
                raise StateError(_CLOSED)
            self._last_request += 1
            number = self._last_request
            self._asked[number] = asked
        self.post(make(number))
        asked.done.wait()
        if asked.error is not None:
            raise StateError(asked.error)

    def wake(self) -> None:
        """Make `poll` return."""
        self._bell.ring()

    # -- the loop thread -------------------------------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether the supervisor does not take what was posted."""
        return len(self._waiting) > _AT_ONCE

    def poll(self, timeout_s: float) -> list[Message]:
        """Send what was posted, and give what came in but replies, which go to those who wait for them."""
        self._send_waiting()
        ready = dict(self._poller.poll(max(0, int(timeout_s * 1000))))
        if self._bell.fd in ready:
            self._bell.clear()
            self._send_waiting()
        if self._door is not None and self._door.socket in ready:
            self._door.answer()
        found: list[Message] = []
        while self._socket in ready and len(found) < _AT_ONCE:
            try:
                message = messages.decode(self._socket.recv_multipart(zmq.NOBLOCK)[-1])
            except zmq.Again:
                break
            if isinstance(message, Reply):
                self._answer(message)
            else:
                found.append(message)
        return found

    def _send_waiting(self) -> None:
        while self._waiting:
            message = self._waiting[0]
            try:
                self._socket.send(messages.encode(message), zmq.NOBLOCK)
            except zmq.Again:
                return
            self._waiting.popleft()
            if isinstance(message, Log):
                with self._guard:
                    self._logs_waiting -= 1
                    dropped, self._logs_dropped = self._logs_dropped, 0
                if dropped:
                    _log.warning("%d log records were dropped: the supervisor did not take them", dropped)

    def _answer(self, reply: Reply) -> None:
        with self._guard:
            asked = self._asked.pop(reply.request, None)
        if asked is not None:
            asked.error = reply.error
            asked.done.set()

    def close(self) -> None:
        """Send what was posted, for a second at most, and close; whoever waits for a reply gets an error."""
        with suppress(zmq.ZMQError):
            self._send_waiting()
        with self._guard:
            self._is_closed = True
            asked, self._asked = list(self._asked.values()), {}
        for each in asked:
            each.error = _CLOSED
            each.done.set()
        self._socket.close()
        self._bell.close()


_CLOSED: Final = "the worker is leaving; the supervisor cannot be asked any more"


def _poller(socket: zmq.Socket[bytes], bell: Doorbell, door: Doorkeeper | None) -> zmq.Poller:
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(bell.fd, zmq.POLLIN)
    if door is not None:
        poller.register(door.socket, zmq.POLLIN)
    return poller


def _identity(worker: int, incarnation: int) -> bytes:
    return f"{worker}.{incarnation}".encode("ascii")
