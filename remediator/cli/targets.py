"""`targets list`."""

from __future__ import annotations

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
