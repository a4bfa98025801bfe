"""ADMIT: the one transaction that gives the permission to act. Its order is fixed by the design.

A refusal is an answer (`Held`) and leaves nothing behind: the caller rolls back what was written.
"""

from __future__ import annotations

from remediator.contracts import Admission, Held, Limit, Surge
from remediator.model import Control, ControlKind, Instant, IntentKind, Mode, Reason, Run, Struct, span
from remediator.store import approvals, brakes, effects, judging, moves, policies, surges
from remediator.store.rows import INTENT, encode
from remediator.store.tx import BRAKES, Tx, insert

_EPOCH = """
UPDATE run SET lease_until = :lease_until WHERE id = :id AND epoch = :epoch AND outcome IS NULL
"""
_FIRING = """
SELECT 1 FROM run_alert JOIN alert ON alert.id = run_alert.alert
WHERE run_alert.run = :run AND alert.status = 'firing' LIMIT 1
"""
# The n-th latest in the window: while there is one, the budget of n is used up, and until it leaves.
# Intents "from the future" (the clock was set back) count too: rather one action too few.
_COUNTED = "FROM intent WHERE counted = 1 AND outcome <> 'not_applied' AND created_at > :after"
_SCOPES = {
    "global": "",
    "policy": " AND policy = :policy",
    "target": " AND target_key = :target_key",
}
_NTH = {
    scope: f"SELECT created_at {_COUNTED}{rest} ORDER BY created_at DESC LIMIT 1 OFFSET :skip"
    for scope, rest in _SCOPES.items()
}
# As many intents of whatever outcome: read from an index alone, and nearly always already the answer.
_AS_MANY = {
    scope: f"SELECT 1 FROM intent WHERE created_at > :after{rest} LIMIT 1 OFFSET :skip"  # noqa: S608
    for scope, rest in _SCOPES.items()
}
_COUNT = {scope: f"SELECT COUNT(*) {_COUNTED}{rest}" for scope, rest in _SCOPES.items()}
_LATEST = """
SELECT created_at, run, policy FROM intent
WHERE target_key = :target_key AND run <> :run AND outcome <> 'not_applied' AND created_at > :after
ORDER BY created_at DESC LIMIT 1
"""
_BUSY = """
SELECT target_lock.policy, COUNT(DISTINCT target_lock.run)
FROM target_lock JOIN run ON run.id = target_lock.run
WHERE run.outcome IS NULL AND run.id <> :run GROUP BY target_lock.policy
"""
# At least as many, without a look at each run: a lock that a quarantine keeps is counted too.
_BUSY_AT_MOST = """
SELECT COUNT(CASE WHEN policy = :policy THEN 1 END), COUNT(*) FROM target_lock WHERE run <> :run
"""
_HOLDER = """
SELECT target_lock.run, run.outcome FROM target_lock LEFT JOIN run ON run.id = target_lock.run
WHERE target_lock.target_key = :target_key
"""
_LOCKED = "target_key, target, run, policy, taken_at"
_LOCK = (
    insert("target_lock", _LOCKED)
    + """
ON CONFLICT (target_key) DO UPDATE SET
  target = excluded.target, run = excluded.run, policy = excluded.policy, taken_at = excluded.taken_at
WHERE target_lock.run <> excluded.run
"""
)
_INTENT = "id, " + INTENT + ", target_key, target"


class Clear(Struct, frozen=True):
    """What cannot hold an action back, as a look at many of them at once has found. What it does not say is
    asked for each.

    Args:
        firing: an alert of the run fires.
        steady: its policy has not healed often enough to be flapping.
        room: no budget of the policy or of all can be used up, and not too many act.
        quiet: nothing was done on the target for as long as any of its bounds look back.
        free: nobody holds the target.
    """

    firing: bool = False
    steady: bool = False
    room: bool = False
    quiet: bool = False
    free: bool = False


UNSEEN = Clear()


def admit(tx: Tx, run: Run, admission: Admission, lease: Instant) -> Run | Held:
    """The transaction. On a Run, the intent is written and the caller may call, once.

    Args:
        lease: until when the run stays the caller's.

    Raises:
        LeaseLost: the run's epoch moved on.
        Conflict: the run already has an intent of that number, which is a fault of the caller.
    """
    if not tx.run(_EPOCH, {"lease_until": lease, "id": run.id, "epoch": run.epoch}):
        raise moves.lost(run)
    tx.lock(BRAKES)
    held = held_by(tx, run, admission, UNSEEN)
    if held is not None:
        return held
    note(tx, run, admission, UNSEEN)
    return moves.write(
        tx, run, admission.move, lease_until=lease, target_key=admission.intent.plan.target.key
    )


