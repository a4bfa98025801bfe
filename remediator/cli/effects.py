"""`effects list|renew|return`."""

from __future__ import annotations

from typing import Annotated

import typer

from remediator.cli import terminal, values
from remediator.cli.invocation import Invocation
from remediator.cli.reading import Json
from remediator.cli.verb import group, many, verb

app = many(group())

IdArgument = Annotated[int, typer.Argument(min=1, max=values.MOST_ID, help="As the list has it.")]
CommentOption = Annotated[str, typer.Option("--comment", help="Why; it stays in the audit log.")]


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
            _state(one),
            one["policy"],
            one["run"],
        )
        for one in found
    ]
    head = ("ID", "TARGET", "FIELD", "NOW", "BACK TO", "BACK AT", "STATE", "POLICY", "RUN")
    call.print(found, terminal.table(head, rows, "nothing is lent"))


@verb(app)
async def renew(
    call: Invocation,
    id: IdArgument,
    comment: CommentOption,
    for_: Annotated[str, typer.Option("--for", help="It ends so long from now: 30m, 2h.")],
) -> None:
    """Let a lease end later: at most as long as its policy lends for, and 7 days in all."""
    values.seconds(for_, "--for")
    async with call.api() as api:
        effect = await api.renew_effect(id, for_, comment)
    said = f"{effect['field']} of {effect['target']} stays {effect['current']} until {effect['expires_at']}"
    call.print(effect, said)


@verb(app, "return")
async def return_(call: Invocation, id: IdArgument, comment: CommentOption) -> None:
    """Put the prior value back now, by a run of its own, also while the alert still fires."""
    async with call.api() as api:
        run = await api.return_effect(id, comment)
    call.print(run, f"run {run['id']} puts it back; follow it: remediator runs show {run['id']}")


def _state(one: Json) -> str:
    if one["outcome"]:
        return str(one["outcome"])
    if one["return_run"]:
        who = f", {one['recalled_by']} wanted it back" if one["recalled_by"] else ""
        return f"run {one['return_run']} returns it{who}"
    if one["renewals"]:
        return f"renewed by {one['renewed_by']}"
    return "extended" if one["extended"] else "lent"
