"""Who may talk to whom: nothing but a private folder for `ipc`, CURVE keys with an allow-list for `tcp`.

`ipc` sockets lie in a folder of mode 0700: the file system keeps others out. `tcp` is encrypted always. Supervisor and
every incarnation of a worker have a key pair of their own, made for this run; secret keys of workers travel through the
parent pipe alone. A CURVE server without an allow-list accepts any key, so each end answers libzmq's ZAP requests
itself (`Doorkeeper`), in the loop that it has anyway, and the sockets enforce it: while nobody answers, nobody gets in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Doorkeeper", "Keys", "WorkerKeys"]

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = "rainband"
_MOST_WAITING: Final = 64  # for their answer; those who came first are refused


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair of CURVE, as Z85 text."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Keys:
        """A new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket, not yet bound, one that lets in whom the doorkeeper of its context knows, and nobody else."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode("ascii"))
        socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def enter(self, socket: zmq.Socket[bytes], server: str) -> None:
        """Make a socket, not yet connected, one that talks to the owner of a public key, and nobody else."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, server.encode("ascii"))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public.encode("ascii"))
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode("ascii"))


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """What one incarnation of a worker is given.

    Attributes:
        public: its own public key.
        secret: and the secret one.
        supervisor: public key of the supervisor.
    """

    public: str
    secret: str = field(repr=False)
    supervisor: str

    @property
    def own(self) -> Keys:
        """Its own pair."""
        return Keys(self.public, self.secret)


class Doorkeeper:
    """Answers the ZAP requests of one context from a list of public keys. Only one thread may enter.

    Who is not on the list waits for its answer, up to the end of its handshake: workers hear of a view one after the
    other, and the first connects to peers that do not know its key yet. Refused, libzmq would not connect again (400),
    or only after the whole time of a handshake (300).

    Args:
        context: whose guarded sockets it answers for; it must be there before they are bound.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._allowed: set[bytes] = set()
        self._waiting: deque[tuple[bytes, list[bytes]]] = deque()  # key, and the head of the answer
        self.socket = context.socket(zmq.ROUTER)  # answers in any order
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ZAP_ENDPOINT)

    def allow(self, keys: Iterable[str]) -> None:
        """From now on let in the owners of these public keys, and nobody else. Who is in stays in."""
        self._allowed = {z85.decode(key) for key in keys}
        waiting, self._waiting = self._waiting, deque()
        for key, head in waiting:
            self._decide(key, head)

    def answer(self) -> None:
        """Answer the requests that wait; to be called when `socket` can be read."""
        while True:
            try:
                peer, _, version, request, domain, *rest = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            mechanism, key = (rest[2], rest[3]) if len(rest) == 4 else (b"", b"")  # address, identity, mechanism, key
            head = [peer, b"", version, request]
            if domain == _DOMAIN.encode() and mechanism == b"CURVE":
                self._decide(key, head)
            else:
                self._say(head, b"400", b"not of this run")

    def _decide(self, key: bytes, head: list[bytes]) -> None:
        if key in self._allowed:
            self._say(head, b"200", b"OK")
            return
        self._waiting.append((key, head))
        if len(self._waiting) > _MOST_WAITING:
            self._say(self._waiting.popleft()[1], b"300", b"not of this run")

    def _say(self, head: list[bytes], status: bytes, text: bytes) -> None:
        self.socket.send_multipart([*head, status, text, b"", b""])

    def close(self) -> None:
        """Close the door: from now on nobody gets in."""
        self.socket.close()
