"""Outcomes that nobody was told, end to end: waited for, looked for, issued again where that is safe, or
left to a person, who clears the target. What comes late is evidence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cli.program import Answer, Program
from tests.crash.judge import Case, judge
from tests.crash.ledger import Ledger
from tests.crash.plugin.works import Grow
from tests.crash.scene import Scene, scene

SCRIPT = {
    "late": ["late"],
    "silent": ["silent"],
    "token": ["lost"],
    "version": ["lost"],
    "expired": ["lost"],
    "probe": ["lost"],
    "hangs": ["hangs"],
}
KINDS = {
    "late": "kick",
    "silent": "grow",
    "token": "push",
    "version": "put",
    "expired": "brief",
    "probe": "grow",
    "hangs": "push",
}


def command(it: Scene, *words: str) -> Answer:
    (one,) = it.fleet.replicas
    return Program(one.home, {})(*words, "--config", str(one.config))


def test_every_way_to_an_outcome_that_nobody_was_told(tmp_path: Path) -> None:
    script = {name: list(faults) for name, faults in SCRIPT.items()}
    with scene(tmp_path, None, 1, fault="plain", script=script) as it:
        (one,) = it.fleet.replicas
        one.start()
        for number, (thing, kind) in enumerate(KINDS.items(), 1):
            it.post(one, kind, thing, number)
        one.until(
            lambda: len(one.runs()) == len(KINDS) and all(run["outcome"] for run in one.runs()),
            "every run ends",
            seconds=60,
        )
        runs = {run["target"].removeprefix("works:"): one.get(f"runs/{run['id']}") for run in one.runs()}
        assert {thing: run["outcome"] for thing, run in runs.items()} == {
            "late": "succeeded",
            "silent": "succeeded",
            "token": "succeeded",
            "version": "succeeded",
            "expired": "escalated",
            "probe": "escalated",
            "hangs": "succeeded",
        }
        calls = [line for line in it.witness.read() if line["what"] == "arrived"]
        issued = {thing: [call["token"] for call in calls if call["name"] == thing] for thing in KINDS}
        assert {thing: len(tokens) for thing, tokens in issued.items()} == {
            thing: 2 if thing in ("token", "version") else 1 for thing in KINDS
        }
        assert all(len(set(tokens)) == 1 for tokens in issued.values())  # again with its own token
        for thing in ("late", "silent", "token", "version", "expired", "probe"):
            # Counted from the end of the call; the event is dated when it was written, a little later.
            assert looked_after(runs[thing]) >= Grow.landing_time - 100
        assert kinds(runs["hangs"], "action.late") == ["it went through"]
        assert command(it, "runs", "show", str(runs["hangs"]["id"])).out.count("action.late") == 1
        a_person_clears(it)
        one.until(lambda: all(run["outcome"] for run in one.runs()), "the cleared target heals", seconds=30)
        one.stop()
        found = judge(Case(it.accepted, it.witness.read(), Ledger(it.store)))
        assert {name: what for name, what in found.items() if what} == {}


def a_person_clears(it: Scene) -> None:
    """The two targets in doubt are listed and refused, until one is cleared; then it is acted on again."""
    (one,) = it.fleet.replicas
    listed = {target["key"]: target for target in command(it, "targets", "list", "--output", "json").json}
    assert set(listed) == {"works/expired", "works/probe"}
    assert "unknown" in listed["works/probe"]["quarantine"]["reason"]
    it.post(one, "push", "probe", 100)
    one.until(lambda: one.runs()[-1]["outcome"] == "refused", "it is refused")
    assert one.runs()[-1]["reason"] == "quarantined"
    assert command(it, "targets", "clear", "works:probe", "--comment", "looked: still 1").code == 0
    (event,) = one.get("audit", kind="target.cleared")["items"]
    assert (event["target"], event["data"]["reason"]) == ("works:probe", "looked: still 1")
    assert [target["key"] for target in one.get("targets")["items"]] == ["works/expired"]
    it.post(one, "push", "probe", 101)
    one.until(lambda: one.runs()[-1]["outcome"] == "succeeded", "it acts again")


def looked_after(run: dict[str, Any]) -> float:
    """Milliseconds from the doubt to the look that ended it."""
    intent = run["intents"][0]
    doubt = next(event for event in run["events"] if event["kind"] == "action.unknown")
    ends = ("action.reconciled", "target.quarantined")
    end = next(event for event in run["events"] if event["kind"] in ends)
    assert doubt["data"]["number"] == end["data"]["number"] == intent["number"]
    return _millis(end["at"]) - _millis(doubt["at"])


def kinds(run: dict[str, Any], kind: str) -> list[str]:
    return [event["observed"] for event in run["events"] if event["kind"] == kind]


def _millis(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1000
