"""How workers find a topology again: described in one interpreter, loaded in another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import test_cluster_supervisor

from rainband.cluster import origin

if TYPE_CHECKING:
    from pathlib import Path

TOPOLOGY = """
from rainband import Bolt, Spout, Topology

class Lines(Spout):
    outputs = ["line"]
    def next_tuple(self):
        self.end()

class Take(Bolt):
    def process(self, line): ...

def build(size=1):
    topology = Topology("t")
    topology.spout("lines", Lines)
    topology.bolt("take", Take, inputs="lines", parallelism=int(size))
    return topology
"""

DESCRIBE = """
    from rainband.cluster.origin import describe
    from rainband.plan import compile_plan
    import json, sys
    print(json.dumps([describe(topology), compile_plan(topology).plan_hash, sys.path]))
"""

LOAD = """
import json, sys
origin, plan_hash, path = json.loads(sys.argv.pop())
sys.path[:] = path
from rainband.cluster.origin import load
plan = load(origin, "t", {})
assert plan.plan_hash == plan_hash, "the plans differ"
print(plan.components[0].anatomy.cls.__module__)
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def described(folder: Path, *command: str) -> str:
    done = run(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def loaded(folder: Path, told: str) -> str:
    done = run(folder, "-c", LOAD, told)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def script(folder: Path, text: str, name: str = "pipeline.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_script_runs_again_without_its_main_block(tmp_path: Path) -> None:
    text = TOPOLOGY + 'topology = build()\nif __name__ == "__main__":' + DESCRIBE
    script(tmp_path, text)
    told = described(tmp_path, "pipeline.py")
    assert json.loads(told)[0]["kind"] == "object"
    assert loaded(tmp_path, told) == "__mp_main__"


def test_a_module_run_with_m(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    text = TOPOLOGY + 'topology = build()\nif __name__ == "__main__":' + DESCRIBE
    script(tmp_path / "shop", text)
    told = described(tmp_path, "-m", "shop.pipeline")
    assert json.loads(told)[0]["main"] == "module:shop.pipeline"
    assert loaded(tmp_path, told) == "__mp_main__"


def test_an_imported_module_needs_no_main(tmp_path: Path) -> None:
    script(tmp_path, TOPOLOGY + "topology = build()\n")
    script(tmp_path, "from pipeline import topology\nif True:" + DESCRIBE + "    1 / 1\n", "main.py")
    told = described(tmp_path, "main.py")
    assert json.loads(told)[0]["module"] == "pipeline"
    assert loaded(tmp_path, told) == "pipeline"


def test_a_function_without_arguments_is_called(tmp_path: Path) -> None:
    script(tmp_path, TOPOLOGY)
    code = "import pipeline\ndef main(topology):" + DESCRIBE + "main(pipeline.build())\n"
    script(tmp_path, code, "main.py")
    told = described(tmp_path, "main.py")
    assert json.loads(told)[0]["name"] == "build"
    assert loaded(tmp_path, told) == "pipeline"


@pytest.mark.parametrize("target", ["pipeline.py:build", "pipeline:build", "my-pipeline.py:build"])
def test_a_target_of_the_command_line_is_called_with_its_params(tmp_path: Path, target: str) -> None:
    script(tmp_path, TOPOLOGY)
    script(tmp_path, TOPOLOGY, "my-pipeline.py")
    code = (
        f"from rainband.cli.target import load_target\ntopology = load_target({target!r}, {{'size': '3'}}).topology()\n"
    )
    told = described(tmp_path, "-c", code + "if True:" + DESCRIBE)
    assert json.loads(told)[0]["params"] == {"size": "3"}
    loaded(tmp_path, told)


def test_a_topology_file_is_read_with_its_params(tmp_path: Path) -> None:
    script(tmp_path, TOPOLOGY, "parts.py")
    file = "name: t\nspouts: {lines: {class: 'parts:Lines'}}\n"
    file += "bolts: {take: {class: 'parts:Take', inputs: lines, config: {max_attempts: '${N}'}}}\n"
    (tmp_path / "t.yaml").write_text(file)
    code = "from rainband.definition import load_topology\ntopology = load_topology('t.yaml', params={'N': '3'})\n"
    told = described(tmp_path, "-c", code + "if True:" + DESCRIBE)
    assert json.loads(told)[0]["kind"] == "file"
    loaded(tmp_path, told)


def why(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    return done.stderr.splitlines()[-1].partition(": ")[2]


def test_an_interactive_session_is_refused(tmp_path: Path) -> None:
    text = TOPOLOGY + "topology = build()\nif True:" + DESCRIBE
    for topology in (text, text.replace("topology = build()", "topology = build(); kept = topology")):
        assert why(run(tmp_path, "-c", topology)) == (
            'topology "t" was made in an interactive session or a notebook, which worker processes cannot import; '
            "write it to a .py file and import that, or run it with workers=1"
        )


MAKERS: dict[str, tuple[str, str]] = {
    "arguments": (
        """
def build_from(path):
    topology = Topology("t")
    topology.spout("lines", Lines)
    return topology
x = [build_from("a")]
""",
        """it is made inside build_from() of "pipeline", and workers do not know its arguments (path);
         run it as: rainband run pipeline:build_from --param path=…""",
    ),
    "inner": (
        """
def outer():
    def inner():
        return Topology("t")
    return inner()
x = [outer()]
""",
        """it is made inside outer.<locals>.inner() of "pipeline", which workers cannot reach from outside;
         make it where the module is imported, or in a function that returns it and takes no arguments""",
    ),
    "nameless": (
        """
x = [Topology("t")]
""",
        """it is made in "pipeline" and kept under no name there, so that workers cannot find it;
         assign it to a variable""",
    ),
}


@pytest.mark.parametrize("case", MAKERS)
def test_what_workers_cannot_make_is_refused(tmp_path: Path, case: str) -> None:
    text, reason = MAKERS[case]
    script(tmp_path, TOPOLOGY + text)
    code = "import pipeline\nfrom rainband.cluster.origin import describe\ndescribe(pipeline.x[0])\n"
    text = " ".join(reason.split())
    assert why(run(tmp_path, "-c", code)) == f'topology "t" cannot run on several workers: {text}'


def test_a_topology_below_the_guard_is_not_found(tmp_path: Path) -> None:
    script(tmp_path, TOPOLOGY + 'if __name__ == "__main__":\n    topology = build()\n' + DESCRIBE)
    done = run(tmp_path, "-c", LOAD, described(tmp_path, "pipeline.py"))
    assert why(done) == (
        f'workers find no "topology" of "{tmp_path / "pipeline.py"}": topology "t" is made below '
        'if __name__ == "__main__":, which they do not run; move it above, and keep only run() there'
    )


def test_running_on_import_shows_the_guard(tmp_path: Path) -> None:
    script(tmp_path, TOPOLOGY + "topology = build()\nif True:" + DESCRIBE + "topology.run(workers=2)\n")
    told = run(tmp_path, "pipeline.py").stdout.splitlines()[0]  # what it says before it goes wrong
    done = run(tmp_path, "-c", LOAD, told)
    assert why(done) == (
        'topology "t" is run again while a worker imports the module that made it; put the call below a guard: '
        'if __name__ == "__main__":'
    )


def test_an_import_that_differs_is_seen(tmp_path: Path) -> None:
    text = TOPOLOGY.replace('"take", Take', '"take-%d" % os.getpid(), Take') + "topology = build()\n"
    script(tmp_path, "import os\n" + text + 'if __name__ == "__main__":' + DESCRIBE)
    done = run(tmp_path, "-c", LOAD, described(tmp_path, "pipeline.py"))
    assert "the plans differ" in done.stderr


def test_a_description_is_plain_data() -> None:
    told = origin.describe(test_cluster_supervisor.NUMBERS)
    assert json.loads(json.dumps(told)) == told
    assert (told["module"], told["name"], told["main"]) == ("test_cluster_supervisor", "NUMBERS", None)
