"""What nothing costs: the processor time of an idle topology, the import, the shortest command.

Idle: a spout that has nothing, two bolts, one of them with a tick every second; the processor time of the whole
process. The import is the difference of two interpreters, one after the other.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from measure import Figure, check, main, seconds

import rainband
from rainband import Bolt, Spout, Topology


class Nothing(Spout):
    outputs = ["x"]

    def next_tuple(self):
        pass


class Ticking(Bolt):
    outputs = ["x"]
    tick_interval_s = 1.0
    ticks = 0

    def process(self, x):
        self.emit(x)

    def tick(self):
        Ticking.ticks += 1


class Null(Bolt):
    def process(self, x):
        pass


def idle_share(lasting_s):
    """Processor time of this process while the topology idles ÷ time."""
    topology = Topology("idle")
    topology.spout("nothing", Nothing)
    topology.bolt("ticking", Ticking, inputs="nothing")
    topology.bolt("null", Null, inputs="ticking")
    run = topology.start()
    time.sleep(0.5)
    ticks, start, used = Ticking.ticks, time.perf_counter(), time.process_time()
    time.sleep(lasting_s)
    share = (time.process_time() - used) / (time.perf_counter() - start)
    check(abs(Ticking.ticks - ticks - lasting_s) <= 1, f"{Ticking.ticks - ticks} ticks in {lasting_s} s")
    run.stop()
    return share


def start_s(*arguments):
    return seconds(lambda: subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL))


def body(options):
    idle = Figure("idle topology, of one core", unit="%", at_most=1)
    imported = Figure("import rainband, beyond the bare interpreter", unit="ms", at_most=60, digits=1)
    bare = Figure("the bare interpreter", unit="ms", digits=1)
    version = Figure("rainband --version", unit="ms", at_most=150, digits=1)
    command = str(Path(sys.executable).parent / "rainband")
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    check(rainband.__version__ in said, f"rainband --version says {said!r}")
    for _ in range(options.rounds):
        idle.add(idle_share(2 if options.quick else 5) * 100)
        for _ in range(2):
            base = start_s(sys.executable, "-c", "pass")
            imported.add((start_s(sys.executable, "-c", "import rainband") - base) * 1000)
            bare.add(base * 1000)
            version.add(start_s(command, "--version") * 1000)
    return [idle, imported, bare, version]


if __name__ == "__main__":
    main(__doc__.splitlines()[0], body)
