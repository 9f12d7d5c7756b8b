"""``rainband schema``: the JSON Schema of topology files, for editors."""

from __future__ import annotations

import click

from rainband.cli.options import json_option

_EPILOG = """\b
Examples:
  rainband schema > topology.schema.json
  # then, as the first line of a topology file, for editors with a YAML language server:
  # yaml-language-server: $schema=topology.schema.json
"""


@click.command(epilog=_EPILOG)
@json_option
def command(as_json: bool) -> int:
    """Print the JSON Schema of topology files."""
    from importlib.resources import files  # noqa: PLC0415

    del as_json  # it is JSON in any case
    click.echo(files("rainband").joinpath("topology.schema.json").read_text(encoding="utf-8"), nl=False)
    return 0
