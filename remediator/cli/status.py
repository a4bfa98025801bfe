"""`status`: what holds the daemon back, and what waits for a person."""

from __future__ import annotations

from typing import Any

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.reading import Json
from remediator.cli.verb import FINE, NO, UNKNOWN, group, verb

app = group()

_MOST = 1000


@verb(app)
async def status(call: Invocation) -> int:
    """What holds it back and what waits for a person now: the daemon itself, brakes, questions, incidents,
    open runs, leases.

    0 nothing does, 1 something does, 3 the daemon does not answer. Open runs and leases alone are no reason
    to look.
    """
    from remediator.cli.readiness import readiness

    async with call.reader() as reader:
        found: dict[str, Any] = {
            "daemon": await readiness(call.address),
            "brakes": await reader.controls(),
            "questions": await reader.questions(),
            "incidents": await reader.incidents(open=True, limit=_MOST),
            "runs": await reader.runs(open=True, policy=None, alert=None, limit=_MOST),
            "effects": await reader.effects(True),
        }
    call.print(found, "\n\n".join(_sections(found)))
    daemon = found["daemon"]
    if found["brakes"] or found["questions"] or found["incidents"] or daemon["ready"] is False:
        return NO
    if daemon["ready"] is None:
        return UNKNOWN
    return NO if daemon["said"] else FINE


def _daemon(said: Json) -> str:
    state = {True: "ready", False: "not ready", None: "could not be asked"}[said["ready"]]
    return "\n".join((f"Daemon: {state}", *(f"  {terminal.safe(line)}" for line in said["said"])))


def _sections(found: dict[str, Any]) -> list[str]:
    return [
        _daemon(found["daemon"]),
        _section(
            "Brakes",
            ("WHAT", "SCOPE", "BY", "SINCE", "UNTIL", "WHY"),
            [
                (one["kind"], one["scope"] or "the whole daemon", one["actor"], one["since"],
                 one["until"] or "lifted", one["reason"])
                for one in found["brakes"]
            ],
            "nothing holds it back",
        ),
        _section(
            "Questions",
            ("RUN", "APPROVAL", "PLAN", "ROLE", "UNTIL"),
            [
                (one["run"], one["id"], f"{one['plan']['action']} on {one['plan']['target']}", one["role"],
                 one["expires_at"])
                for one in found["questions"]
            ],
            "nobody is asked",
        ),
        _section(
            "Incidents",
            ("ID", "SEVERITY", "TARGET", "OPENED", "ACKNOWLEDGED BY"),
            [
                (one["id"], one["severity"], one["target"], one["opened_at"], one["acknowledged_by"])
                for one in found["incidents"]
            ],
            "none is open",
        ),
        _section(
            "Runs",
            ("ID", "POLICY", "TARGET", "STATE", "REASON", "OBSERVED"),
            [
                (one["id"], one["policy"], one["target"], one["state"], one["reason"], one["observed"])
                for one in found["runs"]
            ],
            "none is open",
        ),
        _section(
            "Effects",
            ("ID", "TARGET", "FIELD", "EXPIRES"),
            [(one["id"], one["target"], one["field"], one["expires_at"]) for one in found["effects"]],
            "nothing is lent",
        ),
    ]  # fmt: skip


def _section(name: str, head: tuple[str, ...], rows: list[tuple[object, ...]], empty: str) -> str:
    if not rows:
        return f"{name}: {empty}"
    return f"{name}\n{terminal.table(head, rows)}"
