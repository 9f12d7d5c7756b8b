"""How every bench measures and prints: rounds, figures with their bars, the table, and what machine it ran on.

Only ratios hold on a noisy machine, and only if both arms ran within the same second. So arms alternate, a figure is
made per round (a ratio of two times next to each other, never of two medians), and what is printed is the median of the
rounds and the quartile on the bad side: the lower one where more is better, the upper one where less is better.
"reached" looks at the median. A bench never fails because of a figure, only because of a wrong result (`check`).
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import os
import platform
import shlex
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import rainband

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
LEAST_ROUNDS = 7
TIMES = "\N{MULTIPLICATION SIGN}"
COSTS = {"ms", "ns", "bytes", "MB", "%"}
"""Units of what is better when it is less, also where no bar says so."""


class WrongResultError(AssertionError):
    """Something was counted that is not so: the only way in which a bench fails."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; `size` is the share of the full amount of work."""

    rounds: int
    quick: bool
    full: bool

    def size(self, n: int) -> int:
        return max(1, n // 5) if self.quick else n


@dataclass(slots=True)
class Figure:
    """One row of the table: a value per round, and the bar of the issue; without one it is there to explain others."""

    name: str
    unit: str = TIMES
    at_least: float | None = None
    at_most: float | None = None
    digits: int = 2
    rounds: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.rounds.append(value)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def bad_quartile(self) -> float:
        if len(self.rounds) == 1:
            return self.rounds[0]
        lower, _, upper = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return upper if self.at_most is not None or self.unit in COSTS else lower

    @property
    def verdict(self) -> str:
        if self.at_least is not None:
            return "reached" if self.median >= self.at_least else f"**{self.median / self.at_least - 1:+.0%}**"
        if self.at_most is not None:
            return "reached" if self.median <= self.at_most else f"**{self.median / self.at_most - 1:+.0%}**"
        return ""

    def row(self) -> str:
        bar = ""
        if self.at_least is not None:
            bar = f"≥ {self.at_least:g}"
        elif self.at_most is not None:
            bar = f"≤ {self.at_most:g}"
        median, quartile = (f"{value:,.{self.digits}f}" for value in (self.median, self.bad_quartile))
        return f"| {self.name} | {median} | {quartile} | {self.unit} | {bar} | {self.verdict} |"


def check(is_right: bool, text: str) -> None:
    """Stop with `text` if a result is wrong."""
    if not is_right:
        raise WrongResultError(text)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes, with no garbage of earlier arms left."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(description: str, body: Callable[[Options], list[Figure]]) -> None:
    """Run one bench file: options, heading, rounds, table."""
    given = parser(description).parse_args()
    options = Options(3 if given.quick else max(LEAST_ROUNDS, given.rounds), given.quick, given.full)
    print(f"\n## {Path(sys.argv[0]).stem}\n\n{heading()}\nrounds: {options.rounds}\n", flush=True)
    start, foreign = time.perf_counter(), _foreign_s()
    with tempfile.TemporaryDirectory(prefix="rainband-bench-") as folder:
        os.environ["XDG_STATE_HOME"] = folder
        figures = body(options)
    print("| figure | median | bad quartile | unit | bar | |\n|---|---|---|---|---|---|")
    for figure in figures:
        print(figure.row())
    took = time.perf_counter() - start
    print(f"\n{took:.0f} s, in which others used {max(0, _foreign_s() - foreign) / took:.0%} of a core", flush=True)


def parser(description: str, names: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    if names:
        made.add_argument("name", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all without one")
    made.add_argument("--rounds", type=int, default=9, help=f"rounds per figure, at least {LEAST_ROUNDS} (9)")
    made.add_argument(
        "--quick", action="store_true", help="3 rounds of a fifth of the work, to try the benches themselves"
    )
    made.add_argument("--full", action="store_true", help="memory over 10^7 roots instead of 10^6")
    return made


def heading() -> str:
    """Machine, versions, command and date; the load tells whether the figures mean anything."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"
    build = "with PGO" if optimised else "without PGO"
    cores = sorted(os.sched_getaffinity(0))
    here = Path(sys.argv[0])
    # Relative to the repository, so that the text says nothing about whose machine it is.
    shown = here.resolve().relative_to(HERE.parent) if here.resolve().is_relative_to(HERE.parent) else here.name
    return "\n".join(
        [
            f"date: {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.2f}",
            f"machine: {_processor()}, {len(cores)} cores, {platform.system()} {platform.release()}",
            f"python: {python}, {build}",
            f"rainband: {rainband.__version__}{_commit()}",
            f"command: python {shown} {shlex.join(sys.argv[1:])}".rstrip(),
        ]
    )


def _foreign_s() -> float:
    """Processor seconds used so far by all but this process and its ended children, stolen ones included."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = sum(map(int, (user, nice, system, *interrupts)))
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def _processor() -> str:
    facts = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name", platform.processor())
    return f"{name} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def _commit() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return f" ({found.stdout.strip()})" if found.returncode == 0 else ""
