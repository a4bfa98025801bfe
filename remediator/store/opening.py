"""Opens the runs of a new episode, or attaches it to one that is open for the same target."""

from __future__ import annotations

from msgspec.structs import replace

from remediator.contracts import Hint, Opening
from remediator.model import Alert, AlertId, AuditEvent, Outcome, Reason, RunId
from remediator.store import trail
from remediator.store.rows import RUN, new_run
from remediator.store.tx import OPENINGS, Tx, insert

INSERT_RUN = insert("run", RUN)
_SAME_TARGET = """
SELECT id FROM run WHERE policy = :policy AND target = :target AND outcome IS NULL AND origin <> 'lease'
"""
_OPEN_RUNS = """
SELECT COUNT(*) FROM run WHERE policy = :policy AND outcome IS NULL AND origin <> 'lease'
"""


def open_run(tx: Tx, id: AlertId, alert: Alert, opening: Opening) -> tuple[RunId, bool]:
    """Write one opening; returns the run that the episode belongs to now, and whether it was refused.

    One open run for each (policy, target): a further episode of that target attaches to it.
    Beyond `open_runs` the run is stored refused, so that it can be counted and asked about.
    """
    tx.lock(OPENINGS)
    opened = tx.known("opened", _Opened)
    if opening.target is not None:
        place = (opening.policy, opening.target)
        found = opened.targets.get(place) or _same_target(tx, *place)
        if found is not None:
            attach(tx, found, id)
            attached = _event("run.attached", id, found, alert, opening)
            trail.append(tx, (attached, *_by_hand(id, found, opening)))
            return found, False
    run = RunId(tx.id("run"))
    counting = {"policy": opening.policy}
    before = tx.known(f"open runs of {opening.policy}", lambda: tx.former(_OPEN_RUNS, counting))
    counted = (before[0] if before is not None else 0) + opened.counts.get(opening.policy, 0)
    refused = counted >= opening.open_runs
    observed = f"{opening.open_runs} open runs of {opening.policy}" if refused else ""
    allowed = f"fewer than {opening.open_runs} open runs" if refused else ""
    values = new_run(
        id=run,
        policy=opening.policy,
        policy_revision=opening.policy_revision,
        alert=id,
        target=opening.target,
        mode=opening.mode,
        origin=opening.origin,
        state=opening.state,
        now=tx.now,
        next_at=None if refused else opening.next_at,
        outcome=Outcome.REFUSED if refused else None,
        reason=Reason.OPEN_RUNS if refused else None,
        observed=observed,
        allowed=allowed,
    )
    tx.append("run", RUN, [tuple(values.values())])
    attach(tx, run, id)
    if not refused:
        opened.add(opening, run)
        tx.hint(Hint.DUE)
    kind = "run.refused" if refused else "run.created"
    trail.append(tx, (_event(kind, id, run, alert, opening, observed, allowed), *_by_hand(id, run, opening)))
    return run, refused


def attach(tx: Tx, run: RunId, alert: AlertId) -> None:
    """Note that the run is about this alert too."""
    tx.append("run_alert", "run, alert, attached_at", [(run, alert, tx.now)])


class _Opened:
    """The runs that one transaction has opened since it counted those that were open before."""

    def __init__(self) -> None:
        self.targets: dict[tuple[str, str], RunId] = {}
        self.counts: dict[str, int] = {}

    def add(self, opening: Opening, run: RunId) -> None:
        if opening.target is not None:
            self.targets[(opening.policy, opening.target)] = run
        self.counts[opening.policy] = self.counts.get(opening.policy, 0) + 1


def _same_target(tx: Tx, policy: str, target: str) -> RunId | None:
    found = tx.former(_SAME_TARGET, {"policy": policy, "target": target})
    return None if found is None else RunId(found[0])


def _by_hand(id: AlertId, run: RunId, opening: Opening) -> tuple[AuditEvent, ...]:
    started = opening.started
    return () if started is None else (replace(started, alert=id, run=run, target=opening.target),)


def _event(
    kind: str,
    id: AlertId,
    run: RunId,
    alert: Alert,
    opening: Opening,
    observed: str = "",
    allowed: str = "",
) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        alert=id,
        run=run,
        policy=opening.policy,
        target=opening.target,
        reason=Reason.OPEN_RUNS.value if observed else None,
        observed=observed or None,
        allowed=allowed or None,
        data={
            "sender": alert.sender,
            "fingerprint": alert.fingerprint,
            "policy_revision": opening.policy_revision,
            "mode": opening.mode.value,
            "origin": opening.origin.value,
        },
    )
