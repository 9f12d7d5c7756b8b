"""Who may talk to whom: nothing but a private folder for `ipc`, CURVE keys with an allow-list for `tcp`.

`ipc` sockets lie in a folder of mode 0700: the file system keeps others out. `tcp` is encrypted always. Supervisor and
every incarnation of a worker have a key pair of their own, made for this run; secret keys of workers travel through the
parent pipe alone. A CURVE server without an allow-list accepts any key, so each end answers libzmq's ZAP requests
itself (`Doorkeeper`), in the loop that it has anyway, and the sockets enforce it: while nobody answers, nobody gets in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Doorkeeper", "Keys", "WorkerKeys"]

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = "rainband"


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

    Args:
        context: whose guarded sockets it answers for; it must be there before they are bound.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._allowed: set[bytes] = set()
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ZAP_ENDPOINT)

    def allow(self, keys: Iterable[str]) -> None:
        """From now on let in the owners of these public keys, and nobody else. Who is in stays in."""
        self._allowed = {z85.decode(key) for key in keys}

    def answer(self) -> None:
        """Answer the requests that wait; to be called when `socket` can be read."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, request, domain, *rest = frames
            mechanism, key = (rest[2], rest[3]) if len(rest) == 4 else (b"", b"")  # address, identity, mechanism, key
            is_known = domain == _DOMAIN.encode() and mechanism == b"CURVE" and key in self._allowed
            status = (b"200", b"OK") if is_known else (b"400", b"not of this run")
            self.socket.send_multipart([version, request, *status, b"", b""])

    def close(self) -> None:
        """Close the door: from now on nobody gets in."""
        self.socket.close()
