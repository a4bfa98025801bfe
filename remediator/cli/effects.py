"""`effects list`."""

from __future__ import annotations

from typing import Annotated

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import group, many, verb

app = many(group())


@verb(app, "list")
async def list_(
    call: Invocation,
    all: Annotated[bool, typer.Option("--all", help="Also those that were put back.")] = False,
) -> None:
    """List what was changed for a time, with the value that comes back and when."""
    async with call.reader() as reader:
        found = await reader.effects(not all)
    rows = [
        (
            one["id"],
            one["target"],
            one["field"],
            one["current"],
            one["prior"],
            one["returned_at"] or one["expires_at"],
            one["outcome"] or ("extended" if one["extended"] else "lent"),
            one["policy"],
            one["run"],
        )
        for one in found
    ]
    head = ("ID", "TARGET", "FIELD", "NOW", "BEFORE", "BACK AT", "STATE", "POLICY", "RUN")
    call.print(found, terminal.table(head, rows, "nothing is lent"))
