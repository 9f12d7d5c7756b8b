"""The command as a process of its own: what it loads, signals, and exit codes that only a process has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "from rainband.cli import main; main()"]
# A shell's background job has SIGINT ignored, and so would the child of tests that run as one.
SIGNALLED = [*COMMAND[:2], f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND[2]}"]

PARTS = """
import pathlib, time
from rainband import bolt, spout

@spout(outputs=["n"])
def numbers():
    for n in range(1_000_000):
        yield n
        time.sleep(0.005)

@bolt(outputs=[])
def quick(n):
    pathlib.Path("started").touch()

@bolt(outputs=[])
def stuck(n):
    pathlib.Path("started").touch()
    time.sleep(600)
"""


def start(folder: Path, bolt: str, *args: str) -> subprocess.Popen[str]:
    (folder / "parts.py").write_text(PARTS, encoding="utf-8")
    text = f"name: t\nspouts: {{s: {{class: 'parts:numbers'}}}}\nbolts: {{b: {{class: 'parts:{bolt}', inputs: [s]}}}}\n"
    (folder / "t.yaml").write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [*SIGNALLED, "run", "t.yaml", *args],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not (folder / "started").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_is_a_success(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "quick")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert f"t: {number.name}: draining, at most 30 s; once more stops at once\n" in err
    assert 'topology "t" ended' in out


def test_a_drain_that_runs_out_of_time_is_5(tmp_path: Path) -> None:
    process = start(tmp_path, "stuck", "--set", "drain_timeout_s=0.2")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5, err
    assert "the drain ran out of its 0.2 s" in err


def test_a_second_signal_is_final_even_if_user_code_hangs(tmp_path: Path) -> None:
    process = start(tmp_path, "stuck")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # two signals at once would be one
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "stopped by a second SIGTERM" in err


def test_duration_ends_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, "quick", "--duration", "200ms")
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("args", "absent"),
    [
        ("--version", ["click", "yaml", "pydantic", "rich", "rainband.definition.loading"]),
        ("--help", ["yaml", "pydantic", "rich", "rainband.run", "rainband.cli.graph"]),
        ("run --help", ["yaml", "pydantic", "rich", "rainband.run", "rainband.definition.loading"]),
    ],
)
def test_what_a_command_does_not_need_is_not_loaded(args: str, absent: list[str]) -> None:
    code = (
        "import atexit, sys; from rainband.cli import main; "
        f"atexit.register(lambda: print([name for name in {absent!r} if name in sys.modules])); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args.split()], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_told_nothing() -> None:
    process = subprocess.Popen([*COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 1
