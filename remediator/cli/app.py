"""The root command and its groups, each imported only when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from remediator.cli.options import (
    ConfigOption,
    Output,
    OutputOption,
    ServerOption,
    Shared,
    TokenOption,
)

GROUPS: dict[str, tuple[str, str]] = {
    "serve": ("remediator.cli.serve:app", "Run the daemon."),
    "init": ("remediator.cli.init:app", "Write settings and a first policy into a directory."),
    "policies": (
        "remediator.cli.policies:app",
        "Check policies, print their schema, restore one.",
    ),
    "status": ("remediator.cli.status:app", "What holds it back, and what waits for a person."),
    "alerts": ("remediator.cli.alerts:app", "List alerts; explain what was done about one."),
    "runs": ("remediator.cli.runs:app", "List, show, start, cancel, approve, reject runs."),
    "incidents": ("remediator.cli.incidents:app", "List, show, acknowledge and resolve incidents."),
    "effects": ("remediator.cli.effects:app", "List, renew and return what is lent for a time."),
    "targets": ("remediator.cli.targets:app", "List targets that are held; lift a quarantine."),
    "audit": ("remediator.cli.audit:app", "Ask the audit log; verify its seal."),
    "pause": ("remediator.cli.controls:pause", "Stop new actions of the daemon, a policy or a target."),
    "resume": ("remediator.cli.controls:resume", "Lift a pause."),
    "actions": ("remediator.cli.catalogue:actions", "What policies can do."),
    "checks": ("remediator.cli.catalogue:checks", "What policies can look at."),
    "store": ("remediator.cli.store:app", "Migrate the database; copy it to another."),
    "doctor": ("remediator.cli.doctor:app", "Reach the store and every connection; change nothing."),
}
"""Name → where its typer app is, and its line in the help."""


class Lazy(TyperGroup):
    """A group that knows its commands' names and help lines, and imports one when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in GROUPS:
            return None
        where, _ = GROUPS[cmd_name]
        module, _, attribute = where.partition(":")
        command = typer.main.get_command(getattr(import_module(module), attribute))
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # typer suggests from the commands it holds, and here it holds none.
        if args and args[0] not in GROUPS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], GROUPS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " See remediator --help."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in GROUPS.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        # The inherited one would import every group for its help line.
        commands = self.commands
        self.commands = {name: TyperCommand(name=name, help=line) for name, (_, line) in GROUPS.items()}
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.commands = commands


app = typer.Typer(
    cls=Lazy,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        from remediator import __version__

        typer.echo(f"remediator {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: ConfigOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    output: OutputOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Auto-remediation that on-call teams trust while they sleep.

    Exit codes: 0 fine, 1 the answer is no, 2 wrong usage or settings, 3 could not tell.
    """
    del version
    ctx.obj = Shared(config=config, server=server, token=token, output=output)


__all__ = ["GROUPS", "Output", "app"]
