"""A served daemon with runs that ask: a valve to be opened, and people with roles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from remediator.engine.link import Links
from remediator.model import Instant
from tests.web.served import Running, alert, body, serving

AM = {"Authorization": "Bearer am-token-for-tests"}
KEY, OLD_KEY = "the key of the links, new", "the key of the links, old"

POLICY = """\
name: pressure
description: The pressure is high; open the valve by two turns.
severity: P2
owner: plant
runbook: https://runbooks.example.com/pressure
mode: approve
from: [am]
match: [alertname="PressureHigh"]
evidence:
  - check: valve.turns
    with: {directory: DIRECTORY, name: "${labels.valve}"}
remedies:
  - action: valve.open
    with: {directory: DIRECTORY, name: "${labels.valve}", by: 2}
limits: {cooldown: 0s, budget: [100 per 1h], per_target: [100 per 1h], concurrent: 50, open_runs: 90}
verify:
  within: 10s
  every: 1s
  checks:
    - check: valve.turns
      with: {directory: DIRECTORY, name: "${labels.valve}"}
      is: "> 1"
approval: {role: manager, expires: 15m}
"""
PEOPLE = f"""\
plugins: [tests.cli.plugin]
approvals:
  link_key: ["{KEY}", "{OLD_KEY}"]
access:
  tokens:
    - {{name: vera, role: viewer, token: viewer-token-for-tests}}
    - {{name: otto, role: operator, token: operator-token-for-tests}}
    - {{name: mia, role: manager, token: manager-token-for-tests}}
    - {{name: max, role: manager, token: other-manager-token-for-tests}}
    - {{name: lea, role: lead, token: lead-token-for-tests}}
"""
LINKS = Links([KEY.encode(), OLD_KEY.encode()], "http://127.0.0.1")
_valves = itertools.count()


@dataclass
class Asking:
    """The daemon, and short words for what the tests do with it."""

    running: Running
    home: Path
    clients: list[httpx2.Client] = field(default_factory=list)

    def client(self) -> httpx2.Client:
        """One that is closed with the daemon."""
        self.clients.append(self.running.client())
        return self.clients[-1]

    def ask(self, **labels: str) -> dict[str, Any]:
        """A new alert for a valve of its own; the question that its run asks."""
        valve = f"v{next(_valves)}"
        (self.home / valve).write_text("0")
        with self.running.client() as client:
            labels = {"alertname": "PressureHigh", "valve": valve, **labels}
            sent = alert(valve, "PressureHigh", labels=labels)
            assert client.post("/webhooks/am", content=body(sent), headers=AM).json()["accepted"] == 1
        return self.asked(valve)

    def asked(self, valve: str) -> dict[str, Any]:
        """The open question about a valve, once it is asked."""
        for _ in range(2_000):
            for one in self.get("approvals", open="true")["items"]:
                if one["plan"]["target"] == f"valve:{valve}":
                    return dict(one)
            self.running.run(_breath())
        raise AssertionError(f"nothing was asked about {valve}")

    def get(self, path: str, **query: Any) -> Any:
        with self.running.client("viewer-token-for-tests") as client:
            return client.get(f"/api/v1/{path}", params=query).raise_for_status().json()

    def decide(self, word: str, asked: dict[str, Any], token: str, **more: Any) -> Any:
        with self.running.client(token) as client:
            return client.post(f"/api/v1/runs/{asked['run']}/{word}", json={"comment": "seen", **more})

    def ended(self, run: int) -> dict[str, Any]:
        """A run, once it has ended."""
        for _ in range(4_000):
            found: dict[str, Any] = self.get(f"runs/{run}")
            if found["outcome"]:
                return found
            self.running.run(_breath())
        raise AssertionError(f"run {run} does not end")

    def turns(self, asked: dict[str, Any]) -> int:
        return int((self.home / asked["plan"]["target"].removeprefix("valve:")).read_text())

    def path(self, asked: dict[str, Any]) -> str:
        """The link's path, as the daemon makes it."""
        approval = self.running.run(self.running.daemon.store.approval(asked["id"]))
        return f"/approvals/{LINKS.token(approval.id, Instant(approval.expires_at))}"


async def _breath() -> None:
    import asyncio

    await asyncio.sleep(0.005)


@contextmanager
def asking(
    home: Path,
    extra: str = "",
    *,
    expires: str = "15m",
    keys: bool = True,
    public_url: str = "",
    server: str = "",
) -> Iterator[Asking]:
    """Start, yield, stop.

    Args:
        extra: more lines of `approvals:`. expires: of the question. keys: whether links are signed.
        server: more of that section.
    """
    policy = POLICY.replace("DIRECTORY", str(home)).replace("expires: 15m", f"expires: {expires}")
    people = PEOPLE.replace("approvals:\n", f"approvals:\n{extra}")
    if not keys:
        people = people.replace(f'link_key: ["{KEY}", "{OLD_KEY}"]', "four_eyes: true")
    with serving(
        home, people, public_url=public_url, policies={"pressure": policy}, server_more=server
    ) as running:
        made = Asking(running, home)
        try:
            yield made
        finally:
            for client in made.clients:
                client.close()
