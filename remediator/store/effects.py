"""Effects: the leases. One open row for each (target, field); the oldest prior value is kept."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import NewEffect
from remediator.errors import NotFound
from remediator.model import (
    AlertId,
    AuditEvent,
    Effect,
    Instant,
    Mode,
    Origin,
    Progress,
    Run,
    RunId,
    State,
    Target,
)
from remediator.store import trail
from remediator.store.opening import INSERT_RUN, attach
from remediator.store.rows import EFFECT, effect, encode, new_run
from remediator.store.tx import RETURNS, Tx, insert

_INSERT = insert("effect", EFFECT)
_PRIOR = """
SELECT id, prior FROM effect WHERE target_key = :target_key AND field = :field AND returned_at IS NULL
"""
_DONE = """
UPDATE effect SET returned_at = :now, outcome = :outcome WHERE id = :id AND returned_at IS NULL
"""
_EXTEND = """
UPDATE effect SET expires_at = :until, extended = 1, return_run = NULL
WHERE id = :id AND returned_at IS NULL
"""
_OPEN = f"SELECT {EFFECT} FROM effect WHERE returned_at IS NULL ORDER BY id"  # noqa: S608
_ALL = f"SELECT {EFFECT} FROM effect ORDER BY id DESC LIMIT 1000"  # noqa: S608
_ONE = f"SELECT {EFFECT} FROM effect WHERE id = :id"  # noqa: S608
_EXPIRED = """
SELECT effect.id, effect.policy, effect.target, effect.target_key, effect.field, effect.expires_at,
  effect.run, run.policy_revision, run.alert, run.mode
FROM effect JOIN run ON run.id = effect.run
WHERE effect.returned_at IS NULL AND effect.return_run IS NULL AND effect.expires_at <= :now
ORDER BY effect.expires_at LIMIT 100
"""
_ABOUT = "SELECT alert FROM run_alert WHERE run = :run ORDER BY attached_at, alert"
_RETURNED_BY = "UPDATE effect SET return_run = :run WHERE id = :id"


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
        },
    )


def done(tx: Tx, id: int, outcome: str) -> None:
    """End a lease; one that has ended stays as it is."""
    tx.run(_DONE, {"now": tx.now, "outcome": outcome, "id": id})


def extend(tx: Tx, id: int, until: Instant) -> None:
    """Let a lease run longer; its next end opens a new run."""
    tx.run(_EXTEND, {"until": until, "id": id})


def open_returns(tx: Tx) -> None:
    """Open a run of origin LEASE for every lease that has run out and has none."""
    if not tx.all(_EXPIRED, {"now": tx.now}):
        return
    tx.lock(RETURNS)  # another replica may have done it meanwhile: look again
    for row in tx.all(_EXPIRED, {"now": tx.now}):
        id, policy, name, key, field, expires_at, lender, revision, alert, mode = row
        run = RunId(tx.id("run"))
        target = Target(name=name, key=key)
        tx.run(
            INSERT_RUN,
            new_run(
                id=run,
                policy=policy,
                policy_revision=revision,
                alert=AlertId(alert),
                target=target,
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
            alert=alert,
            run=run,
            policy=policy,
            target=name,
            reason="lease_expired",
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
