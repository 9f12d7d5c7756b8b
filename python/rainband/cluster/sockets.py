"""The data sockets of a worker: made and configured here, used by the I/O thread of the core alone.

One inbound PULL, and an outbound PUSH for each peer. Once its pointer is handed over, a socket must not be touched
from Python until the core gives it back: `Engine.released_sockets`, or the return of `Engine.run_link` for all of them.
Only the loop thread of a worker may enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DataSockets"]

MAX_FRAME_BYTES: Final = 16 * 2**20
_HEADER_ROOM_BYTES: Final = 64 * 1024  # for what a frame has beside its values
_HANDSHAKE_MS: Final = 5000
_HEARTBEAT_MS: Final = 1000
_HEARTBEAT_TIMEOUT_MS: Final = 3000
_RECONNECT_MS: Final = 50
_RECONNECT_MAX_MS: Final = 5000
_LINGER_MS: Final = 1000
_WATERMARK: Final = 64  # messages; the core keeps what is not acknowledged, so the socket needs few


class DataSockets:
    """The sockets of one worker.

    Args:
        context: of ZeroMQ.
        prepare_inbound: configures the inbound socket before it is bound (keys).
        prepare_outbound: the same for an outbound one; takes the public key of the peer.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        prepare_inbound: Callable[[zmq.Socket[bytes]], None],
        prepare_outbound: Callable[[zmq.Socket[bytes], str], None],
    ) -> None:
        self._context = context
        self._prepare_inbound = prepare_inbound
        self._prepare_outbound = prepare_outbound
        self._inbound: zmq.Socket[bytes] | None = None
        self._outbound: dict[tuple[int, int], zmq.Socket[bytes]] = {}

    def bind(self, endpoint: str) -> tuple[int, str]:
        """Bind the inbound socket; its pointer and where it is reached."""
        socket = self._inbound = _configured(self._context.socket(zmq.PULL))
        self._prepare_inbound(socket)
        socket.bind(endpoint)
        return socket.underlying, socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def connect(self, worker: int, incarnation: int, endpoint: str, key: str) -> int:
        """The pointer of the socket to a peer, made at the first call for that incarnation."""
        socket = self._outbound.get((worker, incarnation))
        if socket is None:
            socket = self._outbound[worker, incarnation] = _configured(self._context.socket(zmq.PUSH))
            self._prepare_outbound(socket, key)
            socket.connect(endpoint)
        return socket.underlying

    def release(self, pointers: Iterable[int]) -> None:
        """Close what the core has given back; nothing that waits in them can still be of use."""
        for pointer in pointers:
            for peer, socket in list(self._outbound.items()):
                if socket.underlying == pointer:
                    del self._outbound[peer]
                    socket.close(linger=0)

    def close(self) -> None:
        """Close all of them; the I/O thread has returned, or was never started."""
        for socket in self._outbound.values():
            socket.close(linger=0)
        self._outbound.clear()
        if self._inbound is not None:
            self._inbound.close(linger=0)
            self._inbound = None


def _configured(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    options: dict[Any, int] = {
        zmq.MAXMSGSIZE: MAX_FRAME_BYTES + _HEADER_ROOM_BYTES,
        zmq.HANDSHAKE_IVL: _HANDSHAKE_MS,
        zmq.HEARTBEAT_IVL: _HEARTBEAT_MS,
        zmq.HEARTBEAT_TIMEOUT: _HEARTBEAT_TIMEOUT_MS,
        zmq.RECONNECT_IVL: _RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: _RECONNECT_MAX_MS,
        zmq.LINGER: _LINGER_MS,
        zmq.SNDHWM: _WATERMARK,
        zmq.RCVHWM: _WATERMARK,
    }
    for option, value in options.items():
        socket.setsockopt(option, value)
    return socket
