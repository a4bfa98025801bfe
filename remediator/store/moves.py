"""One transaction on a run: the compare-and-set on its epoch first, then everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import msgspec

from remediator.contracts import Move
from remediator.errors import Braked, Conflict, LeaseLost, NotFound
from remediator.model import (
    BEFORE_ADMIT,
    AuditEvent,
    ControlKind,
    Instant,
    Intent,
    IntentOutcome,
    Origin,
    Outcome,
    Reason,
    Run,
    RunId,
    State,
    Target,
)
from remediator.store import approvals, brakes, effects, incidents, judging, outbox, rows, trail
from remediator.store.rows import RUN, encode
from remediator.store.tx import BRAKES, Tx

# A wake that came while the run was claimed must not be overwritten by the move's own timer.
_MOVE = f"""
UPDATE run SET
  epoch = epoch + :kept,
  state = :state, outcome = :outcome, reason = :reason, observed = :observed, allowed = :allowed,
  updated_at = :now, progress = :progress, lease_until = :lease_until,
  next_at = CASE WHEN woken = 1 AND :wakeable = 1 THEN :now ELSE :next_at END,
  woken = 0, target_key = COALESCE(:target_key, target_key)
WHERE id = :id AND epoch = :epoch AND outcome IS NULL AND (lease_until IS NOT NULL OR :unclaimed = 1)
RETURNING {RUN}
"""  # noqa: S608
_INTENT = """
UPDATE intent SET outcome = :outcome, outcome_at = :outcome_at WHERE run = :run AND number = :number
"""
_INTENT_EVIDENCE = """
UPDATE intent SET outcome = :outcome, outcome_at = :outcome_at, evidence = :evidence
WHERE run = :run AND number = :number
"""
_FREE = f"DELETE FROM target_lock WHERE run = :run AND {brakes.NOT_QUARANTINED}"  # noqa: S608
_ONE = f"SELECT {RUN} FROM run WHERE id = :id"  # noqa: S608
_HOLD_STILL = "UPDATE run SET woken = woken WHERE id = :id"
_INTENTS = f"SELECT {rows.INTENT} FROM intent WHERE run = :run ORDER BY number"  # noqa: S608
_INTENTS_OF = f"SELECT {rows.INTENT} FROM intent WHERE run IN (:runs) ORDER BY run, number"  # noqa: S608
_AIM = "SELECT target_key, target FROM intent WHERE run = :run AND number = :number"
_ACTED = "SELECT 1 FROM intent WHERE run = :run AND outcome <> 'not_applied' LIMIT 1"
_OWN = "SELECT id FROM run WHERE id IN (:runs)"
_FIRING = """
SELECT DISTINCT run_alert.run FROM run_alert JOIN alert ON alert.id = run_alert.alert
WHERE run_alert.run IN (:runs) AND alert.status = 'firing'
"""


def move(tx: Tx, run: Run, change: Move, lease: Instant, keep: bool = False) -> Run:
    """Apply a move.

    A move hands the run back; one that makes an intent pending again (a call is issued again)
    keeps it until `lease` and obeys pause and quarantine, as ADMIT does.

    Args:
        keep: claim a run that goes on anew for its worker, until `lease`. Its epoch is another one then, so
            that neither this move nor one before it is made twice.

    Raises:
        LeaseLost: the run's epoch moved on, or it has ended, or was handed back: a move whose answer was
            lost is not made twice.
        Braked: the call may not be issued again now.
    """
    again = any(update.outcome is IntentOutcome.PENDING for update in change.intents)
    kept = keep and change.goes_on
    return write(tx, run, change, lease_until=lease if again or kept else None, kept=kept)


def write(
    tx: Tx,
    run: Run,
    change: Move,
    lease_until: Instant | None,
    target_key: str | None = None,
    unclaimed: bool = False,
    kept: bool = False,
) -> Run:
    """The move's statements, the compare-and-set first.

    Args:
        unclaimed: nobody need hold the run. kept: its worker claims it anew.
    """
    if for_resolve(change):
        tx.hold(_OWN, {}, "runs", [run.id])
        if firing(tx, [run.id]):
            row = one(tx, run.id)  # as it stood: nothing of what the worker made of it
            change = Move(state=row.state, next_at=tx.now, progress=row.progress)
    known = columns(tx, run, change, lease_until, target_key)
    fresh = tx.change(_MOVE, {**known, "unclaimed": int(unclaimed), "kept": int(kept)})
    if not fresh:
        raise lost(run)
    for update in change.intents:
        decided = update.outcome is not IntentOutcome.PENDING
        if not decided:
            _permitted_again(tx, run, update.number)
        values: dict[str, object] = {
            "outcome": update.outcome.value,
            "outcome_at": tx.now if decided else None,
            "run": run.id,
            "number": update.number,
        }
        if update.evidence:
            found = tx.run(_INTENT_EVIDENCE, {**values, "evidence": encode(update.evidence)})
        else:
            found = tx.run(_INTENT, values)
        if not found:
            raise Conflict(f"run {run.id} has no intent {update.number}")
    for lease_over, became in change.effect_done:
        effects.done(tx, lease_over, became)
    if change.effect_extend is not None:
        effects.extend(tx, *change.effect_extend)
    for new in change.effects:
        effects.open_lease(tx, run, new)
    for brake in change.controls:
        brakes.put(tx, brake)
    trail.append(tx, change.events)
    if change.ask is not None:
        approvals.ask(tx, run, change.ask)
    elif change.outcome is not None and run.state is State.APPROVAL:
        approvals.close(tx, run)
    outbox.post(tx, change.messages)
    if change.outcome is not None and run.origin is Origin.LEASE:
        effects.left(tx, run.id)
    if change.breaker is not None:
        judging.judge(tx, run, change.breaker)
    if change.incident is not None:
        incidents.declare(tx, run, change.incident)
    if change.outcome is not None:
        tx.run(_FREE, {"run": run.id, "now": tx.now})
    return rows.run(fresh[0])


def for_resolve(change: Move) -> bool:
    """Whether it ends a run because nothing of it fires. Another alert may have joined it since its worker
    looked, and would be forgotten with it: then the run is looked at again instead."""
    return change.outcome is Outcome.CANCELLED and change.reason is Reason.ALERT_RESOLVED


def firing(tx: Tx, runs: Sequence[RunId]) -> Set[RunId]:
    """Those with an alert that fires. Nothing joins them meanwhile if their rows are held."""
    return {RunId(row[0]) for row in tx.any(_FIRING, "runs", runs)}


def lost(run: Run) -> LeaseLost:
    """Whoever wanted to write it comes too late."""
    return LeaseLost(f"run {run.id}: epoch {run.epoch} is no longer its own; drop it")


def _permitted_again(tx: Tx, run: Run, number: int) -> None:
    """A brake may have been set since the worker looked: it holds before the next call, also this one."""
    tx.lock(BRAKES)
    row = tx.one(_AIM, {"run": run.id, "number": number})
    if row is None:
        raise Conflict(f"run {run.id} has no intent {number}")
    key, text = row
    brake = brakes.stopping(tx, run.policy, Target(name=text or run.target or key, key=key))
    if brake is not None:
        paused = brake.kind is ControlKind.PAUSE
        raise Braked(
            Reason.PAUSED if paused else Reason.QUARANTINED,
            f"{brake.scope or 'the daemon'}: {brake.reason} (by {brake.actor})",
            "not paused" if paused else "a target that is not quarantined",
            brake.until,
        )


def cancel(tx: Tx, id: RunId, event: AuditEvent) -> Run:
    """End a run that has not acted. Its worker, if it has one, finds its lease gone.

    Raises:
        NotFound: no such run.
        Conflict: it has ended, or acts already.
    """
    tx.run(_HOLD_STILL, {"id": id})  # ADMIT must not come between the look and the change
    run = one(tx, id)
    if run.outcome is not None:
        raise Conflict(f"run {id} has ended: {run.outcome}")
    if run.state not in BEFORE_ADMIT or tx.one(_ACTED, {"run": id}) is not None:
        raise Conflict(f"run {id} is {run.state} and has acted: it can be cancelled only before that")
    change = Move(
        state=run.state,
        next_at=None,
        progress=run.progress,
        outcome=Outcome.CANCELLED,
        reason=Reason.CANCELLED_BY_PERSON,
        observed=f"cancelled by {event.actor}: {event.data.get('reason') or 'no reason given'}",
        events=(
            msgspec.structs.replace(
                event,
                alert=run.alert,
                policy=run.policy,
                target=run.target,
                reason=Reason.CANCELLED_BY_PERSON.value,
            ),
        ),
    )
    return write(tx, run, change, lease_until=None, unclaimed=True)


def one(tx: Tx, id: RunId) -> Run:
    """A run by its id.

    Raises:
        NotFound: there is none.
    """
    row = tx.one(_ONE, {"id": id})
    if row is None:
        raise NotFound(f"no run has the id {id}")
    return rows.run(row)


def intents(tx: Tx, run: RunId) -> Sequence[Intent]:
    """A run's intents, oldest first."""
    return [rows.intent(row) for row in tx.all(_INTENTS, {"run": run})]


def intents_of(tx: Tx, runs: Sequence[RunId]) -> Mapping[RunId, Sequence[Intent]]:
    """The intents of several runs, each oldest first."""
    found: dict[RunId, list[Intent]] = {run: [] for run in runs}
    for row in tx.any(_INTENTS_OF, "runs", runs):
        found[RunId(row[0])].append(rows.intent(row))
    return found


def columns(
    tx: Tx, run: Run, change: Move, lease_until: Instant | None, target_key: str | None
) -> Mapping[str, object]:
    """What a move makes of the run's row, by the names that its statement has for it."""
    over = change.outcome is not None
    # An open run without a timer would never be looked at again.
    next_at = None if over else (change.next_at if change.next_at is not None else tx.now)
    return {
        "id": run.id,
        "epoch": run.epoch,
        "state": change.state.value,
        "outcome": change.outcome.value if change.outcome is not None else None,
        "reason": change.reason.value if change.reason is not None else None,
        "observed": change.observed,
        "allowed": change.allowed,
        "now": tx.now,
        "progress": encode(change.progress),
        "lease_until": lease_until,
        "next_at": next_at,
        "wakeable": 1 if not over and change.state in BEFORE_ADMIT else 0,
        "target_key": target_key,
    }
