"""rainband: Storm-style topologies for Python on a Rust core.

    from rainband import Bolt, Spout, Topology, grouping

Everything public is exported here. What costs time to import (pydantic, the runner, the test harness) is loaded when
first touched, so that `import rainband` stays within 60 ms of a bare interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import grouping
from ._core import Failure, Tuple, to
from .component import DEAD_LETTER, DROP, BatchBolt, Bolt, Spout, Stream, TaskContext, retry
from .errors import (
    CodecError,
    ConfigError,
    DefinitionError,
    DrainError,
    EmitError,
    KeyTypeError,
    RainbandError,
    Reject,
    RunError,
    RunInterrupted,
    StateError,
    TopologyError,
    WorkerError,
)
from .function import IDLE, At, bolt, spout
from .topology import Topology

if TYPE_CHECKING:
    from . import codec, testing
    from .report import Report
    from .run import Run

__version__ = "0.1.0"

__all__ = [
    "DEAD_LETTER",
    "DROP",
    "IDLE",
    "At",
    "BatchBolt",
    "Bolt",
    "CodecError",
    "ConfigError",
    "DefinitionError",
    "DrainError",
    "EmitError",
    "Failure",
    "KeyTypeError",
    "RainbandError",
    "Reject",
    "Report",
    "Run",
    "RunError",
    "RunInterrupted",
    "Spout",
    "StateError",
    "Stream",
    "TaskContext",
    "Topology",
    "TopologyError",
    "Tuple",
    "WorkerError",
    "bolt",
    "codec",
    "grouping",
    "retry",
    "spout",
    "testing",
    "to",
]


if not TYPE_CHECKING:  # a type checker that sees it would take any name for an export

    def __getattr__(name: str) -> object:
        from importlib import import_module  # noqa: PLC0415

        if name in {"codec", "testing"}:
            return import_module(f"rainband.{name}")
        if name in {"Report", "Run"}:
            return getattr(import_module(f"rainband.{name.lower()}"), name)
        raise AttributeError(f"module 'rainband' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
