"""Analysis of a web server's log (combined log format): the components of weblog.yaml, and a maker of sample logs.

    rainband run topologies/weblog.yaml                                   a sample of 20,000 lines
    rainband run topologies/weblog.yaml --param path=/var/log/access.log  your own; globs and .gz too
    python topologies/weblog.py 100000 > access.log                       a sample to look at

    log ──▶ parse ─ hits ──▶ per_minute ──▶ counts (SQLite), summary
              ├ errors ──▶ errors (SQLite)  └ late ──▶ late (SQLite)
              └ malformed ──▶ malformed (SQLite)

Rows have keys, the number of the line or minute and status, so that a second run over the same log changes nothing.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from rainband import Bolt, TaskContext, connectors

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = re.compile(
    r"(?P<host>\S+) \S+ \S+ \[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4})"
    r":(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) (?P<zone>[+-]\d{4})\] "
    r'"(?P<method>[A-Z]+) (?P<target>\S+) [^"]*" (?P<status>\d{3}) (?P<size>\d+|-)( .*)?'
)
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]  # whatever the locale


def sample_lines(count: int, seed: int = 1) -> Iterator[str]:
    """Lines of a log in which some come late, some are errors and some are nonsense; the same for the same seed."""
    rng = random.Random(seed)
    at = datetime(2024, 2, 29, 23, 50, tzinfo=UTC)
    targets = ["/", "/login", "/search?q=rain", "/static/app.js", "/api/orders", "/favicon.ico"]
    for _ in range(count):
        at += timedelta(seconds=rng.expovariate(10))
        behind_s = rng.choice([300, 1200]) if rng.random() < 0.002 else rng.uniform(0, 20)
        seen = at - timedelta(seconds=behind_s)
        status = rng.choices([200, 304, 404, 500, 503], [80, 10, 7, 2, 1])[0]
        size = "-" if status == 304 else str(rng.randrange(100, 50_000))
        host = f"10.0.{rng.randrange(4)}.{rng.randrange(1, 255)}"
        when = f"{seen:%d}/{MONTHS[seen.month - 1]}/{seen:%Y:%H:%M:%S} +0000"
        line = f'{host} - - [{when}] "GET {rng.choice(targets)} HTTP/1.1" {status} {size} "-" "sample/1.0"'
        yield line[: rng.randrange(len(line) // 2)] if rng.random() < 0.001 else line


class Log(connectors.Lines):
    """Lines of the logs at `path`; without one, of a sample of so many `lines`."""

    def __init__(self, path: str = "", lines: int = 20_000) -> None:
        self.sample = None if path else tempfile.TemporaryDirectory(prefix="weblog-")
        if self.sample is not None:
            path = f"{self.sample.name}/access.log"
            with Path(path).open("w", encoding="ascii") as stream:
                stream.writelines(f"{line}\n" for line in sample_lines(lines))
        super().__init__(path, errors="backslashreplace")

    def close(self) -> None:
        super().close()
        if self.sample is not None:
            self.sample.cleanup()


class Parse(Bolt):
    outputs = {"number": int, "minute": str, "status": int, "size": int}
    streams = {
        "errors": {"number": int, "at": str, "host": str, "target": str, "status": int},
        "malformed": {"number": int, "record": str},
    }

    def process(self, number: int, line: str) -> None:
        found = LINE.fullmatch(line)
        at = None if found is None else moment(found)
        if found is None or at is None:
            self.emit(number, line, stream="malformed")
            return
        status, size = int(found["status"]), found["size"]
        self.emit(number, f"{at:%Y-%m-%d %H:%M}", status, 0 if size == "-" else int(size))
        if status >= 500:
            self.emit(number, f"{at:%Y-%m-%d %H:%M:%S}", found["host"], found["target"], status, stream="errors")


class PerMinute(Bolt):
    """Counts by minute and status; a minute is told once the log is `lateness` minutes further.

    What comes for a minute that was told goes to `late`. One task, because only who sees all lines knows how far the
    log is.
    """

    outputs = {"minute": str, "status": int, "hits": int, "bytes": int}
    streams = {"late": {"number": int, "minute": str, "status": int}}

    def __init__(self, lateness: int = 2) -> None:
        self.lateness = timedelta(minutes=lateness)

    def prepare(self, context: TaskContext) -> None:
        self.open: dict[str, dict[int, list[int]]] = {}  # minute -> status -> hits, bytes
        self.newest = self.told = ""  # minutes as text sort as they should

    def process(self, number: int, minute: str, status: int, size: int) -> None:
        if minute > self.newest:
            self.newest = minute
            self.told = f"{datetime.fromisoformat(minute) - self.lateness:%Y-%m-%d %H:%M}"
            for done in sorted(known for known in self.open if known < self.told):
                self.tell(done)
        if minute < self.told:
            self.emit(number, minute, status, stream="late")
            return
        counts = self.open.setdefault(minute, {}).setdefault(status, [0, 0])
        counts[0] += 1
        counts[1] += size

    def finish(self) -> None:
        for minute in sorted(self.open):
            self.tell(minute)

    def tell(self, minute: str) -> None:
        for status, (hits, size) in sorted(self.open.pop(minute).items()):
            self.emit(minute, status, hits, size)


class Summary(Bolt):
    """Prints how many requests there were of each status."""

    def prepare(self, context: TaskContext) -> None:
        self.hits: dict[int, int] = {}
        self.minutes: set[str] = set()

    def process(self, minute: str, status: int, hits: int) -> None:
        self.hits[status] = self.hits.get(status, 0) + hits
        self.minutes.add(minute)

    def finish(self) -> None:
        for status, hits in sorted(self.hits.items()):
            print(f"{status} {hits:>9,}")
        print(f"{sum(self.hits.values()):,} requests in {len(self.minutes):,} minutes")


def moment(found: re.Match[str]) -> datetime | None:
    """The time of a line in UTC; None if there is no such time."""
    zone = found["zone"]
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:])) * (-1 if zone[0] == "-" else 1)
    try:
        year, day, hour, minute, second = (int(found[name]) for name in ("year", "day", "hour", "minute", "second"))
        month = MONTHS.index(found["month"]) + 1
        return datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset)).astimezone(UTC)
    except ValueError:
        return None


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in sample_lines(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
