"""Approvals: questions to people, each asked once and decided once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remediator.contracts import Admission, Held, Hint
from remediator.errors import Conflict, NotFound
from remediator.model import (
    Approval,
    AuditEvent,
    Decision,
    Instant,
    IntentKind,
    Mode,
    Plan,
    Reason,
    Run,
    RunId,
    moment,
)
from remediator.store import rows, trail
from remediator.store.rows import encode
from remediator.store.tx import Row, Tx, Where, insert

COLUMNS = "id, run, plan, role, asked_at, expires_at, decision, actor, comment, decided_at, data"
_INSERT = insert("approval", COLUMNS)
_ONE = f"SELECT {COLUMNS} FROM approval WHERE id = :id"  # noqa: S608
# The run is taken from whoever looks at it: a worker that is about to let the question expire, say,
# finds its lease gone and writes nothing.
_TAKE = """
UPDATE run SET epoch = epoch + 1, lease_until = NULL, worker = NULL, woken = 0, next_at = :now
WHERE id = :run AND outcome IS NULL AND state = 'APPROVAL'
"""
_DECIDE = f"""
UPDATE approval SET decision = :decision, actor = :actor, comment = :comment, decided_at = :now
WHERE id = :id AND decision IS NULL AND expires_at > :now RETURNING {COLUMNS}
"""  # noqa: S608
_CLOSE = f"""
UPDATE approval SET decided_at = :now, actor = 'daemon',
  decision = CASE WHEN expires_at <= :now THEN 'expired' ELSE 'withdrawn' END
