"""`audit query` and `audit verify`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from remediator.cli import terminal, values
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, group, verb
from remediator.engine.shapes import time
from remediator.engine.timeline import KINDS
from remediator.model import Instant

app = group()

_FOR_MACHINES = frozenset({"policy_revision", "fingerprint", "hash", "head", "nonce"})
_MILLENNIUM = 978_307_200_000


@verb(app, "query")
async def query(
    call: Invocation,
    alert: Annotated[
        int | None, typer.Option(min=1, max=values.MOST_ID, help="Only about this alert.")
    ] = None,
    run: Annotated[int | None, typer.Option(min=1, max=values.MOST_ID, help="Only about this run.")] = None,
    policy: Annotated[str | None, typer.Option(help="Only of this policy.")] = None,
    target: Annotated[str | None, typer.Option(help="Only of this target.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, e.g. run.refused.")] = None,
    since: Annotated[str | None, typer.Option(help="2h (ago), or 2026-01-15T10:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Else newest first.")] = False,
) -> None:
    """Ask the audit log."""
    filters = {
        "alert": alert,
        "run": run,
        "policy": policy,
        "target": target,
        "kind": kind,
        "since": values.instant(since, "--since"),
        "until": values.instant(until, "--until"),
    }
    if kind is not None and kind not in KINDS:
        _doubt(call, kind)
    async with call.reader() as reader:
        found = await reader.audit(filters, limit, oldest_first)
    rows = [
        (
            one["at"],
            one["kind"],
            one["actor"],
            one["alert"],
            one["run"],
            one["policy"],
            one["target"],
            one["reason"],
            one["observed"],
            one["allowed"],
            _details(one["data"]),
        )
        for one in found
    ]
    head = (
        "AT",
        "KIND",
        "ACTOR",
        "ALERT",
        "RUN",
        "POLICY",
        "TARGET",
        "REASON",
        "OBSERVED",
        "ALLOWED",
        "DETAILS",
    )
    call.print(found, terminal.table(head, rows, "no such event"))


def _details(data: Mapping[str, Any]) -> str:
    """What else an event says, without what is for machines: a person's reason, a scope, until when."""
    said = []
    for key, value in data.items():
        if key in _FOR_MACHINES or isinstance(value, dict) or value in (None, "", []):
            continue
        # Instants are milliseconds in the log; nothing else in it is a number of that size.
        instant = isinstance(value, int) and value >= _MILLENNIUM
        said.append(f"{key}={time(Instant(value)) if instant else terminal.cell(value)}")
    return " ".join(said)


def _doubt(call: Invocation, kind: str) -> None:
    """Nothing found may mean a mistyped kind: who asks whether something happened must not take it for no."""
    near = get_close_matches(kind, sorted(KINDS), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(KINDS))}"
    call.warn(f"warning: this version writes no event of the kind {kind!r}; {hint}")


@verb(app, "verify")
async def verify(
    call: Invocation,
    head: Annotated[
        str | None, typer.Option(help="A head noted earlier (log, metrics): proves that nothing was cut off.")
    ] = None,
) -> int:
    """Check the sealed chain: 0 it is whole, 1 something is missing or was changed."""
    async with call.reader() as reader:
        report = await reader.verify(head)
    lines = [
        terminal.pairs(
            [
                ("sealed", str(report["sealed"])),
                ("not yet sealed", str(report["unsealed"])),
                ("head", report["head"]),
            ]
        )
    ]
    for what in ("missing", "changed", "broken"):
        if report[what]:
            lines.append(f"{what}: {terminal.cell(report[what])}")
    if not report["head_found"]:
        lines.append(f"the head {head} is not in the chain: records at its end were cut off or replaced")
    lines.append("the log is whole" if report["whole"] else "THE LOG IS NOT WHOLE")
    call.print(report, "\n".join(lines))
    return FINE if report["whole"] else NO
