"""Effects: the leases. One open row for each (target, field); the oldest prior value is kept."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import NewEffect
from remediator.errors import Conflict, NotFound
from remediator.model import (
    LEFT_TO_PERSON,
    AlertId,
    AuditEvent,
    Effect,
    Instant,
    Mode,
    Origin,
    Progress,
    Reason,
    Run,
    RunId,
    State,
    Target,
    span,
)
from remediator.store import trail
from remediator.store.opening import INSERT_RUN, attach
from remediator.store.rows import EFFECT, effect, encode, new_run
from remediator.store.tx import RETURNS, Row, Tx, insert

_INSERT = insert("effect", EFFECT)
_PRIOR = """
SELECT id, prior FROM effect WHERE target_key = :target_key AND field = :field AND returned_at IS NULL
"""
# All that one call lent: one call takes it back.
_TOGETHER = """
run = (SELECT run FROM effect WHERE id = :id) AND plan = (SELECT plan FROM effect WHERE id = :id)
"""
_DONE = """
UPDATE effect SET returned_at = :now, outcome = :outcome WHERE id = :id AND returned_at IS NULL
"""
_LEFT = """
UPDATE effect SET returned_at = :now, outcome = :outcome
WHERE return_run = :run AND returned_at IS NULL
"""
_EXTEND = f"""
UPDATE effect SET expires_at = :until, extended = 1, return_run = NULL
WHERE returned_at IS NULL AND {_TOGETHER}
"""  # noqa: S608
_RENEW = f"""
UPDATE effect SET expires_at = :until, renewed_at = :now, renewed_by = :actor, renewals = renewals + 1
WHERE returned_at IS NULL AND return_run IS NULL AND {_TOGETHER}
"""  # noqa: S608
_RECALL = f"""
UPDATE effect SET recalled_by = :actor WHERE returned_at IS NULL AND return_run IS NULL AND {_TOGETHER}
"""  # noqa: S608
_REOPEN = """
UPDATE effect SET returned_at = NULL, outcome = '', return_run = NULL WHERE id = :id
"""
_OPEN = f"SELECT {EFFECT} FROM effect WHERE returned_at IS NULL ORDER BY id"  # noqa: S608
_ALL = f"SELECT {EFFECT} FROM effect ORDER BY id DESC LIMIT 1000"  # noqa: S608
_ONE = f"SELECT {EFFECT} FROM effect WHERE id = :id"  # noqa: S608
_DUE = """
SELECT effect.id, effect.policy, effect.target, effect.target_key, effect.field, effect.expires_at,
  effect.run, run.policy_revision, run.alert, run.mode
FROM effect JOIN run ON run.id = effect.run
"""
_EXPIRED = f"""{_DUE}
WHERE effect.returned_at IS NULL AND effect.return_run IS NULL AND effect.expires_at <= :now
ORDER BY effect.expires_at, effect.id LIMIT 100
"""
_THIS = f"{_DUE} WHERE effect.id = :id"
_ABOUT = "SELECT alert FROM run_alert WHERE run = :run ORDER BY attached_at, alert"
_RETURNED_BY = f"""
UPDATE effect SET return_run = :run WHERE returned_at IS NULL AND return_run IS NULL AND {_TOGETHER}
"""  # noqa: S608
_STILL_OPEN = "SELECT 1 FROM effect WHERE id = :id AND returned_at IS NULL AND return_run = :run"


def open_lease(tx: Tx, run: Run, new: NewEffect) -> None:
    """Write a lease. An open one on the same field ends and hands down its prior value, so that
    the value from before all of them comes back."""
    target = new.plan.target
    prior = encode(new.prior)
    older = tx.one(_PRIOR, {"target_key": target.key, "field": new.field})
    if older is not None:
        prior = older[1]
        done(tx, older[0], "superseded")
    tx.run(
        _INSERT,
        {
            "id": tx.id("effect"),
            "run": run.id,
            "policy": run.policy,
            "target": target.name,
            "target_key": target.key,
            "field": new.field,
            "prior": prior,
            "current": encode(new.current),
            "plan": encode(new.plan),
            "expires_at": new.expires_at,
            "extended": 0,
            "returned_at": None,
            "outcome": "",
            "lent_at": tx.now,
            "return_run": None,
            "renewed_at": None,
            "renewed_by": "",
            "renewals": 0,
            "recalled_by": "",
        },
    )


def done(tx: Tx, id: int, outcome: str) -> None:
    """End a lease; one that has ended stays as it is."""
    tx.run(_DONE, {"now": tx.now, "outcome": outcome, "id": id})


def left(tx: Tx, run: RunId) -> None:
    """The run that was to return leases has ended: what it neither closed nor prolonged is a person's."""
    tx.run(_LEFT, {"now": tx.now, "outcome": LEFT_TO_PERSON, "run": run})


def extend(tx: Tx, id: int, until: Instant) -> None:
    """Let a lease run longer, with all that one call lent; its next end opens a new run."""
    tx.run(_EXTEND, {"until": until, "id": id})


