"""The click group: lists commands without importing them, and the options that all of them have."""

from __future__ import annotations

import click

from rainband import __version__
from rainband.cli import COMMANDS, EXIT_CODES, load_command
from rainband.definition.problem import did_you_mean

_WIDTH = 100


class _Group(click.Group):
    """Imports a command when it is named, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            fix = did_you_mean(name, COMMANDS)
            if name.endswith((".yaml", ".yml", ".py")) or ":" in name:
                fix = f"to run it, write rainband run {name}"
            msg = f'there is no command "{name}"; {fix}'
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
        with formatter.section("Begin with"):
            formatter.write_text("rainband new wordcount && cd wordcount && rainband run wordcount.yaml")


def make_group() -> click.Group:
    """A fresh group; ``--debug`` and ``--version`` are taken out of the line before, and are here for the help."""
    group = _Group(
        "rainband",
        help="Storm-style topologies for Python on a Rust core.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    )
    debug = "Show tracebacks of the engine too. Those of your own code are always shown."
    group.params += [
        click.Option(["--debug"], is_flag=True, expose_value=False, help=debug),
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            is_eager=True,
            help="Show the version.",
            expose_value=False,
            callback=_show_version,
        ),
    ]
    return group


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value:
        click.echo(f"rainband {__version__}")
        ctx.exit()
