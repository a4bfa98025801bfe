"""`runs list`, `show`, `start`, `approve`, `reject` and `cancel`."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

import typer

from remediator.cli import terminal, values
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, UNKNOWN, group, verb
from remediator.errors import StoreUnavailable

app = group()

GOOD = frozenset({"succeeded", "observed", "nothing_to_do"})
"""Outcomes after which `runs show -w` exits with 0."""
_EVERY = 0.5
_TRIES = 3

Id = Annotated[int, typer.Argument(help="As in `runs list`.", min=1, max=values.MOST_ID, show_default=False)]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stays in the audit log.")]

CommentOption = Annotated[str, typer.Option("--comment", help="Why; it stays in the audit log.")]
ApprovalOption = Annotated[
    int | None,
    typer.Option(
        "--approval", min=1, max=values.MOST_ID, help="The one that was read; without it, whichever is asked."
    ),
]


@verb(app, "list")
async def list_(
    call: Invocation,
    open: Annotated[bool | None, typer.Option("--open/--ended", help="Only these.")] = None,
    policy: Annotated[str | None, typer.Option(help="Only of this policy.")] = None,
    alert: Annotated[
        int | None, typer.Option(min=1, max=values.MOST_ID, help="Only about this alert.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List runs, newest first."""
    async with call.reader() as reader:
        found = await reader.runs(open=open, policy=policy, alert=alert, limit=limit)
    rows = [
        (
            one["id"],
            one["created_at"],
            one["policy"],
            one["target"],
            one["outcome"] or one["state"],
            one["reason"],
            one["observed"],
            one["alert"],
        )
        for one in found
    ]
    head = ("ID", "OPENED", "POLICY", "TARGET", "STATE", "REASON", "OBSERVED", "ALERT")
    call.print(found, terminal.table(head, rows, "no such run"))


@verb(app, "show")
async def show(
    call: Invocation,
    id: Id,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    timeout: Annotated[str, typer.Option(help="With -w: follow it for at most this long.")] = "1h",
) -> int:
    """Show a run. With -w follow it: 0 it went well, 1 it did not, 3 it had not ended in time."""
    within = values.seconds(timeout, "--timeout")
    async with call.reader() as reader:
        run = await reader.run(id)
        if not watch:
            call.print(run, shown(run))
            return FINE
        return await _follow(call, reader, run, within)


@verb(app, "start")
async def start(
    call: Invocation,
    policy: Annotated[str, typer.Argument(help="The policy's name.", show_default=False)],
    reason: ReasonOption,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="LABEL=VALUE", help="A label, as the alert would have it."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="Started once, however often it is repeated with this; made up if not given."
        ),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also with labels that the policy's match: would not match.")
    ] = False,
) -> None:
    """Run a policy by hand, through all the same guards: 1 the policy would not match such an alert.

    Labels of which match: allows one value only, as alertname="X", need not be given.

    Where the daemon does not answer, nobody knows whether the run was started; it is asked again with the
    same key, and the key is shown if that does not help either.
    """
    labels = values.labels(set or [])
    key = key or secrets.token_hex(8)
    async with call.api() as api:
        for left in reversed(range(_TRIES)):
            try:
                run = await api.start(policy, labels, reason, key, anyway)
                break
            except StoreUnavailable as error:
                if not left:
                    raise StoreUnavailable(f"{error}; repeat the command with --key {key}") from None
                await asyncio.sleep(_EVERY)
    call.print(run, f"run {run['id']} is {run['state']}; follow it: remediator runs show {run['id']} -w")


@verb(app, "cancel")
async def cancel(call: Invocation, id: Id, reason: ReasonOption) -> None:
    """End a run that has not acted yet."""
    async with call.api() as api:
        run = await api.cancel(id, reason)
    call.print(run, f"run {run['id']} is {run['outcome'] or run['state']}")


@verb(app, "approve")
async def approve(call: Invocation, id: Id, comment: CommentOption, approval: ApprovalOption = None) -> None:
    """Let a run in mode approve carry out its plan: 0 it is approved, 1 it cannot be any more."""
    async with call.api() as api:
        decided = await api.approve(id, comment, approval)
    call.print(decided, f"{_decided(decided)}; follow it: remediator runs show {id} -w")


