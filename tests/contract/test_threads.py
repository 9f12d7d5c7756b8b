"""Threads, cores, forks and the end of the interpreter: ENGINE 6.1, 6.3 and 6.4, on the real engine."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from rig import Idle, Numbers, Quiet, in_one_process, wait_until

from rainband import Bolt, TaskContext

if TYPE_CHECKING:
    from pathlib import Path

    from rig import Rig


@in_one_process("each worker numbers its threads from 0")
def test_executors_are_threads_of_python_for_life(rig: Rig) -> None:
    """ENGINE 6.1: every hook of a task runs on one `threading.Thread`, so thread-locals and sqlite3 objects work."""
    local = threading.local()
    names: set[str] = set()

    class Keeps(Bolt):
        tick_interval_s = 0.001

        def prepare(self, context: TaskContext) -> None:
            self.ident = threading.get_ident()
            self.database = sqlite3.connect(":memory:")  # refuses other threads
            self.database.execute("create table t (n)")
            local.count = getattr(local, "count", 0) + 1
            assert isinstance(threading.current_thread(), threading.Thread)
            names.add(threading.current_thread().name)

        def process(self, n: int) -> None:
            assert threading.get_ident() == self.ident
            self.database.execute("insert into t values (?)", (n,))

        def tick(self) -> None:
            self.database.execute("select count(*) from t")

        def finish(self) -> None:
            counts.append(self.database.execute("select count(*) from t").fetchone()[0])

        def close(self) -> None:
            assert local.count == 1
            self.database.close()

    counts: list[int] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 500))
    topology.bolt("keeps", Keeps, inputs="numbers", parallelism=3)
    report = rig.run(topology)
    assert names == {"rainband-keeps-0", "rainband-keeps-1", "rainband-keeps-2"}
    assert sum(counts) == 500
    assert report.components["keeps"].failed == {}


def test_tasks_of_one_executor_share_its_thread(rig: Rig) -> None:
    """ENGINE 4.3, 6.1: `parallelism` counts threads, `tasks` instances; an executor runs tasks of one component."""
    where: dict[int, set[int]] = {}

    class Notes(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.mine = where.setdefault(context.task_index, set())

        def process(self, n: int) -> None:
            self.mine.add(threading.get_ident())

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 500))
    topology.bolt("notes", Notes, inputs="numbers", parallelism=2, tasks=5)
    rig.run(topology)
    assert len(where) == 5
    assert all(len(threads) == 1 for threads in where.values())
    assert len(set.union(*where.values())) == 2


def stack_bytes() -> int:
    """The stack of the calling thread."""
    libc = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t()
    libc.pthread_self.restype = ctypes.c_void_p
    assert libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes) == 0
    assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    libc.pthread_attr_destroy(attributes)
    return size.value


def test_stacks_are_large(rig: Rig) -> None:
    """ENGINE 6.1: executors have 16 MiB of stack; the size for threads that the program starts is as it was."""
    before = threading.stack_size()
    sizes: list[int] = []

    class Looks(Bolt):
        def process(self, n: int) -> None:
            sizes.append(stack_bytes())

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 2))
    topology.bolt("looks", Looks, inputs="numbers", parallelism=2)
    running = topology.start()
    assert threading.stack_size() == before
    rig.finish(running)
    assert len(sizes) == 2
    assert min(sizes) >= 16 * 1024 * 1024


DEEP = r"""
import sys
from rainband import Bolt, Spout, Topology

sys.setrecursionlimit(12_000)

class One(Spout):
    outputs = ["n"]
    def next_tuple(self):
        self.emit(1, id=1)
        self.end()

def deep(n):
    return max(map(deep, [n + 1]))

class Deep(Bolt):
    def process(self, n):
        deep(n)

