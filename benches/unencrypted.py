"""Data sockets without keys, to tell what encryption costs; the product has no such thing.

A worker process that is told to make its engine by `unencrypted:new_engine` imports this module before it makes its
sockets. Supervisor and control channel stay as they are.
"""

from __future__ import annotations

from rainband.cluster import worker
from rainband.cluster.native import new_engine

__all__ = ["new_engine"]


class _Sockets(worker.DataSockets):
    def __init__(self, context, _guard, _enter):
        super().__init__(context, lambda _socket: None, lambda _socket, _key: None)


worker.DataSockets = _Sockets
