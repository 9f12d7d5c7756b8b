"""From a compiled plan to a run on several workers: puts the parts together. `run.start` comes in here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rainband.run import Run
from rainband.runtime import Runtime
from rainband.state import LocalState

from . import origin
from .assignment import plain_overrides
from .headquarters import Headquarters
from .keeper import Keeper
from .placement import place_plan
from .processes import ProcessLauncher
from .supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rainband.plan import CompiledPlan
    from rainband.topology import Topology

    from .launcher import Launcher

__all__ = ["start"]

_log = logging.getLogger("rainband.cluster")


class _SupervisorRuntime(Runtime):
    """What `Run` asks beside the engine; nothing is built here."""

    supervisor: Supervisor

    def user_counters(self) -> dict[str, dict[str, int]]:
        """What users counted in all workers."""
        return self.supervisor.user_counters()

    def notes(self) -> list[str]:
        """What to know of workers that died."""
        return self.supervisor.notes()


def start(
    topology: Topology, plan: CompiledPlan, overrides: Mapping[str, Any], launcher: Launcher | None = None
) -> Run:
    """Set a plan going on the workers that its settings ask for.

    Args:
        topology: as recorded; worker processes find it by its origin.
        plan: the same, compiled.
        overrides: settings of this run.
        launcher: starts the workers; as processes if not given.

    Raises:
        TopologyError: worker processes cannot find the topology again.
        StateError: the state folder cannot be used.
    """
    launcher = ProcessLauncher() if launcher is None else launcher
    found = origin.describe(topology) if launcher.imports else {}
    state = LocalState(plan)
    runtime = _SupervisorRuntime(plan, state)
    placement = place_plan(plan)
    if (started := len(set(placement))) < plan.config["workers"]:
        text = "%s: %d of %d workers are started: no executor is left for the others"
        _log.warning(text, plan.name, started, plan.config["workers"])
    headquarters = Headquarters(
        plan.name,
        launcher,
        workers=plan.config["workers"],
        origin=found,
        overrides=plain_overrides(dict(overrides)),
        state_dir=lambda: state.path,
        bind=plan.config["bind"] if plan.config["transport"] == "tcp" else None,
    )
    try:
        supervisor = runtime.supervisor = Supervisor(plan, headquarters, placement, Keeper(plan, state))
        return Run(plan, engine=supervisor, runtime=runtime)
    except BaseException:
        headquarters.close()
        raise