topology = Topology("t", config={"state_dir": sys.argv[1], "max_attempts": 1})
topology.spout("one", One)
topology.bolt("deep", Deep, inputs="one")
print(topology.run().components["deep"].failed)
"""


def python(folder: Path, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program with a state folder as its argument."""
    program = folder / "program.py"
    program.write_text(text)
    command = [sys.executable, str(program), str(folder / "state")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)


@in_one_process("runs a program of its own")
def test_deep_recursion_raises_instead_of_crashing(tmp_path: Path) -> None:
    """ENGINE 6.1: 12,000 levels with C frames between them, more than a default stack of another thread may hold."""
    done = python(tmp_path, DEEP)
    assert (done.returncode, done.stdout) == (0, "{'error': 1}\n"), done.stderr


def test_what_user_code_starts_sees_all_cores(rig: Rig) -> None:
    """ENGINE 6.3: threads, pools and child processes of a task do not inherit a core that the engine chose."""
    cores = os.sched_getaffinity(0)
    seen: list[set[int]] = []
    children: list[str] = []
    pool = ThreadPoolExecutor(1)

    class Looks(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            seen.append(os.sched_getaffinity(0))
            if n % 50 == 0:
                seen.append(pool.submit(os.sched_getaffinity, 0).result())
                thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
                thread.start()
                thread.join()
            if n % 200 == 0:
                command = ["grep", "Cpus_allowed_list", "/proc/self/status"]
                children.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            self.emit(n)

    expected = subprocess.run(
        ["grep", "Cpus_allowed_list", "/proc/self/status"], capture_output=True, text=True, check=True
    ).stdout
    topology = rig.topology(queue_capacity=8)
    topology.spout("numbers", partial(Numbers, 1000))
    topology.bolt("one", Looks, inputs="numbers", parallelism=2)
    topology.bolt("two", Looks, inputs="one")
    topology.bolt("quiet", Quiet, inputs="two")
    with pool:
        report = rig.run(topology)
    assert report.components["one"].failed == report.components["two"].failed == {}
    assert all(affinity == cores for affinity in seen)
    assert set(children) == {expected}
    assert os.sched_getaffinity(0) == cores


FORK = r"""
import gc, multiprocessing, os, sys
from rainband import Bolt, EmitError, Spout, Topology, Tuple

class Numbers(Spout):
    outputs = ["n"]
    n = 0
    def next_tuple(self):
        self.n += 1
        if self.n > 200:
            self.end()
        else:
            self.emit(self.n, id=self.n)

def refused(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except EmitError as error:
        return "forked child" in str(error)
    return False

class Forks(Bolt):
    outputs = ["n"]
    auto_ack = False
    def process(self, tup: Tuple):
        self.emit(tup["n"], anchors=tup)
        if tup["n"] % 50 == 0:
            child = os.fork()
            if child == 0:
                ok = [refused(self.emit, 1), refused(self.emit, 1, anchors=tup), refused(self.ack, tup),
                      refused(self.fail, tup), refused(self.reset_timeout, tup)]
                del tup
                gc.collect()
                os._exit(0 if all(ok) else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if tup["n"] % 100 == 0:
            process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
            process.start()
            process.join(10)
            codes.append(process.exitcode)
        self.ack(tup)

class Last(Bolt):
    def process(self, n: int): pass

codes = []
topology = Topology("t", config={"state_dir": sys.argv[1]})
topology.spout("numbers", Numbers)
topology.bolt("forks", Forks, inputs="numbers")
topology.bolt("last", Last, inputs="forks")
report = topology.run()
assert report.balances, report
print(codes, report.components["numbers"].roots.acked, report.components["last"].executed)
"""


@in_one_process("runs a program of its own")
def test_a_fork_in_a_bolt_harms_nobody(tmp_path: Path) -> None:
    """ENGINE 6.4: every engine call in the child raises, its destructors touch nothing, and the parent goes on."""
    done = python(tmp_path, FORK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 0] 200 200"


RETURNS = r"""
import os, sys, time
from rainband import Bolt, Spout, Topology

class Numbers(Spout):
    outputs = ["n"]
    n = 0
    def next_tuple(self):
        self.n += 1
        if self.n > 20:
            self.end()
        else:
            self.emit(self.n, id=self.n)

class Forks(Bolt):
    def process(self, n: int):
        os.write(1, f"{n} {'parent' if os.getpid() == parent else 'child'}\n".encode())
        if n == 5 and (child := os.fork()) != 0:
            for _ in range(200):
                if os.waitpid(child, os.WNOHANG)[0]:
                    break
                time.sleep(0.01)
            else:
                os.kill(child, 9)
                os.write(1, b"the child hangs\n")

parent = os.getpid()
topology = Topology("t", config={"state_dir": sys.argv[1]})
topology.spout("numbers", Numbers)
topology.bolt("forks", Forks, inputs="numbers")
print(topology.run().components["numbers"].roots.acked, flush=True)
"""


@in_one_process("runs a program of its own")
def test_a_child_that_returns_from_process_does_not_go_on_as_an_engine(tmp_path: Path) -> None:
    """ENGINE 6.4: what waits in the queues is the parent's; a child that comes back into the loop ends there."""
    done = python(tmp_path, RETURNS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if "child" in line] == [], done.stderr
    assert lines[-1] == "20"


@in_one_process("runs a program of its own")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module has another name there")
def test_sub_interpreters_are_refused(tmp_path: Path) -> None:
    """ENGINE 6.4: importing the engine in a second interpreter raises and says why."""
    program = r"""
import _xxsubinterpreters as interpreters
import rainband
own = interpreters.create()
try:
    interpreters.run_string(own, "import rainband")
except interpreters.RunFailedError as error:
    print(error)
"""
    done = python(tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert "ImportError" in done.stdout
    assert "subinterpreter" in done.stdout


LEFT = r"""
import sys, threading, time
from rainband import Bolt, Spout, Topology, spout

class Endless(Spout):
    outputs = ["n"]
    n = 0
    def next_tuple(self):
        self.n += 1
        self.emit(self.n, id=self.n)
    def close(self):
        print("closed", flush=True)

@spout(outputs=["n"])
def blocked():
    yield 1
    threading.Event().wait()

class Work(Bolt):
    def process(self, n: int):
        time.sleep(0.0005)

topology = Topology("t", config={"state_dir": sys.argv[1]})
topology.spout("endless", Endless)
topology.spout("blocked", blocked)
topology.bolt("work", Work, inputs=["endless", "blocked"], parallelism=2)
running = topology.start()
while running.report().components["work"].executed < 100:
    time.sleep(0.001)
print("leaving", flush=True)
"""


@in_one_process("runs a program of its own")
@pytest.mark.parametrize("end", ["", "raise ValueError('at the end')\n", "sys.exit(7)\n"])
def test_the_interpreter_ends_below_a_run(tmp_path: Path, end: str) -> None:
    """ENGINE 6.4: a program that ends while a run lasts stops it, closes its tasks, and exits as it would without."""
    began = time.monotonic()
    done = python(tmp_path, LEFT + end)
    assert done.returncode == {"": 0, "sys.exit(7)\n": 7}.get(end, 1), done.stderr
    assert done.stdout.splitlines() == ["leaving", "closed"]
    assert "Fatal" not in done.stderr
    assert time.monotonic() - began < 10


def test_an_idle_topology_costs_next_to_nothing(rig: Rig) -> None:
    """Issue item 6, idle CPU: no executor spins while there is nothing to do (generous; the bench has the 1 %)."""
    over = threading.Event()
    topology = rig.topology()
    topology.spout("idle", partial(Idle, over), parallelism=2)
    topology.bolt("a", Quiet, inputs="idle", parallelism=4)
    running = topology.start()
    wait_until(lambda: running.report().state == "running")
    before = time.process_time()
    assert running.wait(0.6) is None
    assert time.process_time() - before < 0.12
    over.set()
    rig.finish(running)
