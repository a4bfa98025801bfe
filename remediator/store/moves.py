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

PLAIN = frozenset(
    {
        "state",
        "next_at",
        "progress",
        "outcome",
        "reason",
        "observed",
        "allowed",
        "events",
        "messages",
        "intents",
        "goes_on",
    }
)
"""The fields of a move that nearly every one has, and that can be written for many at once."""
MORE = frozenset(
    {"effects", "effect_done", "effect_extend", "controls", "ask", "breaker", "incident"},
)
"""The fields that `write` alone knows. Each is in one of the two: a new one must not be forgotten."""

COLUMNS: Mapping[str, str] = {
    "id": "bigint",
    "epoch": "bigint",
    "state": "text",
    "outcome": "text",
    "reason": "text",
    "observed": "text",
    "allowed": "text",
    "progress": "text",
    "lease_until": "bigint",
    "next_at": "bigint",
    "wakeable": "int",
    "target_key": "text",
    "unclaimed": "int",
    "kept": "int",
}
"""What a move makes of a run's row, by the names that its statement has for it, and their types."""
UPDATES: Mapping[str, str] = {
    "run": "bigint",
    "number": "int",
    "outcome": "text",
    "outcome_at": "bigint",
    "evidence": "text",
}
"""The same for an intent's row."""


def run_statement(new: str, source: str = "") -> str:
    """Moves runs; says what has become of those that were still their workers'.

    Args:
        new: what stands before the name of a value. source: where the values come from, if not parameters.
    """
    returning = ", ".join(f"run.{name.strip()}" for name in RUN.split(","))
    # A wake that came while the run was claimed must not be overwritten by the move's own timer.
    return f"""
UPDATE run SET
  epoch = run.epoch + {new}kept,
  state = {new}state, outcome = {new}outcome, reason = {new}reason, observed = {new}observed,
  allowed = {new}allowed, updated_at = :now, progress = {new}progress, lease_until = {new}lease_until,
  next_at = CASE WHEN run.woken = 1 AND {new}wakeable = 1 THEN :now ELSE {new}next_at END,
  woken = 0, target_key = COALESCE({new}target_key, run.target_key)
{source}
WHERE run.id = {new}id AND run.epoch = {new}epoch AND run.outcome IS NULL
  AND (run.lease_until IS NOT NULL OR {new}unclaimed = 1)
RETURNING {returning}
"""  # noqa: S608


def intent_statement(new: str, source: str = "") -> str:
    """Notes what has become of intents. Args: as for `run_statement`."""
    return f"""
UPDATE intent SET outcome = {new}outcome, outcome_at = {new}outcome_at,
  evidence = COALESCE({new}evidence, intent.evidence)
{source}
WHERE intent.run = {new}run AND intent.number = {new}number
"""  # noqa: S608


_MOVE, _INTENT = run_statement(":"), intent_statement(":")
FREE = f"DELETE FROM target_lock WHERE run IN (:runs) AND {brakes.NOT_QUARANTINED}"  # noqa: S608
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
    fresh = tx.change(
        _MOVE, {**columns(tx, run, change, lease_until, target_key, unclaimed, kept), "now": tx.now}
    )
    if not fresh:
        raise lost(run)
    for update, values in zip(change.intents, updates(tx, run, change), strict=True):
        if update.outcome is IntentOutcome.PENDING:
            _permitted_again(tx, run, update.number)
        if not tx.run(_INTENT, values):
            raise no_intent(run, update.number)
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
        tx.change(FREE, {"now": tx.now}, "runs", [run.id])
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


def no_intent(run: Run, number: int) -> Conflict:
    """It is about an intent that is not there, which is a fault of the caller."""
    return Conflict(f"run {run.id} has no intent {number}")


def _permitted_again(tx: Tx, run: Run, number: int) -> None:
    """A brake may have been set since the worker looked: it holds before the next call, also this one."""
    tx.lock(BRAKES)
    row = tx.one(_AIM, {"run": run.id, "number": number})
    if row is None:
        raise no_intent(run, number)
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
    tx: Tx,
    run: Run,
    change: Move,
    lease_until: Instant | None,
    target_key: str | None,
    unclaimed: bool,
    kept: bool = False,
) -> Mapping[str, object]:
    """The values of `COLUMNS`."""
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
        "progress": encode(change.progress),
        "lease_until": lease_until,
        "next_at": next_at,
        "wakeable": 1 if not over and change.state in BEFORE_ADMIT else 0,
        "target_key": target_key,
        "unclaimed": int(unclaimed),
        "kept": int(kept),
    }


def updates(tx: Tx, run: Run, change: Move) -> Sequence[Mapping[str, object]]:
    """The values of `UPDATES` for each intent that a move is about."""
    return [
        {
            "run": run.id,
            "number": update.number,
            "outcome": update.outcome.value,
            "outcome_at": None if update.outcome is IntentOutcome.PENDING else tx.now,
            "evidence": encode(update.evidence) if update.evidence else None,
        }
        for update in change.intents
    ]
