"""``rainband validate``: every mistake of topology files, without running them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rainband.cli import output
from rainband.cli.options import json_option, params_option
from rainband.cli.report_error import Failed
from rainband.cli.target import YAML, load_file, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EPILOG = """\b
Examples:
  rainband validate wordcount.yaml
  rainband validate topologies/*.yaml --import
  rainband validate wordcount.yaml -p TEXT=book.txt --json

Without --import nothing of yours is imported: syntax, keys, values, variables, sources and settings are checked. With
it also classes, their arguments, fields and hooks. A module that raises on import makes its file invalid.

Exit codes: 0 all valid · 2 usage · 3 a file does not exist · 78 any is invalid.
"""


@click.command(epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--import", "imports", is_flag=True, help="Also import the classes and check the topology with them.")
@params_option
@json_option
def command(files: Sequence[str], imports: bool, params: Mapping[str, str], as_json: bool) -> int:
    """Check topology files: syntax, schema, graph; with --import also the classes."""
    from rainband.definition.imports import modules_of  # noqa: PLC0415 - slow to import

    missing = [file for file in files if file.endswith(YAML) and not Path(file).is_file()]
    if missing:
        load_file(missing[0], params)
    rows = []
    for file in files:
        with modules_of(Path(file).parent):
            rows.append(_validate(file, params, imports=imports))
        if not as_json and rows[-1]["valid"]:
            output.result(f"{file}: valid ({rows[-1]['summary']})")
    valid = all(row["valid"] for row in rows)
    if as_json:
        output.result_json({"valid": valid, "files": rows})
    return 0 if valid else 78


def _validate(file: str, params: Mapping[str, str], *, imports: bool) -> dict[str, Any]:
    from rainband.errors import TopologyError  # noqa: PLC0415

    if not file.endswith(YAML) and not imports:
        msg = f'"{file}" is Python and can only be checked by importing it; add --import'
        raise click.UsageError(msg)
    try:
        target = load_target(file, params)
        if imports:
            target.topology()
    except TopologyError as error:
        output.problems(error.problems, str(error).partition("\n")[0].rstrip(":"))
        return {"file": file, "valid": False, "problems": [output.problem_as_dict(each) for each in error.problems]}
    except Failed:
        return {"file": file, "valid": False, "problems": [{"message": "the module raised on import"}]}
    return {"file": file, "valid": True, "summary": _summary(target), "problems": []}


def _summary(target: Any) -> str:
    if target.definition is None:
        kinds = [each.kind for each in target.made.definitions]
        return f"{_count(kinds.count('spout'), 'spout')}, {_count(kinds.count('bolt'), 'bolt')}"
    model = target.definition.model
    counts = ((len(model.spouts), "spout"), (len(model.bolts), "bolt"), (len(model.tests), "test"))
    return ", ".join(_count(number, word) for number, word in counts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
