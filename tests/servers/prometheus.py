"""A real Prometheus that scrapes, evaluates rules and talks to an Alertmanager, twice a second.

It finds its targets and its Alertmanager only about five seconds after its start, because its discovery
works in rounds of five seconds: a test that shares one for several cases saves time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote

import yaml

from tests.servers.directory import temporary
from tests.servers.ports import free_port
from tests.servers.process import Process, Served, find
from tests.servers.web import answers, get


class Prometheus(Served):
    """Prometheus on 127.0.0.1.

    Args:
        rules: alerting rules, as in a rule group's `rules:`.
        targets: `host:port` of what to scrape (`/metrics`), as job `app`.
        alertmanager: address of an Alertmanager, `http://host:port`.
        interval: how often to scrape and evaluate.
        external_labels: labels on every alert that leaves.
    """

    def __init__(
        self,
        *,
        rules: Sequence[dict[str, Any]] = (),
        targets: Sequence[str] = (),
        alertmanager: str | None = None,
        interval: str = "500ms",
        external_labels: dict[str, str] | None = None,
    ) -> None:
        program = find("prometheus", hint="apt-get install prometheus")
        self.port = free_port()
        self.directory = temporary("prometheus")
        self.rules = list(rules)
        self.targets = list(targets)
        self.alertmanager = alertmanager
        self.interval = interval
        self.external_labels = external_labels or {}
        self.process = Process(
            [
                program,
                f"--config.file={self.directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--web.enable-lifecycle",
                # What fires before the Alertmanager is discovered is sent again at once, not after a minute.
                "--rules.alert.resend-delay=500ms",
            ],
            log=self.directory / "prometheus.log",
            ready=lambda: answers(f"{self.url}/-/ready"),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = {
            "global": {
                "scrape_interval": self.interval,
                "scrape_timeout": self.interval,
                "evaluation_interval": self.interval,
                "external_labels": self.external_labels,
            },
            "rule_files": [str(self.directory / "rules.yml")],
            "scrape_configs": [{"job_name": "app", "static_configs": [{"targets": self.targets}]}],
        }
        if self.alertmanager:
            address = self.alertmanager.removeprefix("http://")
            configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
        return configuration

    def start(self) -> Self:
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))
        (self.directory / "rules.yml").write_text(
            yaml.safe_dump({"groups": [{"name": "app", "rules": self.rules}]})
        )
        self.process.start()
        return self

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's result vector."""
        answer = get(f"{self.url}/api/v1/query?query={quote(expression)}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing now."""
        found: list[dict[str, Any]] = get(f"{self.url}/api/v1/alerts")["data"]["alerts"]
        return found
