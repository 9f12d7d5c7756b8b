"""A bad network between workers: their data sockets connect through proxies that delay, cut, truncate and corrupt.

`install` is called when a worker imports the topology, before it connects to anybody. From then on each outbound socket
goes to a proxy in its own process, which carries the bytes on. With `ipc` nothing is encrypted, so damaged bytes come
as far as the decoder of libzmq, and sometimes to that of the core; with `tcp` CURVE ends the connection.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rainband.cluster.sockets import DataSockets

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 4096


@dataclass
class Weather:
    """What befalls the bytes of a connection.

    Attributes:
        delay_s: each chunk waits so long.
        cut_bytes: the connection is cut about every so many bytes (0: never).
        truncate_bytes: a chunk loses its end about every so many bytes, and the connection goes on.
        corrupt_bytes: a bit is flipped about every so many bytes.
        calm_s: after so long the weather is fine, so that the run comes to an end.
    """

    delay_s: float = 0.0
    cut_bytes: int = 0
    truncate_bytes: int = 0
    corrupt_bytes: int = 0
    calm_s: float = 5.0


def install(weather: Weather, tell: Callable[[str], None]) -> None:
    """Have all data sockets of this process connect through proxies; `tell` hears of every harm."""
    connect = DataSockets.connect
    calm_at = time.monotonic() + weather.calm_s
    proxies: dict[str, str] = {}

    def through_proxy(self: DataSockets, worker: int, incarnation: int, endpoint: str, key: str) -> int:
        if endpoint not in proxies:
            proxies[endpoint] = _Proxy(endpoint, weather, calm_at, tell).endpoint
        return connect(self, worker, incarnation, proxies[endpoint], key)

    DataSockets.connect = through_proxy  # type: ignore[method-assign]


class _Proxy:
    def __init__(self, target: str, weather: Weather, calm_at: float, tell: Callable[[str], None]) -> None:
        self._target = target
        self._weather = weather
        self._calm_at = calm_at
        self._tell = tell
        self._chance = random.Random(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="chaos-proxy", daemon=True).start()

    def _accept(self) -> None:
        while True:
            ours, _ = self._listener.accept()
            try:
                theirs = _connected(self._target)
            except OSError:
                ours.close()
                continue
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._carry, args=(source, sink), name="chaos-carry", daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                harmed = self._harm(bytearray(data))
                if harmed is None:
                    break
                sink.sendall(harmed)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()

    def _harm(self, data: bytearray) -> bytearray | None:
        """The bytes that arrive; None cuts the connection."""
        weather = self._weather
        if time.monotonic() >= self._calm_at:
            return data
        if weather.delay_s:
            time.sleep(weather.delay_s)
        if self._strikes(len(data), weather.corrupt_bytes):
            data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
            self._tell("corrupt")
        if self._strikes(len(data), weather.truncate_bytes):
            del data[self._chance.randrange(len(data)) :]
            self._tell("truncate")
        if self._strikes(len(data), weather.cut_bytes):
            self._tell("cut")
            return None
        return data

    def _strikes(self, size: int, every_bytes: int) -> bool:
        return every_bytes > 0 and self._chance.random() < size / every_bytes


def _connected(endpoint: str) -> socket.socket:
    scheme, _, address = endpoint.partition("://")
    if scheme == "ipc":
        made = socket.socket(socket.AF_UNIX)
        made.connect(address)
        return made
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def from_settings(settings: dict[str, Any], tell: Callable[[str], None]) -> None:
    """As `install`, from the environment's JSON; does nothing without any."""
    if settings:
        install(Weather(**settings), tell)
