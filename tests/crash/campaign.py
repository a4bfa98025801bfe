"""One campaign: daemons on one store, a load, and what happens to them; then the judgement."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.cli.program import Program
from tests.crash.fleet import Chaos, Fleet
from tests.crash.judge import Case, judge
from tests.crash.ledger import Ledger
from tests.crash.load import problems
from tests.crash.sender import Sender
from tests.crash.witness import Witness

PRODUCTION_LEASE = 30.0


@dataclass(frozen=True)
class Plan:
    """What a campaign does. All of it follows from the seed, except when exactly a signal hits.

    lease: seconds; below 30 the daemons are started by `tests.crash.daemon`. without: a safety left out.
    pace: seconds between two events that happen to the daemons, on average. brief: everything is resolved
    when the last kill is over, so that no run waits for anything for long.
    """

    seed: int
    alerts: int
    kills: int
    replicas: int = 1
    long_stops: int = 1
    lease: float = PRODUCTION_LEASE
    pace: float = 2.0
    without: str = ""
    brief: bool = False
    patience: float = 240.0

    @property
    def program(self) -> tuple[str, ...]:
        """The module to run instead of `remediator`, and its options."""
        if self.lease == PRODUCTION_LEASE and not self.without:
            return ()
        options = ("--without", self.without) if self.without else ()
        return ("tests.crash.daemon", "--lease", f"{self.lease:g}", *options)


@dataclass
class Result:
    """counts: what happened. violations: invariant → what was found."""

    counts: dict[str, int] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fine(self) -> bool:
        return not any(self.violations.values())


def campaign(
    plan: Plan, home: Path, store: str | None, tell: Callable[[str], None] = lambda line: None
) -> Result:
    """Run it, and judge.

    Args:
        store: `postgresql://…` of an empty database; None for an SQLite file of the first daemon.
        tell: progress, one line each.
    """
    started = time.monotonic()
    load = problems(plan.alerts, plan.seed)
    with Witness(home / "witness.jsonl", plan.seed) as witness:
        closed = None if plan.brief else _window()
        fleet = Fleet(home, plan.replicas, store, witness.url, plan.program, _minutes(closed))
        address = store or f"sqlite:///{fleet.replicas[0].database}"
        try:
            fleet.start()
            span = (plan.kills * 1.6 + plan.long_stops) * plan.pace
            sender = Sender(fleet.urls, load, rate=max(1.0, plan.alerts / (span * 0.8)), seed=plan.seed)
            chaos = Chaos(
                fleet,
                plan.seed,
                plan.kills,
                plan.long_stops,
                plan.lease,
                plan.pace,
                lambda: list(witness.in_flight.values()),
            )
            sender.start()
            chaos.start()

            def status() -> str:
                return (
                    f"{time.monotonic() - started:4.0f}s  {len(sender.accepted)} of {plan.alerts} accepted, "
                    f"{fleet.kills} of {plan.kills} kills, {fleet.stops} stops, {len(witness.arrivals)} calls"
                )

            while not (chaos.done and sender.done):
                time.sleep(0.25)
                tell(status())
            if plan.brief:
                sender.resolve_all()
            rest = _rest(fleet, chaos, plan.patience, lambda open_: tell(f"{status()}, {open_} runs open"))
            sender.stop()
            result = Result()
            result.violations["deliveries refused"] = list(sender.refused)
            result.violations["approvals answered twice"] = list(fleet.twice)
            result.violations["runs that never came to an end"] = rest
            result.violations["audit chain not whole"] = _verify(fleet)
            result.violations["runs show does not answer"] = _shown(fleet, address, plan.seed)
            fleet.tick()
            result.violations["daemons that ended by themselves"] = list(fleet.ended)
            result.violations["daemons that did not stop in order"] = [
                f"exit {code}: {one.process.tail(5) if one.process else ''}"
                for one in fleet.replicas
                if (code := one.stop()) != 0
            ]
        finally:
            fleet.close()
        case = Case(sender.accepted, witness.read(), Ledger(address), closed)
    result.violations |= judge(case)
    result.counts = _counts(case, fleet, sender, chaos, time.monotonic() - started)
    return result


def _window() -> tuple[int, int]:
    """A whole minute that begins half a minute from now or later (milliseconds)."""
    begins = (int(time.time()) + 89) // 60 * 60
    return begins * 1000, (begins + 60) * 1000


def _minutes(span: tuple[int, int] | None) -> tuple[str, str] | None:
    if span is None:
        return None
    begins, ends = (time.strftime("%H:%M", time.gmtime(at / 1000)) for at in span)
    return begins, "24:00" if ends == "00:00" else ends


def _rest(fleet: Fleet, chaos: Chaos, patience: float, tell: Callable[[str], None]) -> list[str]:
    """Wait until nothing is open any more; what never ends is found fault with."""
    end = time.monotonic() + patience
    look = 0.0
    left: list[str] = ["no daemon answered"]
    while time.monotonic() < end:
        fleet.tick()
        one = fleet.any_ready()
        if one is not None:
            try:
                open_ = one.get("runs", open="true", limit=500)["items"]
                lent = one.get("effects")["items"]
            except httpx2.TransportError:
                continue
            left = [f"run {run['id']} is {run['state']}: {run['reason']}" for run in open_]
            left += [f"lease {effect['id']} is open" for effect in lent]
            tell(str(len(left)))
            if not left:
                return []
        fleet.people(chaos.people)
        if time.monotonic() > look:
            chaos.cleared += fleet.clear_quarantines()
            look = time.monotonic() + 5
        time.sleep(0.25)
    return left


def _verify(fleet: Fleet) -> list[str]:
    code, said = _command(fleet, "audit", "verify")
    return [] if code == 0 else [f"exit {code}: {said}"]


def _shown(fleet: Fleet, address: str, seed: int) -> list[str]:
    """Every run by the API, and a few by the command line, as a person asks."""
    faults = []
    ids = sorted(Ledger(address).runs)
    one = fleet.replicas[0]
    try:
        for id in ids:
            run = one.get(f"runs/{id}")
            if not run["events"]:
                faults.append(f"run {id} has no story")
    except httpx2.TransportError as error:
        faults.append(f"{type(error).__name__}: {error}")
    for id in random.Random(seed).sample(ids, min(2, len(ids))):
        code, said = _command(fleet, "runs", "show", str(id))
        if code != 0 or "reason" not in said:
            faults.append(f"runs show {id}: exit {code}: {said}")
    return faults


def _command(fleet: Fleet, *words: str) -> tuple[int, str]:
    one = fleet.replicas[0]
    said = Program(one.home, {})(*words, "--config", str(one.config), timeout=120)
    return said.code, f"{said.out}{said.err}".strip()


def _counts(case: Case, fleet: Fleet, sender: Sender, chaos: Chaos, took: float) -> dict[str, int]:
    faults = Counter(call["fault"] for call in case.calls.values() if not call["duplicate"])
    outcomes = Counter(str(run["outcome"]) for run in case.ledger.runs.values())
    waits = Counter(str(event["reason"]) for event in case.ledger.events_of("run.waiting"))
    words = Counter(event["kind"] for event in case.ledger.events)
    again = sum("issued again" in (e["observed"] or "") for e in case.ledger.events_of("action.reconciled"))
    return {
        "seconds": round(took),
        "alerts accepted": len(sender.accepted),
        "deliveries sent again": sender.retries,
        "kill -9": fleet.kills,
        "stopped and continued": fleet.stops,
        "… for longer than a lease": fleet.long_stops,
        "restarted in order": fleet.stopped_in_order,
        "paused by a person": fleet.paused,
        "… and resumed": fleet.resumed,
        "approved or rejected by a person": fleet.decided,
        "policies changed by a person": fleet.changes,
        "storms": words["storm.tripped"],
        "starts given up, the store being slow": fleet.given_up,
        "runs": len(case.ledger.runs),
        **{f"… {name}": outcomes[name] for name in sorted(outcomes)},
        **{f"waits: {name}": waits[name] for name in sorted(waits)},
        "calls that arrived": len(case.calls),
        **{f"… {name}": faults[name] for name in sorted(faults)},
        "… deduplicated by token": sum(call["duplicate"] for call in case.calls.values()),
        "outcomes unknown": words["action.unknown"],
        "… reconciled": words["action.reconciled"],
        "… issued again": again,
        "late outcomes kept": words["action.late"],
        "quarantined": words["target.quarantined"],
        "… cleared by a person": chaos.cleared,
        "leases": len(case.ledger.effects),
        "audit events": len(case.ledger.events),
    }


def table(result: Result) -> str:
    """The counts, then the invariants."""
    lines = [f"  {name:<40}{count:>8}" for name, count in result.counts.items()]
    lines.append("")
    lines += [f"  {name:<42}{len(found):>4}" for name, found in result.violations.items()]
    for name, found in result.violations.items():
        lines += [f"  VIOLATION {name}: {one}" for one in found[:10]]
    return "\n".join(lines)


def invariants_broken(result: Result) -> Sequence[str]:
    """The names of those that were."""
    return [name for name, found in result.violations.items() if found]
