"""The policies that the bench brings."""

from __future__ import annotations

from typing import Any

from bench.payload import MATCH

WIDE = {
    "global": {"budget": ["1000000 per 1s"], "concurrent": 1000},
    "storm": {"new_alerts": 1_000_000, "within": "1s", "hold": "1s"},
    "breaker": {"ineffective": 100, "demote_to": "approve"},
}
"""limits.yaml that limits nothing: the bench measures the daemon, not its brakes."""


def policy(name: str, alertname: str, file: str, **more: Any) -> dict[str, Any]:
    """A policy in mode enforce without checks."""
    return {
        "name": name,
        "mode": "enforce",
        "from": ["bench"],
        "match": [f'alertname="{alertname}"'],
        "remedies": [
            {
                "action": "bench.record",
                "with": {"id": "${labels.bench_id}", "sent": "${annotations.sent_ns}", "file": file},
            }
        ],
        "limits": {
            "cooldown": "0s",
            "per_target": ["1000000 per 1s"],
            "budget": ["1000000 per 1s"],
            "flapping": "1000000 per 1s",
            "concurrent": 1000,
            "open_runs": 1_000_000,
        },
        **more,
    }


def policies(count: int, file: str = "unused", **more: Any) -> dict[str, dict[str, Any]]:
    """`count` policies, of which one matches the matching alerts of `bench.payload`.

    Args:
        more: of the one that matches, such as `{"for": "1h"}`.
    """
    found = {"bench": policy("bench", MATCH, file, **more)}
    for number in range(1, count):
        name = f"other-{number}"
        found[name] = policy(name, f"Other{number}", file)
    return found
