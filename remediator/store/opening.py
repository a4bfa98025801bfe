"""Opens the runs of a new episode, or attaches it to one that is open for the same target."""

from __future__ import annotations

from remediator.contracts import Hint, Opening
from remediator.model import Alert, AlertId, AuditEvent, Outcome, Reason, RunId
from remediator.store import trail
from remediator.store.rows import RUN, new_run
from remediator.store.tx import OPENINGS, Tx, insert

INSERT_RUN = insert("run", RUN)
_ATTACH = insert("run_alert", "run, alert, attached_at")
_SAME_TARGET = """
SELECT id FROM run WHERE policy = :policy AND target = :target AND outcome IS NULL AND origin <> 'lease'
"""
_OPEN_RUNS = """
SELECT COUNT(*) FROM (
  SELECT 1 FROM run WHERE policy = :policy AND outcome IS NULL AND origin <> 'lease' LIMIT :most
) AS counted
"""


def open_run(tx: Tx, id: AlertId, alert: Alert, opening: Opening) -> tuple[RunId, bool]:
    """Write one opening; returns the run that the episode belongs to now, and whether it was refused.

    One open run for each (policy, target): a further episode of that target attaches to it.
    Beyond `open_runs` the run is stored refused, so that it can be counted and asked about.
    """
    tx.lock(OPENINGS)
    if opening.target is not None:
        found = tx.one(_SAME_TARGET, {"policy": opening.policy, "target": opening.target})
        if found is not None:
            run = RunId(found[0])
            attach(tx, run, id)
            trail.append(tx, (_event("run.attached", id, run, alert, opening),))
            return run, False
    run = RunId(tx.id("run"))
    counted = tx.one(_OPEN_RUNS, {"policy": opening.policy, "most": opening.open_runs})
    refused = counted is not None and counted[0] >= opening.open_runs
    observed = f"{opening.open_runs} open runs of {opening.policy}" if refused else ""
    allowed = f"fewer than {opening.open_runs} open runs" if refused else ""
    tx.run(
        INSERT_RUN,
        new_run(
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
        ),
    )
    attach(tx, run, id)
    if not refused:
        tx.hint(Hint.DUE)
    kind = "run.refused" if refused else "run.created"
    trail.append(tx, (_event(kind, id, run, alert, opening, observed, allowed),))
    return run, refused


def attach(tx: Tx, run: RunId, alert: AlertId) -> None:
    """Note that the run is about this alert too."""
    tx.run(_ATTACH, {"run": run, "alert": alert, "attached_at": tx.now})


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
