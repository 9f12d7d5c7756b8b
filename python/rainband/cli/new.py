"""``rainband new``: a project that runs and passes its tests as it is."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

import click

from rainband.cli import output
from rainband.cli.options import json_option

_EPILOG = """\b
Examples:
  rainband new wordcount
  cd wordcount && rainband run wordcount.yaml && rainband test wordcount.yaml

NAME may be a path; its last part is the name of the topology. A folder that exists and is not empty is left alone.

Exit codes: 0 done · 2 the name cannot be used, or the folder is not empty.
"""


@click.command(epilog=_EPILOG)
@click.argument("name")
@json_option
def command(name: str, as_json: bool) -> int:
    """Make a project: a topology file, its components, tests and a README."""
    folder = Path(name)
    module = _module_name(folder.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f'"{folder}" exists and is not empty; choose another name, nothing was written'
        raise click.UsageError(msg)
    written = _write(folder, module)
    if as_json:
        output.result_json({"folder": str(folder), "files": [str(path) for path in written]})
        return 0
    for path in written:
        output.result(str(path))
    output.message(f"\nnext: cd {folder} && rainband run {folder.name}.yaml && rainband test {folder.name}.yaml")
    return 0


def _module_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        msg = f'expected a name of a letter, then letters, digits, "_" or "-", got "{name}"'
        raise click.UsageError(msg)
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        msg = f'"{module}" is a keyword of Python and cannot be imported; choose another name'
        raise click.UsageError(msg)
    if module in sys.stdlib_module_names or module == "rainband" or importlib.util.find_spec(module) is not None:
        msg = f'there is a module "{module}" already, which yours would hide; choose another name'
        raise click.UsageError(msg)
    return module


def _write(folder: Path, module: str) -> list[Path]:
    from importlib.resources import files  # noqa: PLC0415

    templates = files("rainband").joinpath("cli", "templates")
    names = {
        "topology.yaml.txt": f"{folder.name}.yaml",
        "components.py.txt": f"{module}.py",
        "test_components.py.txt": f"test_{module}.py",
        "README.md.txt": "README.md",
        "sample.txt": "sample.txt",
    }
    texts = {
        name: templates.joinpath(template)
        .read_text(encoding="utf-8")
        .replace("@NAME@", folder.name)
        .replace("@MODULE@", module)
        for template, name in names.items()
    }
    texts["topology.schema.json"] = files("rainband").joinpath("topology.schema.json").read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in texts.items():
        path = folder / name
        # "x": what appeared meanwhile is not overwritten either.
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
        written.append(path)
    return written
