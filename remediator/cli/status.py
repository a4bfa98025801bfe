"""`status`: what holds the daemon back, and what waits for a person."""

from __future__ import annotations

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.reading import Json
from remediator.cli.verb import FINE, NO, group, verb

app = group()

_MOST = 1000


@verb(app)
async def status(call: Invocation) -> int:
    """What holds it back and what waits for a person now: brakes, questions, incidents, open runs, leases.

    0 nothing does, 1 something does. Open runs and leases alone are no reason to look.
    """
    async with call.reader() as reader:
        found = {
            "brakes": await reader.controls(),
            "questions": await reader.questions(),
            "incidents": await reader.incidents(open=True, limit=_MOST),
            "runs": await reader.runs(open=True, policy=None, alert=None, limit=_MOST),
            "effects": await reader.effects(True),
        }
    call.print(found, "\n\n".join(_sections(found)))
    return NO if found["brakes"] or found["questions"] or found["incidents"] else FINE


def _sections(found: dict[str, list[Json]]) -> list[str]:
    return [
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
