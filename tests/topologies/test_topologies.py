"""Every topology in topologies/: against an oracle that uses no engine, its own tests, and from the command line."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import runpy
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rainband.definition import load_topology
from rainband.errors import RunError
from rainband.testing import Completed, complete

FOLDER = Path(__file__).parents[2] / "topologies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def run(name: str, **params: object) -> Completed:
    """Run a topology with its own spouts on the engine."""
    topology = load_topology(FOLDER / f"{name}.yaml", params={key: str(value) for key, value in params.items()})
    result = complete(topology, checked=False)
    assert result.report.balances
    return result


def rainband(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("rainband")), *map(str, words)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_STATE_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


# -- word count ----------------------------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A small tree with an ending of every kind, a packed file and bytes that are no text."""
    folder = tmp_path / "texts"
    (folder / "deep" / "deeper").mkdir(parents=True)
    source = Path(json.__file__).read_bytes()
    (folder / "a.txt").write_bytes(source)
    (folder / "deep" / "b.txt").write_bytes(source.replace(b"\n", b"\r\n").rstrip())
    (folder / "deep" / "deeper" / "c.gz").write_bytes(gzip.compress(source * 3))
    (folder / "latin.txt").write_bytes("caf\xe9 caf\xe9\n".encode("latin-1"))
    (folder / "empty.txt").write_bytes(b"")
    return folder


def count_words(folder: Path) -> Counter[str]:
    words: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            words.update(content.decode("utf-8", "replace").split())
    return words