def held_by(tx: Tx, run: Run, admission: Admission, clear: Clear) -> Held | None:
    """What holds the action back; None if nothing does. Writes nothing. Under the lock of the brakes."""
    return (
        _brakes(tx, run, admission, clear)
        or approvals.held(tx, run, admission)
        or _counters(tx, run, admission, clear)
        or _lock(tx, run, admission, clear)
        or _leases(tx, run, admission)
    )


def note(tx: Tx, run: Run, admission: Admission, clear: Clear) -> None:
    """Write the intent, and that the run holds the target."""
    intent = admission.intent
    target = intent.plan.target
    lock = (target.key, target.name, run.id, intent.policy, tx.now)
    if clear.free:
        tx.append("target_lock", _LOCKED, [lock])
    else:
        tx.run(_LOCK, dict(zip(_LOCKED.split(", "), lock, strict=True)))
    row = (
        tx.id("intent"),
        run.id,
        intent.number,
        intent.kind.value,
        intent.policy,
        encode(intent.plan),
        intent.token,
        intent.nonce,
        intent.rung,
        intent.step,
        tx.now,
        int(intent.counted),
        intent.outcome.value,
        intent.outcome_at,
        encode(intent.evidence),
        target.key,
        target.name,
    )
    tx.append("intent", _INTENT, [row])


def _brakes(tx: Tx, run: Run, admission: Admission, clear: Clear) -> Held | None:
    intent = admission.intent
    going_forward = intent.kind is IntentKind.APPLY
    starting = going_forward and intent.counted
    if going_forward:
        active = tx.known("active", lambda: policies.active(tx))
        if active != admission.policy_set:
            return Held(
                reason=Reason.POLICIES_CHANGED,
                observed=f"policies {_short(active)} are active",
                allowed=f"policies {_short(admission.policy_set)}, with which the guards were asked",
            )
    target = intent.plan.target
    policy = f"policy:{intent.policy}"
    targets = brakes.about(tx, target)
    for brake in brakes.now_on(tx):
        if brake.kind is ControlKind.PAUSE and (brake.scope in ("", policy) or brake.scope in targets):
            return _braked(brake, Reason.PAUSED, "not paused")
        if brake.kind is ControlKind.QUARANTINE and brake.scope in targets:
            return _braked(brake, Reason.QUARANTINED, "a target that is not quarantined")
        if brake.kind is ControlKind.BREAKER and brake.scope == policy and going_forward:
            if admission.begun or _licensed(brake, admission):
                continue
            return _braked(brake, Reason.BREAKER, "a policy that heals")
        storm = admission.storm if starting else None
        if brake.kind is ControlKind.STORM and storm and brake.scope == f"sender:{storm.sender}":
            return _braked(brake, Reason.STORM, _calm(storm))
    refused = _bounds(tx, run, admission, clear) if starting else None
    if refused is not None:
        return refused
    if admission.need_firing and not clear.firing and tx.one(_FIRING, {"run": run.id}) is None:
        return Held(
            reason=Reason.ALERT_RESOLVED, observed="no alert of this run fires", allowed="one that fires"
        )
    return None


def _licensed(breaker: Control, admission: Admission) -> bool:
    """Whether the guards were asked under what the breaker leaves: then a person has approved."""
    return admission.mode is Mode.APPROVE and breaker.data.get("demote_to") == Mode.APPROVE


def _bounds(tx: Tx, run: Run, admission: Admission, clear: Clear) -> Held | None:
    """What holds back the start of an action: windows, a storm, an alert that keeps coming back."""
    outside = _outside(tx, admission)
    if outside is not None:
        return outside
    storm = admission.storm
    if storm is not None:
        after = Instant(surges.second(tx.now) - storm.within)
        came = tx.known(f"came {after} {storm.sender}", lambda: surges.since(tx, storm.sender, after))
        if came >= storm.new_alerts:
            seen = f"{came} new alerts of {storm.sender} within {span(storm.within)}"
            return Held(reason=Reason.STORM, observed=seen, allowed=_calm(storm))
    flapping = admission.flapping
    if flapping is not None and not admission.begun and not clear.steady:
        count = judging.healed(tx, run, flapping, admission.intent.plan.target.key)
        if count >= flapping.budget.count:
            return Held(
                reason=Reason.FLAPPING,
                observed=f"healed {count} times within {span(flapping.budget.window)}, and it is back",
                allowed=f"limits.flapping {flapping.budget}",
            )
    return None


def _calm(storm: Surge) -> str:
    return f"fewer than {storm.new_alerts} new alerts within {span(storm.within)}"


def _outside(tx: Tx, admission: Admission) -> Held | None:
    """A window's edge has come since the guards were asked, or the clock was set back over one: they
    are asked again."""
    slot = admission.slot
    if (slot.since is None or tx.now >= slot.since) and (slot.until is None or tx.now < slot.until):
        return None
    return Held(
        reason=Reason.WINDOW,
        observed=f"window {slot.then or 'unknown'} has changed since the guards were asked",
        allowed="a time in which windows let an action start",
    )


