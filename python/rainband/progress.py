"""What a person sees while a topology runs: a live table on a terminal, a line every few seconds elsewhere, a summary.

Used by the command line as `run(topology, watch=Progress)`. A thread of its own reads `Run.snapshot()`, so that neither
the main thread nor an executor ever waits for a terminal. Everything goes to stderr; stdout belongs to the topology.
What goes wrong here (a closed pipe, a terminal of two columns) ends the display and nothing else.

The plain line, also used when the terminal is dumb or too narrow for the table:

    wordcount running 5.0 s: lines 1 234/s, split 12 340/s, count 12 340/s; pending 1 000, acked 6 170, failed 0
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import TextIO

    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

__all__ = ["Progress", "Rates", "plain_line", "summary"]

_REFRESH_S: Final = 0.5
_LINE_INTERVAL_S: Final = 5.0
_MIN_COLUMNS: Final = 40  # below, a table says less than a line
_FULL_COLUMNS: Final = 64  # below, the columns "queue" and "pending" are left out

Snapshot = dict[str, Any]


class Watched(Protocol):
    """What a display needs of a `Run`."""

    @property
    def name(self) -> str: ...
    def snapshot(self) -> Snapshot: ...


class Rates:
    """How much each component did a second between two snapshots, by the engine's own time.

    Example:
        >>> rates = Rates()
        >>> def at(uptime_s, executed):
        ...     return {"uptime_s": uptime_s, "components": [{"name": "split", "kind": "bolt", "executed": executed}]}
        >>> rates.update(at(1.0, 100)), rates.update(at(3.0, 500))
        ({'split': 100.0}, {'split': 200.0})
    """

    def __init__(self) -> None:
        self._uptime_s = 0.0
        self._done: dict[str, int] = {}
        self._last: dict[str, float] = {}

    def update(self, snapshot: Mapping[str, Any]) -> dict[str, float]:
        """The rates since the snapshot before; the first counts from the start."""
        passed_s = snapshot["uptime_s"] - self._uptime_s
        if passed_s <= 0:
            return self._last
        done = {row["name"]: _done(row) for row in snapshot["components"]}
        self._last = {name: (n - self._done.get(name, 0)) / passed_s for name, n in done.items()}
        self._uptime_s, self._done = snapshot["uptime_s"], done
        return self._last


class Progress:
    """Shows a run while it lasts; a context manager around the wait.

    Args:
        run: the run; anything with `name` and `snapshot()`.
        stream: where to, stderr if not given.
        refresh_s: between two pictures of the live table.
        line_interval_s: between two plain lines.

    Example:
        >>> class Done:
        ...     name = "wordcount"
        ...     def snapshot(self):
        ...         return {"state": "ended", "uptime_s": 2.0, "components": []}
        >>> with Progress(Done(), sys.stdout):
        ...     pass
        wordcount ended after 2.0 s: acked 0, failed 0, dead letters 0, pending 0
    """

    def __init__(
        self,
        run: Watched,
        stream: TextIO | None = None,
        *,
        refresh_s: float = _REFRESH_S,
        line_interval_s: float = _LINE_INTERVAL_S,
    ) -> None:
        self._run = run
        self._stream = sys.stderr if stream is None else stream
        self._refresh_s = refresh_s
        self._line_interval_s = line_interval_s
        self._rates = Rates()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        console = _live_console(self._stream)
        if console is not None:
            self._live = _new_live(console)
            self._live.start()
        self._thread = threading.Thread(target=self._show, name="rainband-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)  # a stopped terminal (Ctrl-S) must not hold the end
        with contextlib.suppress(Exception):
            snapshot = self._run.snapshot()
            if self._live is not None:
                self._live.update(_table(self._run.name, snapshot, self._rates.update(snapshot), self._live.console))
                self._live.stop()
            self._write(summary(self._run.name, snapshot))

    def _show(self) -> None:
        interval_s = self._line_interval_s if self._live is None else self._refresh_s
        with contextlib.suppress(Exception):
            while not self._stop.wait(interval_s):
                snapshot = self._run.snapshot()
                rates = self._rates.update(snapshot)
                if self._live is None:
                    self._write(plain_line(self._run.name, snapshot, rates))
                else:
                    table = _table(self._run.name, snapshot, rates, self._live.console)
                    self._live.update(table, refresh=True)

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def plain_line(name: str, snapshot: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """One line of progress.

    Example:
        >>> row = {"name": "split", "kind": "bolt", "executed": 10, "failed": {"error": 2}}
        >>> plain_line("wordcount", {"state": "running", "uptime_s": 5.0, "components": [row]}, {"split": 1234.5})
        'wordcount running 5.0 s: split 1 234/s; pending 0, acked 0, failed 2'
    """
    speeds = ", ".join(f"{component} {_number(rate)}/s" for component, rate in rates.items())
    sums = _sums(snapshot)
    head = f"{name} {snapshot['state']} {snapshot['uptime_s']:.1f} s: {speeds}; pending {_number(sums['pending'])}"
    return f"{head}, acked {_number(sums['acked'])}, failed {_number(sums['failed'])}"


def summary(name: str, snapshot: Mapping[str, Any]) -> str:
    """The last line.

    Example:
        >>> roots = {"emitted": 5, "acked": 4, "dead": 1}
        >>> row = {"name": "lines", "kind": "spout", "emitted": 5, "roots": roots}
        >>> summary("wordcount", {"state": "ended", "uptime_s": 5.0, "components": [row]})
        'wordcount ended after 5.0 s: acked 4, failed 0, dead letters 1, pending 0'
    """
    sums = _sums(snapshot)
    counts = ", ".join(f"{word} {_number(sums[key])}" for word, key in _SUMMARY)
    return f"{name} {snapshot['state']} after {snapshot['uptime_s']:.1f} s: {counts}"


_SUMMARY: Final = (("acked", "acked"), ("failed", "failed"), ("dead letters", "dead"), ("pending", "pending"))


def _sums(snapshot: Mapping[str, Any]) -> dict[str, int]:
    """Roots acked, dead and pending over all components, and failures."""
    sums = {key: sum(_roots(row, key) for row in snapshot["components"]) for key in ("acked", "dead", "pending")}
    sums["failed"] = sum(_failed(row) for row in snapshot["components"])
    return sums


def _done(row: Mapping[str, Any]) -> int:
    """What a rate counts: tuples handled, of a spout tuples emitted."""
    count: int = row.get("emitted" if row["kind"] == "spout" else "executed", 0)
    return count


def _roots(row: Mapping[str, Any], key: str) -> int:
    count: int = (row.get("roots") or {}).get(key, 0)
    return count


def _failed(row: Mapping[str, Any]) -> int:
    return sum(row.get("failed", {}).values())


def _acked(row: Mapping[str, Any]) -> int:
    count: int = _roots(row, "acked") if row["kind"] == "spout" else row.get("acked", 0)
    return count


def _fill(row: Mapping[str, Any]) -> str:
    capacity = row.get("queue_capacity", 0)
    return f"{100 * row.get('queue', 0) / capacity:.0f} %" if capacity and row["kind"] == "bolt" else ""


def _number(count: float) -> str:
    return f"{int(count):,}".replace(",", " ")


def _live_console(stream: TextIO) -> Console | None:
    """A console for a live table, None where plain lines are right."""
    if not stream.isatty() or os.environ.get("TERM", "") in {"dumb", "unknown"}:
        return None
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it

    console = Console(file=stream)  # knows NO_COLOR
    _measure(console)
    return console if console.is_terminal and console.width >= _MIN_COLUMNS else None


def _measure(console: Console) -> None:
    """Tell the console the size of its own terminal; by itself it asks those of stdin and stdout."""
    with contextlib.suppress(OSError, ValueError):
        console.width, console.height = os.get_terminal_size(console.file.fileno())


def _new_live(console: Console) -> Live:
    from rich.live import Live  # noqa: PLC0415

    # What users print goes above the table; but only if it goes to the terminal anyway.
    is_shared = sys.stdout.isatty()
    return Live(console=console, auto_refresh=False, redirect_stdout=is_shared, redirect_stderr=True)


def _table(name: str, snapshot: Mapping[str, Any], rates: Mapping[str, float], console: Console) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    _measure(console)
    is_full = console.width >= _FULL_COLUMNS
    # Text, not str: a name is no markup, and a row must stay a row.
    table = Table(
        title=Text(f"{name} {snapshot['state']} {snapshot['uptime_s']:.1f} s"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("component", no_wrap=True, overflow="ellipsis", ratio=None)
    for heading in ("per s", *(("queue", "pending") if is_full else ()), "acked", "failed"):
        table.add_column(heading, justify="right", no_wrap=True, overflow="ellipsis")
    for row in snapshot["components"]:
        failed = _failed(row)
        cells: list[Text | str] = [
            Text(row["name"], style="cyan" if row["kind"] == "spout" else ""),
            _number(rates.get(row["name"], 0)),
        ]
        if is_full:
            owns_roots = row["kind"] == "spout" or _roots(row, "emitted")
            cells += [_fill(row), _number(_roots(row, "pending")) if owns_roots else ""]
        cells += [_number(_acked(row)), Text(_number(failed), style="red" if failed else "")]
        table.add_row(*cells)
    return table
