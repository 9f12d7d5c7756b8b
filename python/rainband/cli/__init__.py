"""The command ``rainband``: where it starts, and how every error ends as a text and an exit code.

A command is a file of this folder with a function ``command``; it is imported only when it is called or asked for
help, and what it needs (pydantic, the engine, a drawing) only when it works. So ``--version`` and ``--help`` cost an
interpreter, click and nothing else. stdout is the result, stderr is messages.

Exit codes, everywhere: see ``EXIT_CODES``.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import click

EXIT_CODES: Final = {
    0: "done, also after a signal that drained",
    1: "the run failed, or a test failed",
    2: "wrong usage",
    3: "not found",
    5: "the drain ran out of time",
    6: "done, with dead letters",
    78: "the topology is invalid",
    130: "stopped by a second SIGINT (143: SIGTERM)",
}

COMMANDS: Final = {
    "new": "Make a project that runs and passes its tests.",
    "run": "Run a topology until its spouts end or a signal comes.",
    "validate": "Check topology files without running them.",
    "graph": "Draw a topology: mermaid, dot, svg or json.",
    "test": "Run the tests that stand in topology files.",
    "schema": "Print the JSON Schema of topology files.",
}
"""Every command and its line in the help, so that the help imports none of them."""


def main() -> NoReturn:
    """The entry point of ``rainband``; leaves with an exit code."""
    args = sys.argv[1:]
    if args in (["--version"], ["-V"]):
        sys.stdout.write(f"rainband {_version()}\n")
        sys.exit(0)
    try:
        code = run_cli(args)
        # Whoever interrupts once more is obeyed already; in the interpreter's shutdown it would end in a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:  # while it told of the one before
        code = 130
    if "rainband.run" in sys.modules:
        # Threads may still be inside calls of the user's that do not return; this gets the code out all the same.
        from rainband.run import leave  # noqa: PLC0415 - loaded already

        leave(code)
    sys.exit(code)


def run_cli(args: list[str]) -> int:
    """Runs one command line and returns its exit code; what goes wrong is told on stderr."""
    from rainband.cli.group import make_group  # noqa: PLC0415 - click
    from rainband.cli.report_error import report_error  # noqa: PLC0415

    # In any place, because people add it at the end of the line that failed.
    debug, args = "--debug" in args, [arg for arg in args if arg != "--debug"]
    color = False if os.environ.get("NO_COLOR") else None
    try:
        result = make_group().main(args, prog_name="rainband", standalone_mode=False, color=color)
    except BaseException as error:  # noqa: BLE001 - the one place where errors end
        return report_error(error, args, debug=debug)
    return result if isinstance(result, int) else 0


def group() -> click.Group:
    """The command group, for the tests and the page of the command line."""
    from rainband.cli.group import make_group  # noqa: PLC0415

    return make_group()


def load_command(name: str) -> click.Command:
    """The click command in the file ``name`` of this folder."""
    command: click.Command = import_module(f"rainband.cli.{name}").command
    return command


def _version() -> str:
    from rainband import __version__  # noqa: PLC0415

    return __version__
