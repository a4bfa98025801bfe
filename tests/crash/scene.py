"""A few daemons, a witness that waits at a gate, and what may be done to them on purpose."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.campaign import PRODUCTION_LEASE
from tests.crash.fleet import Fleet
from tests.crash.installation import Installation
from tests.crash.load import Problem
from tests.crash.witness import Witness

LEASE = 2.0
"""Seconds, where several daemons share a store: none has to wait 30 for another's to end."""


@dataclass
class Scene:
    """A fleet, none of whose daemons has been started yet, and a witness whose first call waits at a gate."""

    fleet: Fleet
    witness: Witness
    store: str
    accepted: list[Problem] = field(default_factory=list)

    def post(self, to: Installation, kind: str, thing: str, number: int = 1) -> None:
        """Deliver one alert."""
        problem = Problem(f"{number:016x}", kind, thing, None)
        assert to.post(problem.body()) == 200
        problem.accepted = True
        self.accepted.append(problem)

    def run(self, at: Installation) -> dict[str, Any]:
        """The first run, with its story."""
        run = at.runs()[0]
        shown: dict[str, Any] = at.get(f"runs/{run['id']}")
        return shown

    def said(self, at: Installation, kind: str) -> list[dict[str, Any]]:
        """The run's events of a kind."""
        return [event for event in self.run(at)["events"] if event["kind"] == kind]

    def arrived(self) -> list[dict[str, Any]]:
        """The calls that reached the witness."""
        return [line for line in self.witness.read() if line["what"] == "arrived"]

    def stopped(self, one: Installation) -> bool:
        """Whether its process is stopped, as `ps` would say with a T."""
        assert one.process is not None
        return Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def become_a_zombie(self, one: Installation, other: Installation) -> None:
        """`one` calls and is stopped; its call takes effect; `other` takes over and finds that out."""
        one.until(lambda: bool(self.witness.in_flight), "it calls")
        assert one.process is not None
        one.process.signal(signal.SIGSTOP)
        other.start()
        self.witness.gate.set()
        other.until(lambda: bool(self.said(other, "action.reconciled")), "the other takes over")
        one.process.signal(signal.SIGCONT)


@contextmanager
def scene(
    home: Path,
    store: str | None,
    replicas: int,
    options: Sequence[str] = (),
    fault: str = "gated",
    script: dict[str, list[str]] | None = None,
) -> Iterator[Scene]:
    """A scene, ended on the way out.

    Args:
        options: of `tests.crash.daemon`.
        fault: of every call that `script` (target → faults, in order) says nothing about.
    """
    with Witness(home / "witness.jsonl", faults={fault: 1}, script=script) as witness:
        witness.gate.clear()
        lease = LEASE if replicas > 1 else PRODUCTION_LEASE
        program = ("tests.crash.daemon", "--lease", str(lease), *options)
        fleet = Fleet(home, replicas, store, witness.url, program)
        try:
            yield Scene(fleet, witness, store or f"sqlite:///{fleet.replicas[0].database}")
        finally:
            fleet.close()
