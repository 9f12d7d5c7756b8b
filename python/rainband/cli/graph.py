"""``rainband graph``: a picture of a topology."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rainband.cli import output
from rainband.cli.options import json_option, params_option
from rainband.cli.target import load_target

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPILOG = """\b
Examples:
  rainband graph wordcount.yaml                       mermaid, for Markdown
  rainband graph wordcount.yaml --format svg > wordcount.svg
  rainband graph wordcount.yaml --format dot | dot -Tpng > wordcount.png
  rainband graph pipeline.py:build --param path=x --format json

Nothing of a topology file is imported. Dashed edges are back edges: those to the same or an earlier component, in the
order of the file, within a cycle. They never block but queue in memory, see loop_bytes. Secrets are shown as ***.

Exit codes: 0 done · 1 a module raised on import · 2 usage · 3 not found · 78 invalid topology.
"""


@click.command(epilog=_EPILOG)
@click.argument("target", metavar="FILE|module:object")
@click.option(
    "--format", "kind", type=click.Choice(["mermaid", "dot", "svg", "json"]), default="mermaid", show_default=True
)
@params_option
@json_option
def command(target: str, kind: str, params: Mapping[str, str], as_json: bool) -> int:
    """Draw a topology: its components, streams and groupings."""
    from rainband.cli import graph_svg, graph_text  # noqa: PLC0415
    from rainband.cli.wiring import wiring_of  # noqa: PLC0415

    draw = {
        "mermaid": graph_text.draw_mermaid,
        "dot": graph_text.draw_dot,
        "svg": graph_svg.draw_svg,
        "json": graph_text.draw_json,
    }["json" if as_json else kind]
    output.result(draw(wiring_of(load_target(target, params))))
    return 0
