"""``rainband run``: one topology, in this process or in several, to its end."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from rainband.cli import output
from rainband.cli.options import SECONDS, json_option, params_option
from rainband.cli.report_error import report_error
from rainband.cli.target import load_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rainband.report import Report

_EPILOG = """\b
Examples:
  rainband run wordcount.yaml
  rainband run wordcount.yaml --param TEXT=book.txt --set max_pending=500
  rainband run wordcount.yaml --set count.tick_interval_s=0.5 --duration 30s
  rainband run wordcount.yaml --workers 4    in four processes; one that dies is replaced
  rainband run pipeline.py                   its only Topology
  rainband run pipeline.py:build -p path=/var/log/syslog
  rainband run shop.pipelines:orders --json > report.json

With --json, what your own code prints goes to stderr. Secrets (values of variables named like DB_PASSWORD or
API_TOKEN, and of file: references) are shown as ***, except in what your own code writes.

SIGINT (Ctrl-C) or SIGTERM drains: sources stop, what is in flight is finished. A second one stops at once.

Exit codes: 0 done · 1 the run failed, or a module raised on import · 2 usage · 3 not found · 5 the drain ran out of
time · 6 done, with dead letters · 78 invalid topology · 130/143 second signal.
"""


@click.command(epilog=_EPILOG)
@click.argument("target", metavar="FILE|module:object")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="A setting, or component.setting; wins over all.")
@params_option
@click.option("--duration", type=SECONDS, metavar="S", help="Drain after so many seconds (also 1.5m, 2h).")
@json_option
def command(  # noqa: PLR0917 - click gives them by name
    target: str,
    workers: int | None,
    settings: Sequence[str],
    params: Mapping[str, str],
    duration: float | None,
    as_json: bool,
) -> int:
    """Run a topology until its spouts end, --duration is over, or a signal comes."""
    from rainband.config import parse_settings  # noqa: PLC0415 - pydantic

    config = parse_settings(settings)
    if workers is not None:
        config["workers"] = workers
    with output.prints_to_stderr(when=as_json):
        return _run(target, params, config, duration, as_json=as_json)


def _run(
    target: str, params: Mapping[str, str], config: Mapping[str, Any], duration: float | None, *, as_json: bool
) -> int:
    topology = load_target(target, params).topology()
    from rainband.errors import RunInterrupted  # noqa: PLC0415
    from rainband.progress import Progress  # noqa: PLC0415
    from rainband.run import run  # noqa: PLC0415

    try:
        report = run(topology, config=config, duration_s=duration, watch=Progress, tell=output.message)
    except RunInterrupted as error:
        code = report_error(error, sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
        # A call of the user's that does not return must not keep the process: the second signal is final.
        os._exit(code)
    return _tell(report, as_json=as_json)


def _tell(report: Report, *, as_json: bool) -> int:
    code = 6 if report.dead_letters else 0
    if as_json:
        output.result_json({"exit_code": code, "report": json.loads(report.json())})
    else:
        output.result(str(report))
    return code
