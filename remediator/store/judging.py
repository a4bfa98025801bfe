"""What the ends of a policy's runs add up to: whether it heals, and whether it heals too often."""

from __future__ import annotations

from remediator.contracts import Breaker, Flapping
from remediator.model import Budget, Outcome, Run
from remediator.store import brakes, outbox, trail
from remediator.store.tx import BRAKES, Tx

# As in the index `run_judged`, word by word.
_JUDGED = "policy = :policy AND outcome IN ('succeeded', 'reverted', 'escalated')"
_LAST = f"""
SELECT outcome FROM run WHERE {_JUDGED} AND updated_at > :restored AND origin <> 'lease'
ORDER BY updated_at DESC, id DESC LIMIT :most
"""  # noqa: S608
_HEALED = f"""
SELECT COUNT(*) FROM run WHERE {_JUDGED} AND outcome = 'succeeded' AND updated_at > :after
  AND origin <> 'lease' AND (
    target_key = :target_key OR target = :target
    OR EXISTS (
      SELECT 1 FROM alert WHERE alert.id = run.alert AND sender = :sender AND fingerprint = :fingerprint
    )
  )
"""  # noqa: S608
# As many runs that were judged, on whatever target: read from the index alone.
_AS_MANY = f"SELECT 1 FROM run WHERE {_JUDGED} AND updated_at > :after LIMIT 1 OFFSET :skip"  # noqa: S608
_RESTORED = "SELECT value FROM meta WHERE key = :key"


def judge(tx: Tx, run: Run, breaker: Breaker) -> bool:
    """Open the policy's breaker if its last runs all were ineffective, this one included; returns
    whether that opened it.

    Under the lock of the brakes: of two runs that end at the same time, the second sees the first.
    """
    tx.lock(BRAKES)
    values = {"policy": run.policy, "restored": _restored(tx, run.policy), "most": breaker.ineffective}
    last = [outcome for (outcome,) in tx.all(_LAST, values)]
    if len(last) < breaker.ineffective or Outcome.SUCCEEDED in last:
        return False
    control = breaker.control
    if any((one.kind, one.scope) == (control.kind, control.scope) for one in brakes.on(tx)):
        return False
    brakes.put(tx, control)
    trail.append(tx, (breaker.event,))
    outbox.post(tx, breaker.messages)
    return True


def healed(tx: Tx, run: Run, flapping: Flapping, target_key: str | None) -> int:
    """How many runs of the run's policy ended well within the window on its target, or about its alert.
    Where the policy as a whole has not had as many as the bound, none are counted.

    Args:
        target_key: the target's identity, once it is known.
    """
    after = tx.now - flapping.budget.window
    if seldom(tx, run.policy, flapping.budget):
        return 0
    values = {
        "policy": run.policy,
        "target": run.target or "",
        "target_key": target_key or "",
        "sender": flapping.sender,
        "fingerprint": flapping.fingerprint,
        "after": after,
    }
    row = tx.one(_HEALED, values)
    return int(row[0]) if row is not None else 0


def seldom(tx: Tx, policy: str, budget: Budget) -> bool:
    """Whether the policy as a whole has not had as many runs judged as a bound on those that healed."""
    values = {"policy": policy, "after": tx.now - budget.window, "skip": max(budget.count - 1, 0)}
    return tx.one(_AS_MANY, values) is None


def steady(tx: Tx, policy: str, flapping: Flapping) -> bool:
    """Whether the policy cannot be flapping, asked once in a transaction, which ends no run."""
    budget = flapping.budget
    name = f"seldom {policy} {budget}"
    return budget.count > 0 and tx.known(name, lambda: seldom(tx, policy, budget))


def _restored(tx: Tx, policy: str) -> int:
    row = tx.one(_RESTORED, {"key": brakes.restored_key(policy)})
    return int(row[0]) if row is not None else -1
