"""`incidents list`, `show`, `ack` and `resolve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from remediator.cli import terminal, values
from remediator.cli.invocation import Invocation
from remediator.cli.runs import event_line
from remediator.cli.verb import group, verb

app = group()

Id = Annotated[
    int, typer.Argument(help="As in `incidents list`.", min=1, max=values.MOST_ID, show_default=False)
]


@verb(app, "list")
async def list_(
    call: Invocation,
    open: Annotated[bool | None, typer.Option("--open/--resolved", help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List incidents: what people are called for, and who has it."""
    async with call.reader() as reader:
        found = await reader.incidents(open=open, limit=limit)
    rows = [
        (
            one["id"],
            one["severity"],
            one["target"],
            one["state"] + (" (late)" if one["overdue"] and one["state"] == "open" else ""),
            one["opened_at"],
            one["acknowledged_by"],
            one["called"],
            one["resolved_at"],
        )
        for one in found
    ]
    head = ("ID", "SEVERITY", "TARGET", "STATE", "OPENED", "ACKNOWLEDGED BY", "CALLED", "RESOLVED")
    call.print(found, terminal.table(head, rows, "no such incident"))


@verb(app, "show")
async def show(call: Invocation, id: Id) -> None:
    """Show an incident: its runs and alerts, what was done, who was told what and when."""
    async with call.reader() as reader:
        incident = await reader.incident(id)
    call.print(incident, shown(incident))


@verb(app, "ack")
async def ack(
    call: Invocation,
    id: Id,
    comment: Annotated[str, typer.Option("--comment", help="What you know or do about it.")] = "",
) -> None:
    """Say that you have it: nobody further is called. Status updates go on."""
    async with call.api() as api:
        incident = await api.acknowledge(id, comment)
    who = terminal.safe(incident["acknowledged_by"] or "")
    call.print(incident, f"incident {id} is acknowledged by {who}; nobody further is called")


@verb(app, "resolve")
async def resolve(
    call: Invocation,
    id: Id,
    comment: Annotated[str, typer.Option("--comment", help="How it ended; everyone who was told hears it.")],
) -> None:
    """Say that it is over. An incident ends by itself when its alerts have resolved and its runs ended."""
    async with call.api() as api:
        incident = await api.resolve_incident(id, comment)
    call.print(incident, f"incident {id} is resolved")


def shown(incident: dict[str, Any]) -> str:
    """An incident to be read."""
    rows: list[tuple[str, Any]] = [
        ("incident", incident["id"]),
        ("target", incident["target"]),
        ("severity", incident["severity"]),
        ("state", incident["state"]),
        ("chain", incident["chain"]),
        ("called", incident["called"]),
        ("opened", incident["opened_at"]),
        ("acknowledged", incident["acknowledged_at"]),
        ("by", incident["acknowledged_by"]),
        ("comment", incident["comment"]),
        ("resolved", incident["resolved_at"]),
        ("next", incident["next_at"]),
    ]
    rows += [
        ("run", f"{one['id']} {one['policy']}, {one['outcome'] or one['state']}") for one in incident["runs"]
    ]
    rows += [
        ("alert", f"{one['id']} {one['labels'].get('alertname', 'unknown')}, {one['status']}")
        for one in incident["alerts"]
    ]
    rows += [(str(one["kind"]), terminal.intent(one)) for one in incident["intents"]]
    lines = [event_line(event) for event in incident["events"]]
    return terminal.pairs(rows) + ("\n\n" + "\n".join(lines) if lines else "")
