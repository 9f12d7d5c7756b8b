"""Standard input, printing and generated values."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from connector_fakes import Recorder, attached, context, run_spout, tuples

import rainband.connectors
from rainband import IDLE, Reject, TaskContext
from rainband.connectors import ConnectorError, Print, Sequence, stdin
from rainband.testing import SpoutHarness

if TYPE_CHECKING:
    from collections.abc import Iterator

# -- stdin ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    end, begin = os.pipe()
    yield end, begin
    for fd in (end, begin):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_lines_of_a_pipe(pipe: tuple[int, int]) -> None:
    end, begin = pipe
    content = "a\r\n\nzoë\n" + "x" * 60_000 + "\nlast"

    def write() -> None:
        os.write(begin, content.encode())
        os.close(begin)

    threading.Thread(target=write).start()
    assert list(stdin(context(), fd=end)) == ["a", "", "zoë", "x" * 60_000, "last"]


def test_a_silent_pipe_does_not_block_the_end(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rainband.connectors.standard_input._LOOK_S", 0.02)
    end, begin = pipe
    harness = SpoutHarness(partial(stdin, fd=end))
    os.write(begin, b"one\ntw")
    assert harness.next() == ["one"]
    os.write(begin, b"o\n")
    assert harness.next() == ["two"]
    thread: Any = harness.spout._thread  # type: ignore[attr-defined]
    begun = time.monotonic()
    harness.spout.next_tuple()
    harness.close()
    assert time.monotonic() - begun < 0.5
    thread.join(1)
    assert not thread.is_alive()


def test_idle_while_nothing_comes(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rainband.connectors.standard_input._LOOK_S", 0.01)
    assert next(stdin(context(), fd=pipe[0])) is IDLE


def test_malformed_lines(pipe: tuple[int, int]) -> None:
    end, begin = pipe
    os.write(begin, b"a\n\xff\nb\n")
    os.close(begin)
    copy = os.dup(end)
    lines = list(stdin(context(subscribed=["malformed"]), fd=end))
    assert [lines[0], lines[2]] == ["a", "b"]
    assert (lines[1].stream, lines[1].values) == (
        "malformed",
        ("standard input", 2, "\\xff", "not utf-8: invalid start byte at its byte 0"),
    )
    os.close(copy)


def test_a_malformed_line_stops(pipe: tuple[int, int]) -> None:
    end, begin = pipe
    os.write(begin, b"a\n\xff\nb\n")
    lines = stdin(context(), fd=end)
    assert next(lines) == "a"
    with pytest.raises(ConnectorError, match=r'"standard input" line 2 .* is malformed: not utf-8: invalid start byte'):
        next(lines)


def test_what_cannot_be_read(pipe: tuple[int, int]) -> None:
    end, _ = pipe
    os.close(end)
    with pytest.raises(ConnectorError, match="standard input cannot be read: "):
        next(stdin(context(), fd=end))
    with pytest.raises(ConnectorError, match="it has several tasks, but only one can read standard input"):
        next(stdin(context(tasks=2)))
    with pytest.raises(ConnectorError, match="standard input cannot be read as utf-16: convert it"):
        next(stdin(context(), encoding="utf-16"))


def test_no_newline_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rainband.connectors.standard_input.MAX_ROW_BYTES", 100_000)
    with (
        Path("/dev/zero").open("rb") as zeros,
        pytest.raises(ConnectorError, match="no newline in 100000 bytes; is it text"),
    ):
        next(stdin(context(), fd=zeros.fileno()))


# -- Print ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("text", "a\t1\t2024-02-29\n"),
        ("json", '{"word": "a", "n": 1, "day": "2024-02-29"}\n'),
        ("{word:>3}|{n:02}|{2}", "  a|01|2024-02-29\n"),
    ],
)
def test_forms(form: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    show = Print(form)
    attached(show)
    show.process(tuples("word n day", ("a", 1, date(2024, 2, 29)))[0])
    assert capsys.readouterr().out == text


def test_print_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show = Print(to="stderr")
    attached(show)
    show.process(tuples("v", ("x",))[0])
    assert capsys.readouterr() == ("", "x\n")


def test_wrong_forms() -> None:
    with pytest.raises(ValueError, match='form is \'xml\'; expected "text", "json" or a template'):
        Print("xml")
    with pytest.raises(ValueError, match='to is \'x\'; expected "stdout" or "stderr"'):
        Print(to="x")  # type: ignore[arg-type]


def test_a_tuple_that_cannot_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Print("{word}")
    attached(show)
    with pytest.raises(Reject, match="it cannot be printed: KeyError\\('word'\\)"):
        show.process(tuples("n", (1,))[0])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(Reject, match="stdout is ascii and cannot show 'ë'"):
        show.process(tuples("word", ("zoë",))[0])


PRINTER = """
import sys
from rainband import Tuple, TaskContext
from rainband.connectors import Print
show = Print()
show.prepare(TaskContext(topology="t", component="show"))
sys.stdin.readline()
try:
    show.process(Tuple(("x",), ("v",)))
