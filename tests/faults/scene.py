"""A daemon with a provider whose calls a test can hold, to break things in the middle of one."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.crash.installation import Installation, firing
from tests.crash.provider import Provider

POLICY = """
name: grow
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
remedies:
  - action: recorder.grow
    with: {{connection: recorder, name: "${{labels.queue}}", add: 2, max: 10, url: "{url}"}}
limits: {{cooldown: 0s, per_target: [100 per 1h], budget: [{budget} per 1h], concurrent: 9, open_runs: 500}}
give_up: 12h
escalate: on-call
"""
LIMITS = "global: {budget: [100 per 1h], concurrent: 9}\n"
ESCALATION = "chains: {on-call: [{after: 0m, notify: [log]}]}\n"
WITHIN = 2.0
"""Seconds in which a webhook that cannot be taken is answered 503 (design: fail closed)."""
SLACK = 1.5
"""Seconds that a loaded machine may add to that."""


class Held(Provider):
    """A provider that answers nothing while `open` is cleared; what was asked takes effect then."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def change(self, call: dict[str, Any]) -> None:
        super().change(call)
        self.open.wait(60)


class Scene:
    """A daemon on a store, and the provider that it acts on.

    Args:
        budget: actions of the policy within an hour.
    """

    def __init__(self, home: Path, budget: int = 100, **settings: Any) -> None:
        self.provider = Held()
        self.daemon = Installation(
            home,
            {
                "grow.yaml": POLICY.format(url=self.provider.url, budget=budget),
                "limits.yaml": LIMITS,
                "escalation.yaml": ESCALATION,
            },
            connections={"recorder": {"kind": "http", "url": self.provider.url}},
            plugins=["tests.crash.plugin"],
            **settings,
        )
        self.accepted: list[str] = []

    def fire(self, queue: str) -> int:
        """Deliver an alert once; the status. It must come in time, whatever it is."""
        began = time.monotonic()
        status = self.daemon.post(firing(queue=queue))
        took = time.monotonic() - began
        assert status is not None, f"no answer\n{self.log()}"
        assert took < WITHIN + SLACK, f"{status} after {took:.2f} s"
        if status == 200 and queue not in self.accepted:
            self.accepted.append(queue)
        return status

    def deliver(self, queue: str) -> None:
        """Deliver an alert as senders do: again, until it is taken. A slow disk may refuse one."""
        self.daemon.until(lambda: self.daemon.post(firing(queue=queue)) == 200, f"{queue} is taken")
        self.accepted.append(queue)

    def grown(self) -> list[str]:
        """What the daemon has called the provider for, in order."""
        return [call["name"] for call in self.provider.calls]

    def act(self, queue: str) -> None:
        """It does its work: an alert leads to an action that succeeds."""
        self.deliver(queue)
        self.ends(queue)
        assert self.grown().count(queue) == 1

    def ends(self, queue: str, outcome: str = "succeeded", seconds: float = 20) -> None:
        """Wait for the outcome of a queue's run."""

        def over() -> bool:
            runs = [run for run in self.daemon.runs() if run["target"] == f"recorder:{queue}"]
            return [run["outcome"] for run in runs] == [outcome]

        self.daemon.until(over, f"{queue} {outcome}", seconds)

    def begin(self, queue: str) -> None:
        """Get an action under way that waits for its answer until `provider.open` is set."""
        self.provider.open.clear()
        self.deliver(queue)
        self.daemon.until(lambda: queue in self.grown(), f"{queue} is called")

    def ready(self) -> int:
        """What /readyz answers; it must come at once."""
        return self.at_once("/readyz").status_code

    def at_once(self, path: str) -> httpx2.Response:
        """An answer within a second, in which nothing can have waited for a store that hangs. A busy machine
        may be late with one, not with each of ten."""
        for _ in range(9):
            try:
                return self.daemon.http.get(path, timeout=1)
            except httpx2.ReadTimeout:
                continue
        return self.daemon.http.get(path, timeout=1)

    def metric(self, name: str) -> float:
        """A metric without labels."""
        for line in self.at_once("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"there is no metric {name}")

    def unready(self, why: str) -> None:
        """Wait until /readyz says 503 and why."""
        self.daemon.until(lambda: self.ready() == 503, "it is not ready", 10)
        text = self.daemon.http.get("/readyz").json()["detail"]
        assert why in text, text

    def back(self, seconds: float = 20) -> None:
        """Wait until it is ready."""
        self.daemon.until(lambda: self.ready() == 200, "it is ready again", seconds)

    def whole(self) -> None:
        """Nothing accepted is lost, nothing was done twice, the audit log is whole."""
        alerts = self.daemon.get("alerts", limit=500)["items"]
        known = {alert["labels"]["queue"] for alert in alerts}
        assert set(self.accepted) <= known, set(self.accepted) - known
        assert self.provider.twice() == []
        assert self.provider.collisions == []
        assert sorted(self.grown()) == sorted(set(self.grown()))
        report = self.daemon.get("audit/verify")
        assert (report["missing"], report["changed"], report["broken"]) == ([], [], [])

    def log(self) -> str:
        return self.daemon.process.tail(40) if self.daemon.process is not None else ""

    def __enter__(self) -> Self:
        self.provider.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.provider.open.set()
        self.daemon.close()
        self.provider.__exit__()


def quiet(scene: Scene, seconds: float = 1.5) -> None:
    """Nothing more acts: the provider is called no more within this time."""
    before = len(scene.provider.calls)
    time.sleep(seconds)
    assert len(scene.provider.calls) == before


def answered(client: httpx2.Client, path: str) -> int | None:
    """The status of a GET; None where nobody answers."""
    try:
        return client.get(path, timeout=2).status_code
    except httpx2.TransportError:
        return None
