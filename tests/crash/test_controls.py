"""The harness sees what it is there to see: with a safety left out it fails, and says what broke."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from remediator.engine.states.acting import BEGIN_WITHIN
from tests.cli.program import Program
from tests.crash.installation import Installation
from tests.crash.judge import Case, judge
from tests.crash.ledger import Ledger
from tests.crash.scene import Scene, scene
from tests.servers.postgres import Postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def database(server: Postgres, name: str) -> str:
    with psycopg.connect(server.superuser_dsn, autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name}")
    return server.dsn(dbname=name)


def broken(it: Scene) -> list[str]:
    case = Case(it.accepted, it.witness.read(), Ledger(it.store))
    return [name for name, found in judge(case).items() if found]


def killed_in_a_call(home: Path, *options: str) -> list[str]:
    """kill -9 while the provider works on a call that nothing deduplicates; then a restart."""
    with scene(home, None, 1, options) as it:
        (one,) = it.fleet.replicas
        one.start()
        it.post(one, "kick", "t1")
        one.until(lambda: bool(it.witness.in_flight), "it calls")
        one.kill()
        if options:
            it.witness.gate.set()
        one.start()
        if not options:  # it lands after the restart, and is waited for
            one.until(lambda: bool(it.said(one, "action.unknown")), "it is in doubt")
            it.witness.gate.set()
        one.until(lambda: all(run["outcome"] for run in one.runs()), "the run ends")
        found = [] if options else [f"it {it.run(one)['outcome']}"]
        one.stop()
        return [*found, *broken(it)]


def test_killed_in_a_call_nothing_is_broken(tmp_path: Path) -> None:
    assert killed_in_a_call(tmp_path) == ["it succeeded"]


def test_without_the_intent_the_action_is_issued_twice(tmp_path: Path) -> None:
    found = killed_in_a_call(tmp_path, "--without", "intent")
    assert "actions issued twice" in found
    assert "actions applied twice" in found


def zombie(home: Path, store: str, *options: str) -> list[str]:
    """Stopped in a call for longer than the lease; another takes over; continued."""
    with scene(home, store, 2, options) as it:
        one, other = it.fleet.replicas
        one.start()
        it.post(one, "grow", "bad1")
        it.become_a_zombie(one, other)
        other.until(lambda: it.run(other)["outcome"] is not None, "the run ends", seconds=40)
        if not options:
            keeps_what_came_late(it, other)
        one.stop()
        other.stop()
        return broken(it)


def keeps_what_came_late(it: Scene, other: Installation) -> None:
    """In the audit log and in `runs show`, and that it is all it did."""

    def told() -> set[str]:  # the first if it came back before its time was up
        return {"it was applied", "it went through"} & {e["observed"] for e in it.said(other, "action.late")}

    other.until(lambda: bool(told()), "what came late is kept")
    run = it.run(other)
    assert run["outcome"] == "reverted"
    shown = Program(other.home, {})("runs", "show", str(run["id"]), "--config", str(other.config))
    assert f"action.late: {told().pop()}" in shown.out
    assert [intent["outcome"] for intent in run["intents"]] == ["applied", "applied"]


def test_a_zombies_late_outcome_is_evidence_and_changes_nothing(tmp_path: Path, server: Postgres) -> None:
    assert zombie(tmp_path, database(server, "whole")) == []


def test_without_the_epoch_a_zombie_writes_over_an_outcome(tmp_path: Path, server: Postgres) -> None:
    found = zombie(tmp_path, database(server, "no_epoch"), "--without", "epoch")
    assert "outcomes written twice" in found


@pytest.mark.parametrize(("kind", "outcome", "calls"), [("kick", "escalated", 1), ("push", "succeeded", 2)])
def test_a_zombie_that_calls_late_meets_a_target_that_is_still_held(
    tmp_path: Path, server: Postgres, kind: str, outcome: str, calls: int
) -> None:
    """Stopped between the permission and the call. Nothing can keep it from calling when it goes on; so
    nobody else is let to its target, or the provider knows the call again."""
    store = database(server, f"halted_{kind}")
    with scene(tmp_path, store, 2, ("--halt",)) as it:
        it.witness.gate.set()
        one, other = it.fleet.replicas
        other.program = tuple(word for word in other.program if word != "--halt")
        one.start()
        it.post(one, kind, "t1")
        one.until(lambda: it.stopped(one), "it is stopped")
        stopped = time.monotonic()
        other.start()
        other.until(lambda: it.run(other)["outcome"] == outcome, f"the other ends it {outcome}")
        assert len(it.arrived()) == calls - 1
        assert one.process is not None
        one.process.signal(signal.SIGCONT)
        slept = time.monotonic() - stopped
        other.until(lambda: bool(it.said(other, "action.late")), "what came late is kept")
        if slept < BEGIN_WITHIN - 1:  # on a machine that is slow enough, the permission is too old by now
            assert len(it.arrived()) == calls
        assert it.run(other)["outcome"] == outcome
        if outcome == "escalated":  # and until a person has looked, nobody acts there
            it.post(other, "push", "t1", 2)
            other.until(lambda: other.runs()[-1]["reason"] == "quarantined", "it is refused")
        one.stop()
        other.stop()
        assert broken(it) == []
        landed = sum(line["what"] == "landed" for line in it.witness.read())
        assert landed == (1 if kind == "push" else len(it.arrived()))