def still_open(tx: Tx, id: int, run: RunId) -> bool:
    """Whether the lease is open, and this run's to return."""
    return tx.one(_STILL_OPEN, {"id": id, "run": run}) is not None


def renew(tx: Tx, id: int, until: Instant, event: AuditEvent) -> Effect:
    """Put the end off, for all that one call lent. How far is the caller's to bound.

    Raises:
        NotFound: there is no such lease.
        Conflict: it is over, is being returned, or ends later than that already.
    """
    tx.lock(RETURNS)  # so that no replica opens its return meanwhile
    found = one(tx, id)
    _must_be_lent(found)
    if until <= found.expires_at:
        raise Conflict(
            f"effect {id} is lent for {span(found.expires_at - tx.now)} yet, longer than "
            f"{span(until - tx.now)}; to end it sooner: remediator effects return {id}"
        )
    tx.run(_RENEW, {"until": until, "now": tx.now, "actor": event.actor, "id": id})
    trail.append(tx, (event,))
    return one(tx, id)


def recall(tx: Tx, id: int, event: AuditEvent) -> RunId:
    """Open the run that returns a lease now. One that was left to a person is opened again for it.

    Raises:
        NotFound: there is no such lease, or the run that lent it is forgotten.
        Conflict: it is over, is being returned, or its field is lent anew.
    """
    tx.lock(RETURNS)
    found = one(tx, id)
    if found.outcome == LEFT_TO_PERSON:
        _reopen(tx, found)
    else:
        _must_be_lent(found)
    row = tx.one(_THIS, {"id": id})
    if row is None:
        raise NotFound(f"run {found.run}, which effect {id} comes from, is no longer kept: change it by hand")
    tx.run(_RECALL, {"actor": event.actor, "id": id})
    trail.append(tx, (event,))
    return _open_return(tx, row, event.actor, Reason.RETURNED_BY_PERSON)


def _reopen(tx: Tx, found: Effect) -> None:
    newer = tx.one(_PRIOR, {"target_key": found.target.key, "field": found.field})
    if newer is not None:
        raise Conflict(
            f"{found.field} of {found.target.name} is lent anew since, as effect {newer[0]}; "
            f"return that one: remediator effects return {newer[0]}"
        )
    tx.run(_REOPEN, {"id": found.id})


def _must_be_lent(found: Effect) -> None:
    if found.returned_at is not None:
        raise Conflict(f"effect {found.id} is over already: {found.outcome}")
    if found.return_run is not None:
        raise Conflict(f"effect {found.id} is being returned by run {found.return_run}")


def open_returns(tx: Tx) -> None:
    """Open a run of origin LEASE for every lease that has run out and has none: one for all that one
    call lent."""
    if not tx.all(_EXPIRED, {"now": tx.now}):
        return
    tx.lock(RETURNS)  # another replica may have done it meanwhile: look again
    for row in tx.all(_EXPIRED, {"now": tx.now}):
        if one(tx, row[0]).return_run is None:  # the run of one before it may return it too
            _open_return(tx, row, "daemon", Reason.LEASE_EXPIRED)


def _open_return(tx: Tx, row: Row, actor: str, reason: Reason) -> RunId:
    id, policy, name, key, field, expires_at, lender, revision, alert, mode = row
    run = RunId(tx.id("run"))
    tx.run(
        INSERT_RUN,
        new_run(
            id=run,
            policy=policy,
            policy_revision=revision,
            alert=AlertId(alert),
            target=Target(name=name, key=key),
            mode=Mode(mode),
            origin=Origin.LEASE,
            state=State.REVERTING,
            now=tx.now,
            next_at=tx.now,
            progress=Progress(effect=id),
        ),
    )
    # All that the lender was about: while one of them fires, the lease is still needed.
    for (about,) in tx.all(_ABOUT, {"run": lender}):
        attach(tx, run, AlertId(about))
    tx.run(_RETURNED_BY, {"run": run, "id": id})
    event = AuditEvent(
        kind="run.created",
        actor=actor,
        alert=alert,
        run=run,
        policy=policy,
        target=name,
        reason=reason.value,
        data={
            "origin": Origin.LEASE.value,
            "effect": id,
            "field": field,
            "expires_at": expires_at,
            "lent_by": lender,
            "policy_revision": revision,
        },
    )
    trail.append(tx, (event,))
    return run


def find(tx: Tx, only_open: bool) -> Sequence[Effect]:
    """Open leases, oldest first; or the latest thousand of all, newest first."""
    return [effect(row) for row in tx.all(_OPEN if only_open else _ALL)]


def one(tx: Tx, id: int) -> Effect:
    """A lease by its id.

    Raises:
        NotFound: there is none.
    """
    row = tx.one(_ONE, {"id": id})
    if row is None:
        raise NotFound(f"no effect has the id {id}")
    return effect(row)
