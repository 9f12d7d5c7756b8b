"""`Topology` records what it is given, and where it was made."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import rainband.run
from rainband import Bolt, Spout, Topology, TopologyError, grouping
from rainband.topology import Definition, Origin

if TYPE_CHECKING:
    from pathlib import Path


class Source(Spout):
    outputs = ["n"]

    def next_tuple(self) -> None: ...


class Sink(Bolt):
    def process(self, n: int) -> None: ...


def test_it_only_records() -> None:
    topology = Topology("not a name", config={"nonsense": 1})
    anything: Any = object()
    topology.spout("s", anything, parallelism=-1, tasks=5, outputs=["a"], streams={}, config={})
    topology.bolt("b", Sink, inputs={"s": grouping.all()})
    assert topology.definitions == [
        Definition("spout", "s", anything, -1, 5, None, ["a"], {}, {}),
        Definition("bolt", "b", Sink, inputs={"s": grouping.all()}),
    ]
    assert repr(topology) == 'Topology("not a name", 1 spout, 1 bolt)'
    with pytest.raises(TopologyError):
        topology.check()


def test_repr() -> None:
    assert repr(Topology("t")) == 'Topology("t", 0 spouts, 0 bolts)'


AT_MODULE_LEVEL = Topology("here")


def test_origin() -> None:
    inside = Topology("t").origin
    assert inside == Origin(__name__, __file__, "test_origin")
    assert AT_MODULE_LEVEL.origin == Origin(__name__, __file__, None)

    class Maker:
        def make(self) -> Topology:
            return Topology("t")

    assert Maker().make().origin.function == "test_origin.<locals>.Maker.make"


def test_origin_of_a_script_and_of_a_prompt(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("from rainband import Topology\nprint(Topology('t').origin)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == f"{Origin('__main__', str(script), None)}\n"
    done = subprocess.run(
        [sys.executable, "-c", script.read_text()], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == f"{Origin('__main__', None, None)}\n"


def test_start_and_run_hand_their_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(rainband.run, "start", lambda *args, **more: calls.append((args, more)))
    monkeypatch.setattr(rainband.run, "run", lambda *args, **more: calls.append((args, more)))
    topology = Topology("t")
    topology.start(workers=1, config={"a": 1})
    topology.run(duration_s=2)
    assert calls == [
        ((topology,), {"workers": 1, "config": {"a": 1}}),
        ((topology,), {"workers": None, "config": None, "duration_s": 2}),
    ]


def test_a_topology_can_be_checked_twice_and_added_to() -> None:
    topology = Topology("t")
    topology.spout("s", Source)
    topology.check()
    topology.bolt("b", Sink, inputs="s")
    topology.check()
