"""The try-out with Compose, up: from a full pool by Prometheus and Alertmanager to what would be done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy import built
from tests.deploy.compose import ROOT, Compose

OPERATOR = "OPERATOR_TOKEN"
POLICY = "./policies/connection-pool-cancel-long-queries.yaml"
SHORTER = {
    "./deploy/compose/prometheus.yml": {
        "scrape_interval: 15s": "scrape_interval: 5s",  # which is also how long a scrape may take
        "evaluation_interval: 15s": "evaluation_interval: 1s",
    },
    "./deploy/compose/orders.yaml": {"for: 5m": "for: 1s"},
    "./deploy/compose/alertmanager.yml": {
        "group_wait: 5s": "group_wait: 0s",
        "group_interval: 30s": "group_interval: 1s",
    },
    POLICY: {"longer_than: 5m": "longer_than: 1s"},
}
"""What a test cannot wait for."""


def shortened() -> dict[str, str]:
    found = {}
    for name, changes in SHORTER.items():
        text = (ROOT / name).read_text()
        for long, short in changes.items():
            assert long in text, f"{name} no longer has {long}"
            text = text.replace(long, short)
        found[name] = text
    return found


def commands() -> list[str]:
    """Those of the page, one a line."""
    page = (ROOT / "docs" / "deploying.md").read_text()
    section = page.partition("\n## Compose")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for line in "".join(blocks).replace("\\\n", " ").splitlines() if " exec " in line]


@pytest.fixture(scope="module")
def tryout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    with Compose(tmp_path_factory.mktemp("compose"), shortened(), built.engine()) as up:
        yield up
        daemon = up.running["remediator"].process
        assert daemon.stop() == 0
        assert '"stopped"' in daemon.tail(1)


def test_the_commands_of_the_page_lead_from_an_alert_to_a_plan(tryout: Compose) -> None:
    doctor, add, listing, explain, fill, runs = commands()
    assert "schema" in tryout.ask(doctor)
    tryout.ask(add)

    def items(of: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = tryout.get(f"http://remediator:8080/api/v1/{of}", OPERATOR)["items"]
        return found

    tryout.until(lambda: "check_false" in [run["reason"] for run in items("runs")], "it looked at the pool")
    assert "database=orders" in tryout.ask(listing)
    assert "allowed   postgres.connections > 80%" in tryout.ask(explain)

    tryout.ask(fill)
    tryout.until(
        lambda: len(items("alerts")) == 2, "Prometheus has fired by itself, and Alertmanager posted it"
    )
    tryout.until(
        lambda: all(run["outcome"] for run in items("runs")), "its run, or the one it joined, has ended"
    )
    assert "connection-pool-cancel-long-queries" in tryout.ask(runs)
    why = tryout.ask(explain.replace("explain 1", "explain 2"))
    assert "datname=orders" in why, "the alert of Prometheus"
    assert "only observes: planned_only: would run postgres.cancel_queries on postgres:orders" in why


def test_the_daemon_is_watched_and_its_own_alerts_do_not_come_back_to_it(tryout: Compose) -> None:
    def watched() -> bool:
        found = tryout.get("http://prometheus:9090/api/v1/query?query=up")["data"]["result"]
        return {one["metric"]["job"]: one["value"][1] for one in found} == {"remediator": "1", "orders": "1"}

    def sent() -> bool:
        return "RemediatorDeadman" in {
            one["labels"]["alertname"]
            for one in tryout.get("http://alertmanager:9093/api/v2/alerts?receiver=people")
        }

    tryout.until(watched, "Prometheus reaches both")
    tryout.until(sent, "the deadman has reached Alertmanager")
    assert "Remediator" not in tryout.ask("docker compose exec remediator remediator alerts list")


def test_nothing_is_writable_but_what_compose_says(tryout: Compose) -> None:
    daemon = tryout.running["remediator"]
    found = daemon.run(
        "find", "/", "-xdev", "-writable", "-not", "-type", "l", "-not", "-path", "/dev/*"
    ).stdout
    assert set(found.split()) - built.FREE == {"/tmp", "/var/lib/remediator"}
    status = daemon.run("cat", f"/proc/{daemon.inside}/status").stdout
    shown = re.findall(r"(?m)^(?:Uid|CapEff|CapBnd|NoNewPrivs):\s+(\w+)", status)
    assert shown == ["10001", "0" * 16, "0" * 16, "1"]
