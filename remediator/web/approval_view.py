"""What the page about an approval shows, as plain values for its template. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from remediator.engine.asking import commands
from remediator.engine.shapes import time
from remediator.model import MINUTE, SECOND, Approval, Episode, Instant, Millis, Run, span

_WIDE = 240
_HIGH = 44


def view(asked: Approval, run: Run, episodes: Sequence[Episode], now: Instant) -> dict[str, Any]:
    """Everything that the person needs to decide."""
    plan, data = asked.plan, asked.data
    approve, reject = commands(asked)
    return {
        "asked": asked,
        "run": run,
        "plan": plan,
        "policy": data.get("policy", run.policy),
        "description": data.get("description", ""),
        "severity": data.get("severity", ""),
        "runbook": _web(data.get("runbook", "")),
        "worst_case": data.get("worst_case", ""),
        "again": data.get("again", ""),
        "changes": changes(asked),
        "blast": blast(asked),
        "evidence": [evidence(name, found, now) for name, found in sorted(data.get("evidence", {}).items())],
        "alerts": [_alert(one, now) for one in episodes],
        "asked_at": time(asked.asked_at),
        "asked_ago": ago(now, asked.asked_at),
        "expires_at": time(asked.expires_at),
        "left": short(Millis(max(0, asked.expires_at - now))),
        "left_share": share(asked.expires_at - now, asked.expires_at - asked.asked_at),
        "decided_at": time(asked.decided_at) if asked.decided_at is not None else "",
        "now": time(now),
        "commands": {"approve": approve, "reject": reject, "show": f"remediator runs show {asked.run} -w"},
    }


def changes(asked: Approval) -> list[dict[str, Any]]:
    """One entry for each field that the plan names; those of a mapping one by one."""
    plan = asked.plan
    found: list[dict[str, Any]] = []
    for name in sorted({*plan.before, *plan.after}):
        before, after = plan.before.get(name), plan.after.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            keys = sorted({*before, *after})
            found += [_change(f"{name} {key}", before.get(key, 0), after.get(key, 0), None) for key in keys]
        else:
            found.append(_change(name, before, after, plan.blast.whole))
    return found


def _change(name: str, before: Any, after: Any, whole: float | None) -> dict[str, Any]:
    """A field, from and to; numbers also as shares of the longest bar."""
    numeric = _number(before) and _number(after) and min(before, after) >= 0
    most = max(before, after, whole or 0) if numeric else 0
    difference = after - before if numeric else 0
    return {
        "name": name,
        "before": before,
        "after": after,
        "numeric": numeric and most > 0,
        "from": share(before, most) if numeric else 0,
        "to": share(after, most) if numeric else 0,
        "whole": f"{whole:g}" if whole is not None and most == whole else "",
        "difference": f"{difference:+g}" if numeric and difference else "",
    }


def blast(asked: Approval) -> dict[str, Any]:
    """How much is touched: in words, and as a share of the whole."""
    radius = asked.plan.blast
    of = f" of {radius.whole:g}" if radius.whole is not None else ""
    return {
        "text": f"{radius.amount:g}{of} {radius.unit}",
        "share": share(radius.amount, radius.whole) if radius.whole else None,
        "steps": asked.steps,
    }


def evidence(name: str, found: Any, now: Instant) -> dict[str, Any]:
    """One look-up: its last value, how old it is, and its course as a line."""
    if not isinstance(found, dict):
        return {"name": name, "text": str(found), "value": "", "age": "", "note": "", "line": ""}
    samples = [(at, value) for at, value in found.get("samples", []) if _number(value)]
    unit = str(found.get("unit", ""))
    return {
        "name": name,
        "text": "" if samples else "no data",
        "value": f"{samples[-1][1]:g}{unit}" if samples else "",
        "age": ago(now, Instant(int(samples[-1][0]))) if samples else "",
        "note": str(found.get("note", "")),
        "line": line(samples),
    }


def line(samples: Sequence[tuple[float, float]]) -> str:
    """The points of an SVG polyline; "" where there are not two of them."""
    if len(samples) < 2:
        return ""
    times, values = [at for at, _ in samples], [value for _, value in samples]
    first, wide = min(times), (max(times) - min(times)) or 1
    low, high = min(values), (max(values) - min(values)) or 1
    return " ".join(
        f"{(at - first) / wide * _WIDE:.1f},{_HIGH - 2 - (value - low) / high * (_HIGH - 4):.1f}"
        for at, value in samples
    )


def share(part: float, whole: float | None) -> float:
    """Percent, from 0 to 100."""
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole else 0.0


def short(left: Millis) -> str:
    """`12m` or `40s`: what a person reads at a glance."""
    unit = MINUTE if left >= MINUTE else SECOND
    return span(left // unit * unit)


def ago(now: Instant, at: Instant) -> str:
    """`3m ago`"""
    return f"{short(Millis(max(0, now - at)))} ago"


def _alert(episode: Episode, now: Instant) -> dict[str, Any]:
    said = episode.alert
    return {
        "id": episode.id,
        "name": said.labels.get("alertname", "unknown"),
        "sender": said.sender,
        "status": said.status.value,
        "firing": episode.firing,
        "since": time(said.starts_at),
        "for": short(Millis(max(0, now - said.starts_at))),
        "labels": sorted((key, value) for key, value in said.labels.items() if key != "alertname"),
        "summary": said.annotations.get("summary") or said.annotations.get("description") or "",
        "value": f"{said.value:g}" if said.value is not None else "",
        "url": _web(said.url),
    }


def _web(url: str) -> str:
    """The address if it is one of the web; what an alert says may be anything."""
    return url if url.startswith(("https://", "http://")) else ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
