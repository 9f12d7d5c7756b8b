"""Sources and sinks on the engine, wired in files: one clear error, acked stays acked, the rest comes again."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rainband import RunError
from rainband.definition import load_topology
from rainband.testing import complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rainband.report import Report

LINES_TO_JSON = """
name: copy
spouts:
  source: {class: "rainband.connectors:Lines", with: {path: "${src}"}, config: {max_pending: 50}}
bolts:
  sink:
    class: rainband.connectors:JsonLinesSink
    with: {path: "${out}"}
    config: {batch_size: 20, batch_interval_s: 0.05}
    inputs: [source]
"""


def run(folder: Path, text: str, **params: object) -> Report:
    """Run a topology file with the state folder of the test."""
    file = folder / "topology.yaml"
    file.write_text(text)
    topology = load_topology(file, params={key: str(value) for key, value in params.items()})
    return topology.run(config={"state_dir": str(folder / "state")})


def records(path: Path) -> list[str]:
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    found = [f"line {n} of this file" for n in range(1000)]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in found))
    return found


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path, lines: list[str]) -> None:
    out = tmp_path / "out.jsonl"
    report = run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out=out)
    assert records(out) == lines
    assert report.balances
    run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out=out)
    assert records(out) == lines
    with (tmp_path / "in.txt").open("a") as stream:
        stream.write("one more\n")
    run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out=out)
    assert records(out) == [*lines, "one more"]


def test_a_full_device_stops_the_run_and_loses_nothing(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(RunError) as caught:
        run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out="/dev/full")
    assert 'bolt "sink" task 1: writing ' in str(caught.value)
    assert '"/dev/full" failed: no space left on device' in str(caught.value)
    assert not (tmp_path / "state" / "dead_letters.jsonl").exists()
    run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out=tmp_path / "out.jsonl")
    assert records(tmp_path / "out.jsonl") == lines


@pytest.fixture
def small_files() -> Iterator[Any]:
    """A function that limits the size of files from then on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path, lines: list[str], small_files: Any) -> None:
    out = tmp_path / "out.jsonl"
    small_files(20_000)
    with pytest.raises(RunError, match=r'out.jsonl" failed: file too large; nothing of the batch of \d+ is acked'):
        run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out=out)
    first = records(out)  # whole lines only
    assert first == lines[: len(first)]
    assert 300 < len(first) < 1000
    small_files(resource.RLIM_INFINITY)
    run(tmp_path, LINES_TO_JSON, src=tmp_path / "in.txt", out=out)
    again = records(out)[len(first) :]
    assert lines[-len(again) :] == again
    assert len(first) + len(again) >= 1000  # what was written but not stored as acked may come twice, none is missing


def test_a_malformed_line_stops_and_can_be_mended(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "in.txt"
    content = path.read_bytes()
    at = content.index(b"line 700 ")
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(RunError, match=rf'in.txt" line 701 \(byte {at}\) is malformed: not utf-8: invalid start byte'):
        run(tmp_path, LINES_TO_JSON, src=path, out=tmp_path / "out.jsonl")
    path.write_bytes(content)
    run(tmp_path, LINES_TO_JSON, src=path, out=tmp_path / "out.jsonl")
    assert set(records(tmp_path / "out.jsonl")) == set(lines)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r'spout "source" .*no file matches "/nowhere/'):
        run(tmp_path, LINES_TO_JSON, src="/nowhere/*.txt", out=tmp_path / "out.jsonl")


MALFORMED = """
name: sort
spouts:
  source:
    class: rainband.connectors:CsvRows
    with: {path: "${src}"}
    outputs: {n: int, word: str}
bolts:
  good: {class: "rainband.connectors:CsvSink", with: {path: "${out}/good.csv"}, inputs: [source]}
  bad: {class: "rainband.connectors:JsonLinesSink", with: {path: "${out}/bad.jsonl"}, inputs: [source.malformed]}
"""


