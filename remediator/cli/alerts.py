"""`alerts list` and `alerts explain`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from remediator.cli import terminal, values
from remediator.cli.invocation import Invocation
from remediator.cli.verb import group, verb
from remediator.model import MANUAL

app = group()


@verb(app, "list")
async def list_(
    call: Invocation,
    matchers: Annotated[
        list[str] | None,
        typer.Argument(help='Matchers, all must hold: QueueDepthHigh, queue=~"prod-.+"', show_default=False),
    ] = None,
    firing: Annotated[bool | None, typer.Option("--firing/--ended", help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List alerts, newest first."""
    wanted = values.matchers(matchers or [])
    async with call.reader() as reader:
        found = await reader.alerts(wanted, firing, limit)
    rows = [
        (
            one["id"],
            one["starts_at"],
            # Nobody ever says that it resolved: it is a person's `runs start`.
            one["status"] if one["sender"] != MANUAL else "by hand",
            one["labels"].get("severity"),
            one["labels"].get("alertname"),
            one["sender"],
            {key: value for key, value in one["labels"].items() if key not in ("alertname", "severity")},
        )
        for one in found
    ]
    head = ("ID", "SINCE", "STATUS", "SEVERITY", "ALERT", "SENDER", "LABELS")
    call.print(found, terminal.table(head, rows, "no such alert"))


@verb(app, "explain")
async def explain(
    call: Invocation,
    id: Annotated[int, typer.Argument(help="As in `alerts list`.", min=1, max=values.MOST_ID)],
    policy: Annotated[str | None, typer.Option(help="Ask about this policy only.")] = None,
) -> None:
    """Say why something did, or did not, happen about an alert."""
    async with call.reader() as reader:
        said = await reader.explain(id, policy)
    call.print(said, explanation(said))


def explanation(said: dict[str, Any]) -> str:
    """An explanation to be read: the headline, the runs, what happened, and who did not match."""
    alert = said["alert"]
    parts = [
        terminal.wrapped(terminal.safe(said["headline"])),
        _alert(alert),
        *(_run(one) for one in said["runs"]),
        _incidents(said["incidents"]),
        _timeline(said["timeline"]),
        _matching(said),
    ]
    if said["note"]:
        parts.append(terminal.wrapped("Note: " + terminal.safe(said["note"])))
    return "\n\n".join(part for part in parts if part)


def _alert(alert: dict[str, Any]) -> str:
    labels = alert["labels"]
    rest = {key: value for key, value in labels.items() if key != "alertname"}
    ended = alert["resolved_at"] or alert["ends_at"]
    return _titled(
        f"Alert {alert['id']}",
        terminal.pairs(
            [
                ("name", labels.get("alertname", "unknown")),
                ("labels", rest),
                ("sender", alert["sender"]),
                ("status", alert["status"] + (f" since {ended}" if ended else "")),
                ("started", alert["starts_at"]),
                ("received", alert["received_at"]),
                ("value", alert["value"]),
                ("link", alert["url"]),
            ]
        ),
    )


def _run(answer: dict[str, Any]) -> str:
    run = answer["run"]
    rows = [
        ("policy", run["policy"]),
        ("target", run["target"]),
        ("mode", run["mode"]),
        ("state", run["state"]),
        ("outcome", run["outcome"] or "still open"),
        ("reason", run["reason"]),
        ("observed", run["observed"]),
        ("allowed", run["allowed"]),
        ("opened by", f"alert {run['alert']}" if answer["attached"] else None),
        ("next", answer["next"]),
    ]
    for intent in answer["intents"]:
        rows.append((str(intent["kind"]), terminal.intent(intent)))
    return _titled(f"Run {run['id']}", terminal.pairs(rows))


def _incidents(incidents: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"Incident {one['id']}: {one['severity']}, {one['state']}; remediator incidents show {one['id']}"
        for one in incidents
    )


def _timeline(lines: list[dict[str, Any]]) -> str:
    if not lines:
        return ""
    several = len({line["run"] for line in lines if line["run"]}) > 1
    text = []
    for line in lines:
        about = f"run {line['run']}: " if several and line["run"] else ""
        text.append(terminal.wrapped(f"{line['at']}  {about}{terminal.safe(line['text'])}", "  "))
    return terminal.bold("What happened") + "\n" + "\n".join(text)


def _matching(said: dict[str, Any]) -> str:
    parts = []
    if said["matched"]:
        parts.append("Policies that match: " + ", ".join(one["policy"] for one in said["matched"]))
    if said["near"]:
        rows = [
            (
                one["policy"],
                "sender" if one["matcher"] == "from" else one["matcher"],
                one["observed"],
                one["allowed"] or "nobody",
                f"{one['held']} of {one['of']}",
            )
            for one in said["near"]
        ]
        head = ("POLICY", "FIRST THAT FAILED", "OBSERVED", "WANTED", "MATCHERS THAT HOLD")
        parts.append(terminal.bold("Policies that do not match") + "\n" + terminal.table(head, rows))
    if said["further"]:
        parts.append(f"and {said['further']} more that do not match; --policy NAME explains one")
    return "\n\n".join(parts)


def _titled(title: str, body: str) -> str:
    return terminal.bold(title) + "\n" + "\n".join(f"  {line}" for line in body.splitlines())
