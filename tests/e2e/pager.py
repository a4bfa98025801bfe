"""Where notifications arrive: a web hook as Apprise's `json://` posts to it."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.http import Answer, FakeHttp, Request

ESCALATION = "chains: {on-call: [{after: 0m, notify: [log, person]}]}\n"


class Pager(FakeHttp):
    """The notifier `person` of settings."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []

    @property
    def notifiers(self) -> dict[str, dict[str, str]]:
        return {"person": {"url": self.url.replace("http://", "json://")}}

    def respond(self, request: Request) -> Answer:
        self.messages.append(json.loads(request.body))
        return Answer(200, b"{}")
