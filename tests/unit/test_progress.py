"""The display: plain lines, the live table on a pseudo terminal, and that nothing of it can break a run."""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pytest

from rainband.progress import Progress, Rates, plain_line, summary


def snapshot(uptime_s: float = 2.0, state: str = "running") -> dict[str, Any]:
    n = int(uptime_s * 1000)
    roots = {"emitted": n, "acked": n - 12, "dead": 2, "pending": 10}
    return {
        "state": state,
        "uptime_s": uptime_s,
        "components": [
            {"name": "lines", "kind": "spout", "emitted": n, "roots": roots},
            {
                "name": "split",
                "kind": "bolt",
                "executed": n * 2,
                "acked": n * 2 - 3,
                "failed": {"error": 2, "timeout": 1},
                "queue": 256,
                "queue_capacity": 1024,
            },
        ],
    }


class Played:
    name = "wordcount"

    def __init__(self) -> None:
        self.asked = 0
        self.state = "running"

    def snapshot(self) -> dict[str, Any]:
        self.asked += 1
        return snapshot(float(self.asked), self.state)


def wait_until(run: Played, asked: int) -> None:
    limit = time.monotonic() + 10
    while run.asked < asked:
        assert time.monotonic() < limit
        time.sleep(0.005)


@contextmanager
def terminal(columns: int, rows: int = 24) -> Iterator[tuple[TextIO, list[bytes]]]:
    """A stream that is a terminal of that width, and what it was sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    got: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                return
            if not chunk:
                return
            got.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            yield stream, got
    finally:
        reader.join(10)
        os.close(master)


def plain(got: list[bytes]) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(got).decode())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_the_line() -> None:
    assert plain_line("wordcount", snapshot(), Rates().update(snapshot())) == (
        "wordcount running 2.0 s: lines 1 000/s, split 2 000/s; pending 10, acked 1 988, failed 3"
    )


def test_the_summary() -> None:
    assert summary("wordcount", snapshot(2.0, "ended")) == (
        "wordcount ended after 2.0 s: acked 1 988, failed 3, dead letters 2, pending 10"
    )


def test_rates_of_a_moment_without_time_are_those_before() -> None:
    rates = Rates()
    first = rates.update(snapshot(1.0))
    assert rates.update(snapshot(1.0)) == first == {"lines": 1000.0, "split": 2000.0}


def test_lines_where_there_is_no_terminal() -> None:
    run, stream = Played(), io.StringIO()
    with Progress(run, stream, line_interval_s=0.01):
        wait_until(run, 3)
        run.state = "ended"
    lines = stream.getvalue().splitlines()
    assert lines[0] == "wordcount running 1.0 s: lines 1 000/s, split 2 000/s; pending 10, acked 988, failed 3"
    assert lines[-1].startswith("wordcount ended after ")
    assert "\x1b" not in stream.getvalue()
    assert not any(thread.name == "rainband-progress" for thread in threading.enumerate())


def test_a_short_run_has_the_summary_only() -> None:
    stream = io.StringIO()
    with Progress(Played(), stream):
        pass
    assert len(stream.getvalue().splitlines()) == 1


def test_the_live_table() -> None:
    run = Played()
    with terminal(100) as (stream, got):
        with Progress(run, stream, refresh_s=0.01):
            wait_until(run, 3)
        stream.flush()
    text = plain(got)
    assert re.search(r"component +per s +queue +pending +acked +failed", text)
    assert re.search(r"lines +1 000 +10 +988 +0", text)
    assert re.search(r"split +2 000 +25 % +1 997 +3", text)
    assert "wordcount running after" in text
    assert b"\x1b[?25h" in b"".join(got)  # the cursor is back


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run = Played()
    with terminal(100) as (stream, got), Progress(run, stream, refresh_s=0.01):
        wait_until(run, 3)
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m", b"".join(got))
    assert b"split" in b"".join(got)


@pytest.mark.parametrize("columns", [1, 5, 20, 39, 40, 50, 63, 64])
def test_no_terminal_is_too_narrow(columns: int) -> None:
    run = Played()
    with terminal(columns, rows=2) as (stream, got), Progress(run, stream, refresh_s=0.01, line_interval_s=0.01):
        wait_until(run, 3)
    text = plain(got)
    assert "wordcount" in text.replace("\r\n", "")
    if columns >= 40:
        assert ("queue" in text) is (columns >= 64)
        rows = [line for line in re.split(r"[\r\n]+", text) if re.match(r"(component|lines|split)", line)]
        assert all(len(line.rstrip()) <= columns for line in rows)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    run = Played()
    with terminal(100) as (stream, got), Progress(run, stream, line_interval_s=0.01):
        wait_until(run, 3)
    assert b"\x1b" not in b"".join(got)


class Closed(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_ends_the_display_and_nothing_else() -> None:
    run = Played()
    with Progress(run, Closed(), line_interval_s=0.01):
        wait_until(run, 1)


def test_a_snapshot_that_fails_ends_the_display_and_nothing_else() -> None:
    class Broken(Played):
        def snapshot(self) -> dict[str, Any]:
            super().snapshot()
            raise RuntimeError("gone")

    run, stream = Broken(), io.StringIO()
    with Progress(run, stream, line_interval_s=0.01):
        wait_until(run, 1)
    assert stream.getvalue() == ""


def test_what_users_print_to_a_file_stays_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    run = Played()
    with terminal(100) as (stream, got), Progress(run, stream, refresh_s=0.01):
        wait_until(run, 2)
        sys.stdout.write("result\n")
    assert capsys.readouterr().out == "result\n"
    assert b"result" not in b"".join(got)
