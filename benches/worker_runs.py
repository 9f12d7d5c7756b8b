"""Runs topologies of `across` on workers, and reads what their tasks kept."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import across
from measure import check

from rainband.cluster.processes import ProcessLauncher
from rainband.cluster.start import start
from rainband.plan import compile_plan


@contextlib.contextmanager
def told(**params):
    """A folder for what the tasks keep; meanwhile the tasks of all processes see `params`."""
    with tempfile.TemporaryDirectory(prefix="rainband-bench-") as folder:
        params["folder"] = folder
        os.environ[across.VARIABLE] = json.dumps(params)
        across.PARAMS.clear()
        across.PARAMS.update(params)
        yield Path(folder)


def found(folder, name):
    """What a task kept under that name."""
    return json.loads((folder / f"{name}.json").read_text())


def begin(make, *, workers=2, config=None, launcher=None):
    """Start a topology; a `Run`."""
    topology = make()
    if launcher is None:
        return topology.start(workers=workers, config=config)
    overrides = {**(config or {}), "workers": workers}
    return start(topology, compile_plan(topology, overrides), overrides, launcher)


def finish(run, total, tracked):
    """Wait for the end of a run and refuse wrong counts: `total` at the sink, `tracked` roots, all acked."""
    report = run.wait()
    roots, executed = report.components["source"].roots, report.components["sink"].executed
    check(roots.emitted == roots.acked == tracked, f"{roots}, expected {tracked} acked")
    check(executed == total, f"{executed} tuples at the sink, expected {total}")
    check(roots.replays == 0, f"{roots.replays} replays in a run without failures")


def plain_tcp():
    """A launcher of workers whose data sockets have no keys, which the product does not offer."""
    return ProcessLauncher("unencrypted:new_engine")