WHERE run = :run AND decision IS NULL RETURNING {COLUMNS}
"""  # noqa: S608
_BEGUN = """
SELECT 1 FROM intent
WHERE run = :run AND rung = :rung AND step = :step AND kind = 'apply' AND outcome <> 'not_applied' LIMIT 1
"""


class _Data(msgspec.Struct, frozen=True):
    """What stands in the column `data`."""

    rung: int = 0
    step: int = 0
    steps: int = 1
    started_by: str = ""
    link_until: Instant | None = None
    shown: dict[str, object] = {}


_plan = msgspec.json.Decoder(Plan)
_data = msgspec.json.Decoder(_Data)


def value(row: Row) -> Approval:
    """A row as a value."""
    data = _data.decode(row[10])
    return Approval(
        id=row[0],
        run=RunId(row[1]),
        plan=_plan.decode(row[2]),
        role=row[3],
        asked_at=row[4],
        expires_at=row[5],
        decision=None if row[6] is None else Decision(row[6]),
        actor=row[7] or "",
        comment=row[8] or "",
        decided_at=row[9],
        rung=data.rung,
        step=data.step,
        steps=data.steps,
        started_by=data.started_by,
        link_until=None if data.link_until == row[5] else data.link_until,
        data=data.shown,
    )


def ask(tx: Tx, run: Run, question: Approval) -> None:
    """Write down what a run waits for. A former question that nobody answered is withdrawn."""
    close(tx, run)
    data = _Data(
        question.rung,
        question.step,
        question.steps,
        question.started_by,
        question.expires_at,
        question.data,
    )
    tx.run(
        _INSERT,
        {
            "id": question.id,
            "run": run.id,
            "plan": encode(question.plan),
            "role": question.role,
            "asked_at": question.asked_at,
            "expires_at": question.expires_at,
            "decision": None,
            "actor": None,
            "comment": None,
            "decided_at": None,
            "data": encode(data),
        },
    )


def close(tx: Tx, run: Run) -> None:
    """The run goes on, or ends, without an answer: the question is no longer asked."""
    for row in tx.change(_CLOSE, {"run": run.id, "now": tx.now}):
        closed = value(row)
        trail.append(tx, (_event(run, closed, AuditEvent(kind=f"approval.{closed.decision}")),))


def decide(tx: Tx, id: int, decision: Decision, event: AuditEvent) -> Approval:
    """Compare and set: see `contracts.Store.decide`."""
    asked = one(tx, id)
    if not tx.run(_TAKE, {"run": asked.run, "now": tx.now}):
        raise Conflict(_why_not(tx, id))
    values = {"decision": decision.value, "actor": event.actor, "comment": event.observed or ""}
    decided = tx.change(_DECIDE, {**values, "id": id, "now": tx.now})
    if not decided:
        raise Conflict(_why_not(tx, id))
    found = value(decided[0])
    trail.append(tx, (_event(_run(tx, found.run), found, event),))
    tx.hint(Hint.DUE)
    return found


def one(tx: Tx, id: int) -> Approval:
    """An approval by its number.

    Raises:
        NotFound: there is none.
    """
    row = tx.one(_ONE, {"id": id})
    if row is None:
        raise NotFound(f"no approval has the id {id}")
    return value(row)


def find(tx: Tx, run: RunId | None, open: bool | None, limit: int) -> Sequence[Approval]:
    """Newest first."""
    where = Where()
    where.equal("run", run)
    if open is not None:
        where.add("decision IS NULL" if open else "decision IS NOT NULL")
    where.values["limit"] = limit
    return [
        value(row)
        for row in tx.all(where.select(COLUMNS, "approval", "ORDER BY id DESC LIMIT :limit"), where.values)
    ]


def held(tx: Tx, run: Run, admission: Admission) -> Held | None:
    """ADMIT's question: does this action rest on a person's word that still holds? Going back needs none."""
    intent = admission.intent
    if intent.kind is not IntentKind.APPLY:
        return None
    if admission.approval is None:
        if Mode.APPROVE not in (run.mode, admission.mode) and not run.progress.asked:
            return None
        return _not_approved("no approval", "one, for a run in mode approve")
    found = one(tx, admission.approval)
    place = (run.id, intent.rung, intent.step, intent.plan.target.key)
    if (found.run, found.rung, found.step, found.plan.target.key) != place:
        return _not_approved(f"approval {found.id} is about something else", "one for this very action")
    if found.decision is not Decision.APPROVED:
        return _not_approved(f"approval {found.id} is {found.decision or 'not decided'}", "approved")
    begun = tx.one(_BEGUN, {"run": run.id, "rung": intent.rung, "step": intent.step})
    over = found.unusable(tx.now)
    if begun is None and over:
        return _not_approved(f"approval {found.id}: {over}", "one that may be used now")
    return None


def _not_approved(observed: str, allowed: str) -> Held:
    return Held(reason=Reason.APPROVAL_PENDING, observed=observed, allowed=allowed)


def _run(tx: Tx, id: RunId) -> Run:
    found = tx.one(f"SELECT {rows.RUN} FROM run WHERE id = :id", {"id": id})  # noqa: S608
    if found is None:
        raise NotFound(f"no run has the id {id}")
    return rows.run(found)


def _why_not(tx: Tx, id: int) -> str:
    """Who has decided what, and when; or why nobody can."""
    found = one(tx, id)
    what = f"approval {id} of run {found.run}"
    if found.decision in (Decision.APPROVED, Decision.REJECTED):
        at = moment(found.decided_at or tx.now)
        said = f": {found.comment}" if found.comment else ""
        return f"{what} was {found.decision} by {found.actor} at {at}{said}; it decides once"
    if found.decision is Decision.EXPIRED or found.expires_at <= tx.now:
        return f"{what} has expired at {moment(found.expires_at)}; it can no longer be decided"
    run = _run(tx, found.run)
    why = f", for {run.observed}" if run.observed else ""
    state = f"has ended: {run.outcome}{why}" if run.outcome is not None else f"is in {run.state}"
    return f"{what} is no longer asked: the run {state}"


def _event(run: Run, found: Approval, event: AuditEvent) -> AuditEvent:
    return msgspec.structs.replace(
        event,
        alert=run.alert,
        run=run.id,
        policy=run.policy,
        target=found.plan.target.name,
        data={
            "approval": found.id,
            "action": found.plan.action,
            "before": found.plan.before,
            "after": found.plan.after,
            **event.data,
        },
    )