def test_malformed_rows_go_their_own_way(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("word,n\na,1\nb,x\nc,3\n")
    run(tmp_path, MALFORMED, src=path, out=tmp_path)
    assert (tmp_path / "good.csv").read_text() == "n,word\n1,a\n3,c\n"
    (bad,) = map(json.loads, (tmp_path / "bad.jsonl").read_text().splitlines())
    reason = "field \"n\": expected int, got 'x'"
    assert bad == {"path": str(path), "offset": 11, "record": "b,x\n", "reason": reason}


SHARED = """
name: share
spouts:
  source: {class: "rainband.connectors:Lines", with: {path: "${src}"}, parallelism: 3, outputs: [path, number, line]}
bolts:
  sink:
    class: rainband.connectors:SqliteSink
    with: {path: "${out}", table: lines, key: [path, number]}
    parallelism: 2
    config: {batch_interval_s: 0.05}
    inputs: [source]
"""


def test_tasks_share_files_and_a_database(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    expected = set()
    for name in range(12):
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{n * name}\n" for n in range(100)))
        expected |= {(str(path), n + 1, str(n * name)) for n in range(100)}
    for _ in range(2):
        run(tmp_path, SHARED, src=folder, out=tmp_path / "out.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "out.db")) as database:
            assert set(database.execute("SELECT * FROM lines")) == expected


LOCKED = """
name: locked
spouts:
  source: {class: "rainband.connectors:Sequence", with: {values: [a, b]}, outputs: [word]}
bolts:
  sink:
    class: rainband.connectors:SqliteSink
    with: {path: "${out}", table: words, timeout_s: 0.01}
    config: {batch_interval_s: 0.05}
    inputs: [source]
"""


def test_a_locked_database_is_tried_again(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "out.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    timer.start()
    report = run(tmp_path, LOCKED, out=tmp_path / "out.db")
    timer.join()
    assert sorted(other.execute("SELECT word FROM words").fetchall()) == [("a",), ("b",)]
    other.close()
    assert report.components["sink"].failures > 0
    assert report.dead_letters == 0


def test_a_value_that_a_sink_cannot_take_is_a_dead_letter(tmp_path: Path) -> None:
    text = LINES_TO_JSON.replace('with: {path: "${src}"}', 'with: {values: ["a", "b"]}, outputs: [line]')
    text = text.replace("connectors:Lines", "connectors:Sequence")
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    topology = load_topology(file, params={"out": str(tmp_path / "out.jsonl")})
    result = complete(topology, {"source": ["a", b"raw", "b"]}, checked=False)
    assert records(tmp_path / "out.jsonl") == ["a", "b"]
    (letter,) = result.dead_letters
    assert "JSON cannot say a bytes" in f"{letter['reason']} {letter['error']}"


# -- as a program in a pipe ----------------------------------------------------------------------------------------

PIPE = """
name: pipe
spouts:
  source: {class: "rainband.connectors:stdin"}
bolts:
  show: {class: "rainband.connectors:Print", with: {form: "<{line}>"}, inputs: [source]}
"""
RAINBAND = str(Path(sys.executable).with_name("rainband"))


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "pipe.yaml").write_text(PIPE)
    child = subprocess.Popen(
        [RAINBAND, "run", "pipe.yaml"],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield child
    child.kill()
    child.communicate()


def test_lines_through_a_pipe(pipe: subprocess.Popen[str]) -> None:
    assert pipe.stdin is not None
    assert pipe.stdout is not None
    pipe.stdin.write("a\n")
    pipe.stdin.flush()
    assert pipe.stdout.readline() == "<a>\n"  # at once, not when a buffer is full
    output, errors = pipe.communicate("b\nc", timeout=20)
    assert (pipe.returncode, output.splitlines()[:2]) == (0, ["<b>", "<c>"]), errors


def test_a_silent_pipe_does_not_keep_the_run(pipe: subprocess.Popen[str]) -> None:
    assert pipe.stdin is not None
    assert pipe.stdout is not None
    pipe.stdin.write("a\n")
    pipe.stdin.flush()
    assert pipe.stdout.readline() == "<a>\n"
    begun = time.monotonic()
    pipe.send_signal(signal.SIGINT)
    assert pipe.wait(timeout=20) == 0
    assert time.monotonic() - begun < 3


def test_the_reader_goes_away(pipe: subprocess.Popen[str]) -> None:
    assert pipe.stdin is not None
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    pipe.stdout.close()
    pipe.stdin.write("a\n")
    pipe.stdin.flush()
    assert pipe.wait(timeout=20) == 1
    errors = pipe.stderr.read()
    assert "stdout cannot be written: its reader is gone" in errors
    assert "Exception ignored" not in errors
    pipe.stdout = None
