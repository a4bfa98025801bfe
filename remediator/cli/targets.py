"""`targets list` and `targets clear`."""

from __future__ import annotations

from typing import Annotated

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import group, many, verb

app = many(group())


@verb(app, "list")
async def list_(call: Invocation) -> None:
    """List targets that a run holds, or that are paused or quarantined."""
    async with call.reader() as reader:
        found = await reader.targets()
    rows = [
        (
            one["key"],
            one["run"],
            *(f"{one[brake]['reason']} ({one[brake]['actor']})" if one[brake] else None
              for brake in ("quarantine", "pause")),
        )
        for one in found
    ]  # fmt: skip
    head = ("TARGET", "HELD BY RUN", "QUARANTINED", "PAUSED")
    call.print(found, terminal.table(head, rows, "no target is held"))


@verb(app)
async def clear(
    call: Invocation,
    target: Annotated[str, typer.Argument(help="Its key or its name, as the list has it.")],
    comment: Annotated[str, typer.Option("--comment", help="Why; it stays in the audit log.")],
) -> None:
    """Lift a target's quarantine. Look first what state it is in: the daemon could not tell."""
    async with call.api() as api:
        await api.clear_target(target, comment)
    call.print({"target": target, "cleared": True}, f"{target} is free again for runs")