def _counters(tx: Tx, run: Run, admission: Admission, clear: Clear) -> Held | None:
    intent = admission.intent
    if intent.kind is not IntentKind.APPLY or not intent.counted:
        return None
    for scope in _SCOPES:  # global, policy, target: the order in which counters are locked
        for limit in admission.limits:
            if limit.scope == scope and not (clear.quiet if scope == "target" else clear.room):
                held = _budget(tx, admission, limit)
                if held is not None:
                    return held
    target = intent.plan.target
    if admission.cooldown > 0 and not clear.quiet:
        latest = tx.one(
            _LATEST, {"target_key": target.key, "run": run.id, "after": tx.now - admission.cooldown}
        )
        if latest is not None:
            return Held(
                reason=Reason.COOLDOWN,
                observed=f"run {latest[1]} of {latest[2]} acted {span(max(0, tx.now - latest[0]))} ago",
                allowed=f"{span(admission.cooldown)} after the last action on {target.name}",
                until=Instant(latest[0] + admission.cooldown),
            )
    if clear.room:
        return None
    most = tx.one(_BUSY_AT_MOST, {"run": run.id, "policy": intent.policy})
    if most is not None and most[0] < admission.concurrent_policy and most[1] < admission.concurrent_global:
        return None
    busy: dict[str, int] = dict(tx.all(_BUSY, {"run": run.id}))
    own, everyone = busy.get(intent.policy, 0), sum(busy.values())
    if own >= admission.concurrent_policy:
        return _crowded(own, f"of {intent.policy}", admission.concurrent_policy)
    if everyone >= admission.concurrent_global:
        return _crowded(everyone, "in all", admission.concurrent_global)
    return None


def full(tx: Tx, run: Run, admission: Admission) -> Held | None:
    """The budget or cooldown that would hold this action now. A look: ADMIT asks under its lock."""
    held = _counters(tx, run, admission, Clear())
    return held if held is not None and held.reason in (Reason.BUDGET, Reason.COOLDOWN) else None


def as_many(tx: Tx, limit: Limit, policy: str, most: int) -> bool:
    """Whether more than so many intents, of whatever outcome, are in the window of a budget of the policy or
    of all."""
    values = {"after": tx.now - limit.budget.window, "skip": most}
    return (
        tx.one(_AS_MANY[limit.scope], values | ({"policy": policy} if limit.scope == "policy" else {}))
        is not None
    )


def _budget(tx: Tx, admission: Admission, limit: Limit) -> Held | None:
    intent, budget = admission.intent, limit.budget
    values: dict[str, object] = {"after": tx.now - budget.window}
    if limit.scope == "policy":
        values["policy"] = intent.policy
    elif limit.scope == "target":
        values["target_key"] = intent.plan.target.key
    until: Instant | None = None
    if budget.count > 0:
        values["skip"] = budget.count - 1
        if tx.one(_AS_MANY[limit.scope], values) is None:
            return None
        nth = tx.one(_NTH[limit.scope], values)
        if nth is None:
            return None
        until = Instant(nth[0] + budget.window)
    counted = tx.one(_COUNT[limit.scope], values)
    return Held(
        reason=Reason.BUDGET,
        observed=f"{counted[0] if counted else 0} in {span(budget.window)}",
        allowed=f"{budget} ({limit.scope}: {limit.source})",
        until=until,
    )


def _lock(tx: Tx, run: Run, admission: Admission, clear: Clear) -> Held | None:
    target = admission.intent.plan.target
    holder = None if clear.free else tx.one(_HOLDER, {"target_key": target.key})
    # A lock that an ended run left behind is free: quarantine, which would keep it, was asked above.
    if holder is not None and holder[0] != run.id and holder[1] is None:
        return Held(
            reason=Reason.LOCK_BUSY,
            observed=f"run {holder[0]} holds {target.name}",
            allowed="a target that no other run holds",
        )
    return None


def _leases(tx: Tx, run: Run, admission: Admission) -> Held | None:
    """After the look at the lock: whoever held it until now may have lent the field anew, and its lease
    carries the prior value on."""
    for id in admission.leases:
        if not effects.still_open(tx, id, run.id):
            return Held(
                reason=Reason.LEASE_CLOSED,
                observed=f"effect {id} is over or another run's by now",
                allowed="an open lease that this run returns",
            )
    return None


def _braked(brake: Control, reason: Reason, allowed: str) -> Held:
    where = brake.scope or "the daemon"
    return Held(
        reason=reason,
        observed=f"{where}: {brake.reason} (by {brake.actor})",
        allowed=allowed,
        until=brake.until,
    )


def _crowded(count: int, whose: str, most: int) -> Held:
    return Held(
        reason=Reason.CONCURRENCY,
        observed=f"{count} runs {whose} hold a target",
        allowed=f"fewer than {most}",
    )


def _short(revision: str | None) -> str:
    return revision[:12] if revision else "none"
