"""The alert: from a live Prometheus and Alertmanager where they are on the PATH, else a recorded one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from demo.exporter import exporter
from demo.installation import Installation
from demo.sessions import StuckSessions
from demo.story import Failure, note
from tests.servers.alertmanager import Alertmanager, webhook_config
from tests.servers.prometheus import Prometheus
from tests.servers.web import post

RECORDED = Path(__file__).with_name("alert.json")
METRIC = "postgres_connections_used_percent"
RULE = {
    "alert": "PostgresConnectionPoolHigh",
    "expr": f"{METRIC} > 80",
    "labels": {"severity": "critical", "database": "orders"},
    "annotations": {
        "summary": "the connection pool of orders is at {{ $value | humanize }} %",
        "value": "{{ $value }}",
    },
}


@contextmanager
def live(installation: Installation, sessions: StuckSessions) -> Iterator[None]:
    """A Prometheus that watches the pool and an Alertmanager that tells the daemon, as long as this lasts.

    Raises:
        Missing: they are not on the PATH.
    """
    config = webhook_config(installation.webhook, bearer=installation.token, repeat_interval="5s")
    with Alertmanager(config) as alertmanager, exporter(METRIC, sessions.share) as target:
        with Prometheus(rules=[RULE], targets=[target], alertmanager=alertmanager.url) as prometheus:
            note(f"{prometheus.url} scrapes the pool, {alertmanager.url} posts to {installation.webhook}")
            yield


def post_recorded(installation: Installation) -> None:
    """Post the recorded notification once, as if its alert had started now.

    Raises:
        Failure: the daemon did not take it.
    """
    body = json.loads(RECORDED.read_text())
    for one in body["alerts"]:
        one["startsAt"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = {"Authorization": f"Bearer {installation.token}", "User-Agent": "Alertmanager/0.25.0"}
    status = post(installation.webhook, json.dumps(body).encode(), headers)
    if status != 200:
        raise Failure(f"{installation.webhook} answered {status}\n{installation.problems()}")