except Exception as error:
    print(error, file=sys.stderr)
"""


def test_the_reader_is_gone() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, errors = child.communicate("go\n", timeout=20)
    assert (child.returncode, errors) == (0, "stdout cannot be written: its reader is gone\n")


def test_a_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        child = subprocess.run(
            [sys.executable, "-c", PRINTER],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (child.returncode, child.stderr) == (0, "stdout cannot be written: no space left on device\n")


# -- Sequence ------------------------------------------------------------------------------------------------------


def test_numbers_values_and_spread() -> None:
    assert run_spout(Sequence(70), context()).values() == list(range(70))
    assert run_spout(Sequence(2, start=-3), context()).values() == [-3, -2]
    assert run_spout(Sequence(values="abc"), context()).values() == ["a", "b", "c"]
    assert run_spout(Sequence(2, values=["x", "y", "z"], start=5), context()).values() == ["x", "y"]
    assert run_spout(Sequence(2, values=lambda n: (n, n * n)), context(outputs=["n", "square"])).values() == [
        (0, 0),
        (1, 1),
    ]
    assert run_spout(Sequence(2, values=lambda n: (n, n)), context(outputs=["pair"])).values() == [(0, 0), (1, 1)]
    assert run_spout(Sequence(0), context()).values() == []


def test_positions_and_tasks() -> None:
    seen = run_spout(Sequence(7), context(tasks=2, index=1))
    assert (seen.values(), seen.positions) == ([1, 3, 5], [1, 3, 5])
    assert run_spout(Sequence(7), context(tasks=2, index=1, position=3)).values() == [5]
    assert run_spout(Sequence(7), context(tasks=2, index=0, position=6)).values() == []


def test_wrong_arguments() -> None:
    for rate in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"rate is .*; expected values per second, above 0"):
            Sequence(rate=rate)
    with pytest.raises(ValueError, match="count is -1; expected at least 0"):
        Sequence(-1)
    with pytest.raises(ValueError, match="count is 4, but there are only 3 values"):
        Sequence(4, values="abc")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def paced(rate: float, ctx: TaskContext) -> tuple[Sequence, Clock, Any]:
    spout, clock = Sequence(rate=rate), Clock()
    spout._clock = clock
    recorder = attached_spout(spout, ctx)
    return spout, clock, recorder


def attached_spout(spout: Sequence, ctx: TaskContext) -> Any:
    recorder = Recorder()
    spout._attach(recorder)
    spout.open(ctx)
    return recorder


def test_rate_is_open_loop() -> None:
    spout, clock, seen = paced(10, context())
    spout.next_tuple()
    assert seen.values() == [0]
    clock.now_s += 0.09
    spout.next_tuple()
    assert seen.values() == [0]
    clock.now_s += 1.0  # a late call makes up for what was due
    spout.next_tuple()
    assert seen.values() == list(range(11))
    clock.now_s += 100
    spout.next_tuple()
    assert len(seen.values()) == 11 + 32


def test_rate_is_shared_by_tasks() -> None:
    spout, clock, seen = paced(10, context(tasks=2, index=1))
    spout.next_tuple()
    assert seen.values() == []
    clock.now_s += 0.1001
    spout.next_tuple()
    assert seen.values() == [1]
    clock.now_s += 0.2
    spout.next_tuple()
    assert seen.values() == [1, 3]


def test_a_pause_is_not_made_up_for() -> None:
    spout, clock, seen = paced(10, context())
    spout.next_tuple()
    clock.now_s += 1000
    spout.activate()
    spout.next_tuple()
    assert seen.values() == [0, 1]


# -- the package ---------------------------------------------------------------------------------------------------


def test_every_name_is_there_and_nothing_is_loaded_early() -> None:
    assert {name: getattr(rainband.connectors, name) for name in rainband.connectors.__all__}
    assert set(rainband.connectors.__all__) <= set(dir(rainband.connectors))
    with pytest.raises(AttributeError, match="has no attribute 'Line'; it has ConnectorError, CsvRows"):
        _ = rainband.connectors.Line
    code = "import sys, rainband.connectors; sys.exit('sqlite3' in sys.modules or 'csv' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False)
    assert done.returncode == 0
