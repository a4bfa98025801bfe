"""A real Alertmanager."""

from __future__ import annotations

from typing import Any, Self

import yaml

from tests.servers.directory import temporary
from tests.servers.ports import free_port
from tests.servers.process import Process, Served, find
from tests.servers.web import answers, get


def webhook_config(
    url: str,
    *,
    bearer: str | None = None,
    group_by: tuple[str, ...] = ("alertname",),
    group_interval: str = "1s",
    repeat_interval: str = "2s",
) -> dict[str, Any]:
    """An Alertmanager configuration that sends everything to one webhook, at once, resolved ones too."""
    hook: dict[str, Any] = {"url": url, "send_resolved": True}
    if bearer is not None:
        hook["http_config"] = {"authorization": {"credentials": bearer}}
    return {
        "route": {
            "receiver": "hook",
            "group_by": list(group_by),
            "group_wait": "0s",
            "group_interval": group_interval,
            "repeat_interval": repeat_interval,
        },
        "receivers": [{"name": "hook", "webhook_configs": [hook]}],
    }


class Alertmanager(Served):
    """Alertmanager on 127.0.0.1, alone (no cluster).

    Args:
        config: its configuration, as text or as the mapping that `webhook_config` makes.
    """

    def __init__(self, config: str | dict[str, Any]) -> None:
        program = find(
            "prometheus-alertmanager", "alertmanager", hint="apt-get install prometheus-alertmanager"
        )
        self.port = free_port()
        self.directory = temporary("alertmanager")
        self.config = config if isinstance(config, str) else yaml.safe_dump(config)
        self.process = Process(
            [
                program,
                f"--config.file={self.directory / 'alertmanager.yml'}",
                f"--storage.path={self.directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
            ],
            log=self.directory / "alertmanager.log",
            ready=lambda: answers(f"{self.url}/-/ready"),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        (self.directory / "alertmanager.yml").write_text(self.config)
        self.process.start()
        return self

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts it holds."""
        found: list[dict[str, Any]] = get(f"{self.url}/api/v2/alerts")
        return found