@verb(app, "reject")
async def reject(call: Invocation, id: Id, comment: CommentOption, approval: ApprovalOption = None) -> None:
    """Refuse the plan of a run in mode approve: 0 it is rejected, 1 it cannot be any more."""
    async with call.api() as api:
        decided = await api.reject(id, comment, approval)
    call.print(decided, _decided(decided))


def _decided(one: dict[str, Any]) -> str:
    plan = one["plan"]
    change = f"{terminal.cell(plan['before'])} → {terminal.cell(plan['after'])}"
    what = f"{plan['action']} on {terminal.cell(plan['target'])}: {change}"
    return f"run {one['run']} is {one['decision']} by {terminal.safe(one['actor'])}: {what}"


async def _follow(call: Invocation, reader: Any, run: dict[str, Any], within: float) -> int:
    seen: set[str] = set()
    try:
        async with asyncio.timeout(within):
            while True:
                if not call.json:
                    for event in run["events"]:
                        if event["id"] not in seen:
                            seen.add(event["id"])
                            typer.echo(event_line(event))
                if run["outcome"] is not None:
                    break
                await asyncio.sleep(_EVERY)
                run = await reader.run(run["id"])
    except TimeoutError:
        call.warn(f"remediator: run {run['id']} has not ended yet; it is {run['state']}")
        return UNKNOWN
    call.print(run, f"run {run['id']}: {run['outcome']}{_why(run)}")
    return FINE if run["outcome"] in GOOD else NO


def shown(run: dict[str, Any]) -> str:
    """A run to be read."""
    rows: list[tuple[str, Any]] = [
        ("run", run["id"]),
        ("policy", run["policy"]),
        ("target", run["target"]),
        ("mode", run["mode"]),
        ("state", run["state"]),
        ("outcome", run["outcome"] or "still open"),
        ("reason", run["reason"]),
        ("observed", run["observed"]),
        ("allowed", run["allowed"]),
        ("opened", run["created_at"]),
        ("changed", run["updated_at"]),
        ("next", run["next_at"]),
        ("revision", run["policy_revision"][:12]),
    ]
    rows += [
        ("alert", f"{one['id']} {one['labels'].get('alertname', 'unknown')}, {one['status']}")
        for one in run["alerts"]
    ]
    rows += [(str(one["kind"]), terminal.intent(one)) for one in run["intents"]]
    rows += [("approval", _asked(one)) for one in reversed(run["approvals"])]
    rows += [("incident", one) for one in run["incidents"]]
    lines = [event_line(event) for event in run["events"]]
    gap = run.get("events_before_gap")
    if gap is not None:
        lines.insert(gap, f"… left out here; all: remediator audit query --run {run['id']} --oldest-first")
    return terminal.pairs(rows) + ("\n\n" + "\n".join(lines) if lines else "")


def _asked(one: dict[str, Any]) -> str:
    """A question and its answer: `5: valve.open on valve:main: turns=0 → turns=2, approved by alice: fine`"""
    plan = one["plan"]
    change = f"{terminal.cell(plan['before'])} → {terminal.cell(plan['after'])}"
    what = f"{one['id']}: {plan['action']} on {terminal.cell(plan['target'])}: {change}"
    if one["decision"] is None:
        return f"{what}, waits for the role {one['role']} until {one['expires_at']}; {one['worst_case']}"
    said = f": {one['comment']}" if one["comment"] else ""
    return f"{what}, {one['decision']} by {one['actor']}{said}"


def event_line(event: dict[str, Any]) -> str:
    """One audit event as a line."""
    return terminal.wrapped(f"{event['at']}  {event['kind']}{_why(event)}{_by(event)}")


def _why(one: dict[str, Any]) -> str:
    from remediator.engine.timeline import because, said_of

    why = because(one["reason"], one["observed"], one["allowed"])
    said = "" if why else said_of(one["kind"], one["data"])
    return terminal.safe(why or (f": {said}" if said else ""))


def _by(event: dict[str, Any]) -> str:
    return "" if event["actor"] == "daemon" else f" (by {terminal.safe(event['actor'])})"
