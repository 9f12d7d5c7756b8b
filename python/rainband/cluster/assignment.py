"""What an incarnation of a worker is told when it is started: who it is, and how to find supervisor and topology.

A process gets it as JSON through its parent pipe, so that neither keys nor parameters stand in its command line or
environment; a worker that is a thread gets the object.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from .keys import WorkerKeys

__all__ = ["Assignment"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who a worker is.

    Attributes:
        worker: its index.
        incarnation: from 1.
        workers: how many there are.
        control: endpoint of the supervisor.
        name: of the topology.
        origin: where the topology comes from, see `origin.Origin`.
        overrides: settings of this run.
        keys: of this incarnation, None without encryption.
    """

    worker: int
    incarnation: int
    workers: int
    control: str
    name: str
    origin: dict[str, Any] = field(repr=False)
    overrides: dict[str, Any] = field(repr=False)
    keys: WorkerKeys | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Assignment:
        """What `to_json` was made of."""
        keys = data["keys"]
        return cls(**{**data, "keys": None if keys is None else WorkerKeys(**keys)})


def plain_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them: a path as its text."""
    return {key: _plain(value) for key, value in overrides.items()}


def _plain(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value
