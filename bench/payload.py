"""Realistic Alertmanager webhook bodies, made fast: every alert distinct, one in N matching a policy."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

MATCH = "BenchRemediate"
"""The alertname of the alerts that match."""
_SEQUENCE, _FINGERPRINT, _NAME, _ID, _SENT = "\x01S", "\x01F", "\x01M", "\x01B", "\x01N"
_SLOT = re.compile(r"(\\u0001[SFMBN])")


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _alert(starts_at: str) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {
            "alertname": _NAME,
            "bench_id": _ID,
            "cluster": "prod-eu-1",
            "instance": f"node-{_SEQUENCE}.eu1.example.net:9100",
            "job": "node-exporter",
            "namespace": "payments",
            "service": "checkout-api",
            "severity": "warning",
        },
        "annotations": {
            "summary": f"High disk usage on node-{_SEQUENCE}.eu1.example.net",
            "description": "Filesystem /var/lib/data on the instance has been above 90% of its capacity for "
            "more than 10 minutes and is predicted to fill in 4 hours.",
            "sent_ns": _SENT,
        },
        "startsAt": starts_at,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.net:9090/graph?g0.expr=node_filesystem_avail_bytes"
        "+%2F+node_filesystem_size_bytes+%3C+0.1&g0.tab=1",
        "fingerprint": _FINGERPRINT,
    }


class Payloads:
    """Makes bodies of `alerts` alerts each; every alert of one (run, sequence) is distinct.

    A matching alert carries the label `bench_id` and the annotation `sent_ns` (the wall clock when it was
    made), so that an action that writes both down tells the latency.

    Args:
        alerts: in one body.
        run: a tag of six hexadecimal digits; the same tag makes the same alerts again.
        match_every: one alert in so many matches (0: none).
        starts_at: RFC 3339; the start of every alert.
        repeatable: leave the time of sending out, so that the same tag makes the same bytes again.
        names: distinct alertnames that match nothing.
    """

    def __init__(
        self,
        alerts: int,
        run: str,
        *,
        match_every: int = 100,
        starts_at: str,
        repeatable: bool = False,
        names: int = 50,
    ) -> None:
        self.alerts = alerts
        self.run = run.encode()
        self.match_every = match_every
        self.repeatable = repeatable
        self.sequence = 0
        self._names = [f"NodeAlert{number}".encode() for number in range(names)]
        common = {"cluster": "prod-eu-1", "namespace": "payments", "severity": "warning"}
        body = {
            "receiver": "remediation",
            "status": "firing",
            "alerts": [_alert(starts_at)] * alerts,
            "groupLabels": {"namespace": "payments"},
            "commonLabels": common,
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example.net:9093",
            "version": "4",
            "groupKey": '{}/{namespace="payments"}:{namespace="payments"}',
            "truncatedAlerts": 0,
        }
        parts = _SLOT.split(json.dumps(body, separators=(",", ":")))
        # split with a group: the slots stand at the odd places
        self._parts = [part.encode() for part in parts]
        self._slots = [(place, parts[place][-1]) for place in range(1, len(parts), 2)]
        self._per_alert = len(self._slots) // alerts

    def make(self) -> tuple[bytes, list[str]]:
        """The next body, and the `bench_id`s of its matching alerts."""
        parts = self._parts.copy()
        sent = b"0" if self.repeatable else b"%d" % time.time_ns()
        matching = []
        slots = iter(self._slots)
        for number in range(self.sequence, self.sequence + self.alerts):
            bench_id = b"%s-%09d" % (self.run, number)
            matches = bool(self.match_every) and number % self.match_every == self.match_every - 1
            if matches:
                matching.append(bench_id.decode())
            name = MATCH.encode() if matches else self._names[number % len(self._names)]
            values = {
                "S": bench_id,
                "B": bench_id,
                "N": sent,
                "M": name,
                "F": b"%s%010x" % (self.run, number),
            }
            for _ in range(self._per_alert):
                place, kind = next(slots)
                parts[place] = values[kind]
        self.sequence += self.alerts
        return b"".join(parts), matching