def test_wordcount(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = count_words(texts)
    result = run("wordcount", path=texts, top=100_000)
    assert dict(result["count"]) == words
    assert len(result["count"]) == len(words)
    assert Counter(result["split"]) == words
    assert len(result["count.totals"]) == 2
    printed = capsys.readouterr().out.splitlines()
    most = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    assert [line.split() for line in printed[1:-1]] == [[f"{count:,}", word] for word, count in most]
    assert printed[-1].startswith(f"{words.total():,} words, {len(words):,} distinct, in ")


def test_wordcount_tells_the_top(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("wordcount", path=texts, pattern="*.txt", top=3)
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 + 1


def test_wordcount_of_what_is_not_there() -> None:
    text = 'spout "lines" .*file "/nowhere/at/all" cannot be read: no such file or directory'
    with pytest.raises(RunError, match=text):
        run("wordcount", path="/nowhere/at/all")


# -- Collatz -------------------------------------------------------------------------------------------------------


def steps_of(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def test_collatz(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {n: steps_of(n) for n in range(1, 301)}
    result = run("collatz", count=300)
    assert dict(result["step"]) == expected
    assert len(result["step"]) == 300
    assert len(result["step.loop"]) == sum(expected.values())
    longest = max(expected, key=lambda n: (expected[n], -n))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == [f"{longest:,}", "needs", str(expected[longest]), "steps"]
    assert printed[-1] == f"300 numbers, {sum(expected.values()):,} steps"


# -- join ----------------------------------------------------------------------------------------------------------


def test_join(capsys: pytest.CaptureFixture[str]) -> None:
    module = runpy.run_path(str(FOLDER / "join.py"))
    count = 1000
    orders = {order: (customer, cents) for order, customer, cents in module["orders"](count)}
    payments = dict(module["payments"](count))
    both = orders.keys() & payments.keys()
    joined = {(n, *orders[n], orders[n][1] - payments[n]) for n in both}
    alone = {(n, "orders") for n in orders.keys() - both} | {(n, "payments") for n in payments.keys() - both}
    assert len(joined) > 900
    assert len(alone) > 50

    result = run("join", count=count)
    assert sorted(result["join"]) == sorted(joined)
    assert sorted(result["join.unmatched"]) == sorted(alone)
    assert result.report.pending == 0
    paid = sum(payments[n] for n in both)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{len(joined):,} orders with a payment: {paid / 100:,.2f} paid"
    assert printed[2] == f"50 orders without a payment, {len(alone) - 50:,} payments without an order"


# -- web log -------------------------------------------------------------------------------------------------------


def analyse(lines: list[str], lateness_min: int = 2) -> dict[str, list[Any]]:
    """What weblog.yaml should find, by another way: split in place of a pattern, minutes as numbers."""
    counts: dict[tuple[int, int], list[int]] = {}
    tables: dict[str, list[Any]] = {"errors": [], "late": [], "malformed": []}
    newest = -1
    for number, line in enumerate(lines, 1):
        quoted = line.split('"')
        if len(quoted) != 7:
            tables["malformed"].append((number, line))
            continue
        host, when = quoted[0].split(" - - [")
        day, month, year, clock = re.split("[/:]", when.split()[0], maxsplit=3)
        assert (year, month in {"Feb", "Mar"}) == ("2024", True)
        hour, minute, _ = map(int, clock.split(":"))
        at = ((int(day) + (29 if month == "Mar" else 0)) * 24 + hour) * 60 + minute
        status, size = quoted[2].split()
        date = f"2024-{'02' if month == 'Feb' else '03'}-{day}"
        if int(status) >= 500:
            tables["errors"].append((number, f"{date} {clock}", host, quoted[1].split()[1], int(status)))
        newest = max(newest, at)
        if at < newest - lateness_min:
            tables["late"].append((number, f"{date} {clock[:5]}", int(status)))
        else:
            entry = counts.setdefault((f"{date} {clock[:5]}", int(status)), [0, 0])  # type: ignore[arg-type]
            entry[0] += 1
            entry[1] += 0 if size == "-" else int(size)
    tables["per_minute"] = sorted((minute, status, *entry) for (minute, status), entry in counts.items())
    return tables


def read_tables(path: Path) -> dict[str, list[Any]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = ("errors", "late", "malformed", "per_minute")
        return {name: sorted(database.execute(f"SELECT * FROM {name}").fetchall()) for name in names}


@pytest.mark.parametrize("lateness", [1, 2])
def test_weblog(tmp_path: Path, lateness: int) -> None:
    lines = list(runpy.run_path(str(FOLDER / "weblog.py"))["sample_lines"](6000, seed=5))
    expected = analyse(lines, lateness)
    assert all(expected.values())
    # The older half packed, the newer plain, as a log that is rotated.
    (tmp_path / "access.log.0.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    result = run("weblog", path=tmp_path / "access.log.*", out=tmp_path / "out.db", lateness=lateness)
    assert read_tables(tmp_path / "out.db") == expected
    assert sorted(result["per_minute"]) == expected["per_minute"]
    run("weblog", path=tmp_path / "access.log.*", out=tmp_path / "out.db", lateness=lateness)
    assert read_tables(tmp_path / "out.db") == expected


def test_weblog_makes_its_own_sample(tmp_path: Path) -> None:
    lines = list(runpy.run_path(str(FOLDER / "weblog.py"))["sample_lines"](4000))
    run("weblog", lines=4000, out=tmp_path / "out.db")
    assert read_tables(tmp_path / "out.db")["per_minute"] == analyse(lines)["per_minute"]
    printed = subprocess.run(
        [sys.executable, FOLDER / "weblog.py", "4000"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == lines


def test_weblog_into_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "out.db").write_text("not a database, and long enough to be looked at " * 100)
    with pytest.raises(RunError, match=r'out.db" cannot be opened: file is not a database'):
        run("weblog", lines=4000, out=tmp_path / "out.db")


# -- enrichment ----------------------------------------------------------------------------------------------------


def test_enrich() -> None:
    module = runpy.run_path(str(FOLDER / "enrich.py"))
    purchases = list(module["purchases"](300))
    cities = module["CITIES"]
    with module["DemoServer"]() as server:
        result = run("enrich", url=server.url, count=300)
    assert sorted(result["enrich"]) == [(n, cities[user % len(cities)], cents) for n, user, cents in purchases]
    assert server.refused > 10
    assert server.requests == 300 + server.refused
    assert result.report.components["enrich"].failures == server.refused
    assert not result.dead_letters


def test_enrich_with_unknown_users() -> None:
    module = runpy.run_path(str(FOLDER / "enrich.py"))
    purchases = list(module["purchases"](60))
    unknown = [n for n, user, _ in purchases if user >= 50]
    with module["DemoServer"](users=50) as server:
        result = run("enrich", url=server.url, count=60)
    assert sorted(n for n, _, _ in result["enrich"]) == [n for n, user, _ in purchases if user < 50]
    assert sorted(letter["values"][0] for letter in result.dead_letters) == unknown
    assert {letter["reason"] for letter in result.dead_letters} == {"rejected"}


# -- from the command line -----------------------------------------------------------------------------------------


def test_five_topologies() -> None:
    assert NAMES == ["collatz", "enrich", "join", "weblog", "wordcount"]


@pytest.mark.parametrize("name", NAMES)
def test_own_tests(name: str, tmp_path: Path) -> None:
    done = rainband("test", FOLDER / f"{name}.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("2 passed\n")


@pytest.mark.parametrize("name", NAMES)
def test_run_from_the_command_line(name: str, tmp_path: Path, texts: Path) -> None:
    params = {"wordcount": f"path={texts}", "weblog": "lines=500"}.get(name, "count=50")
    done = rainband("run", FOLDER / f"{name}.yaml", "--param", params, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    last = {
        "collatz": r"50 numbers, [\d,]+ steps",
        "enrich": "50 purchases",
        "join": r"\d+ orders without a payment, \d+ payments without an order",
        "weblog": r"\d+ requests in \d+ minutes",
        "wordcount": r"[\d,]+ words, [\d,]+ distinct, in \d+\.\d s",
    }[name]
    assert re.search(f"(?m)^{last}$", done.stdout), done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_valid(name: str, tmp_path: Path) -> None:
    done = rainband("validate", "--import", FOLDER / f"{name}.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
