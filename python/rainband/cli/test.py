"""``rainband test``: the tests that stand in topology files, run on the engine, each with a readable difference."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rainband.cli import output
from rainband.cli.comparing import Difference, compare
from rainband.cli.options import json_option, params_option
from rainband.cli.target import YAML, load_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rainband.definition.loading import Definition
    from rainband.definition.model import TestEntry

_EPILOG = """\b
Examples:
  rainband test wordcount.yaml
  rainband test topologies/*.yaml -k late --json

\b
A test in a topology file:
  tests:
    - name: counts words
      given: {lines: ["a b a"]}                    what spouts emit in place of their own
      expect: {count: [[a, 1], [b, 1], [a, 2]]}    all that a component emits; stream late: count.late
      order: any                                   or exact
      params: {TEXT: other.txt}                    values for ${TEXT} in this test
      dead_letters: 0                              tuples that must fail for good

Values of one field are written bare, several as a list. Whole and broken numbers are compared as numbers (to nine
digits), dates, paths and the like as their text. A tuple that fails for good fails the test, unless dead_letters says
how many must. What components print is shown when a test fails.

Exit codes: 0 all passed · 1 any failed · 2 usage · 3 a file does not exist, or no test was found · 78 invalid topology.
"""


@click.command(epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-k", "part", metavar="TEXT", default="", help="Only tests whose name contains TEXT.")
@params_option
@json_option
def command(files: Sequence[str], part: str, params: Mapping[str, str], as_json: bool) -> int:
    """Run the tests that stand in topology files."""
    from rainband.definition.imports import modules_of  # noqa: PLC0415 - slow to import

    for file in files:
        if not file.endswith(YAML):
            msg = f'tests stand in .yaml files, got "{file}"; tests in Python are run by pytest'
            raise click.UsageError(msg)
        if not Path(file).is_file():
            load_file(file, {})
    rows: list[dict[str, Any]] = []
    for file in files:
        with modules_of(Path(file).parent):
            rows += _test_file(file, part, params, quiet=as_json)
    failed = sum(not row["passed"] for row in rows)
    if as_json:
        output.result_json({"passed": len(rows) - failed, "failed": failed, "tests": rows})
    elif rows:
        output.result(f"{len(rows) - failed} passed" + (f", {failed} failed" if failed else ""))
    if not rows:
        output.error("no test was found", fix='write "tests:" into the file, see rainband test --help')
    return 1 if failed else 0 if rows else 3


def _test_file(file: str, part: str, params: Mapping[str, str], *, quiet: bool) -> list[dict[str, Any]]:
    from rainband.definition import load_tests  # noqa: PLC0415 - pydantic

    rows = []
    if not quiet:
        output.result(file)
    for index, (entry, definition) in enumerate(load_tests(file, params=params)):
        output.hide(definition.mask)
        if part in entry.name:
            rows.append(_run_test(definition.place(("tests", index)), entry, definition))
            if not quiet:
                _tell(rows[-1])
    return rows


def _run_test(place: str, entry: TestEntry, definition: Definition) -> dict[str, Any]:
    from rainband.errors import RunError  # noqa: PLC0415
    from rainband.testing import complete  # noqa: PLC0415 - the engine

    topology = definition.topology()
    start = time.perf_counter()
    row: dict[str, Any] = {
        "place": place,
        "file": definition.file,
        "name": entry.name,
        "passed": False,
        "differences": [],
    }
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            result = complete(topology, spouts=_given(entry))
        emitted = {name: list(result[name]) for name in entry.expect}
    except KeyError as error:
        row["error"] = f"expect: {error.args[0]}"
    except RunError as error:
        from rainband.definition.imports import user_traceback  # noqa: PLC0415

        row["error"] = str(error)
        row["traceback"] = user_traceback(error.__cause__) if error.__cause__ is not None else ""
    else:
        differences = [compare(name, wanted, emitted[name], entry.order) for name, wanted in entry.expect.items()]
        row["differences"] = [difference.as_dict() for difference in differences if difference is not None]
        dead = list(result.dead_letters)
        if len(dead) != entry.dead_letters:
            row["dead_letters"] = {
                "expected": entry.dead_letters,
                "got": len(dead),
                "letters": [str(each) for each in dead],
            }
        row["passed"] = not row["differences"] and "dead_letters" not in row
    row["printed"] = printed.getvalue()
    row["duration_s"] = round(time.perf_counter() - start, 4)
    return row


def _given(entry: TestEntry) -> dict[str, list[Any]]:
    """What each spout emits; ``lines.late`` gives values of its stream ``late``."""
    from rainband import to  # noqa: PLC0415

    found: dict[str, list[Any]] = {}
    for name, values in entry.given.items():
        spout, _, stream = name.partition(".")
        if stream:
            rows = [each if isinstance(each, list) else [each] for each in values]
            found.setdefault(spout, []).extend(to(stream, *row) for row in rows)
        else:
            found.setdefault(spout, []).extend(values)
    return found


def _tell(row: dict[str, Any]) -> None:
    word = click.style("ok    ", fg="green") if row["passed"] else click.style("FAIL  ", fg="red", bold=True)
    output.result(
        f"  {word}{row['name']} ({row['duration_s'] * 1000:.0f} ms)" + ("" if row["passed"] else f" {row['place']}")
    )
    if row["printed"] and not row["passed"]:
        output.result(_indented("printed:\n" + row["printed"]))
    if "error" in row:
        output.result(_indented(row.get("traceback", "") + "\n" + row["error"]))
    for found in row["differences"]:
        output.result(_indented(Difference(**found).text()))
    if "dead_letters" in row:
        dead = row["dead_letters"]
        lines = [f"dead letters: expected {dead['expected']}, got {dead['got']}", *dead["letters"][:10]]
        output.result(_indented("\n".join(lines)))


def _indented(text: str) -> str:
    return "\n".join("        " + line for line in text.strip().splitlines())
