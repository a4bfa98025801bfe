"""What need not be asked of each of many admissions, since a look at all of them has answered it.

Pure but for the few questions that are asked once for all. It says only what cannot hold anybody back even if
everybody is admitted; whatever is near its bound is asked by `admit`, one after another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from remediator.contracts import Admission, Limit
from remediator.model import Run, RunId
from remediator.store import admit, judging
from remediator.store.admit import Clear
from remediator.store.tx import Tx

Wanted = tuple[Run, Admission]
Seen = tuple[bool, bool, bool]
"""Of one run: an alert fires; nothing was done on the target for as long as its bounds look back; nobody
holds the target."""
BUSY = "SELECT policy, COUNT(*) FROM target_lock GROUP BY policy"


def clear(tx: Tx, wanted: Sequence[Wanted], seen: Mapping[RunId, Seen], most: int) -> Mapping[RunId, Clear]:
    """For each run that was seen.

    Args:
        most: how many may be admitted in this transaction.
    """
    if not seen:
        return {}
    often = Counter(admission.intent.plan.target.key for _, admission in wanted)
    busy: Counter[str] = Counter(dict(tx.all(BUSY)))
    found: dict[RunId, Clear] = {}
    for run, admission in wanted:
        if run.id not in seen:
            continue
        firing, quiet, free = seen[run.id]
        alone = often[admission.intent.plan.target.key] == 1
        found[run.id] = Clear(
            firing=firing,
            steady=_steady(tx, admission),
            room=_room(tx, admission, busy, most),
            quiet=quiet and alone and all(one.budget.count > 0 for one in _of_target(admission)),
            free=free and alone,
        )
    return found


def back(admission: Admission) -> int:
    """How long the bounds of the target look back, in milliseconds."""
    return max(admission.cooldown, *(limit.budget.window for limit in _of_target(admission)), 0)


def _of_target(admission: Admission) -> Sequence[Limit]:
    return [limit for limit in admission.limits if limit.scope == "target"]


def _steady(tx: Tx, admission: Admission) -> bool:
    return admission.flapping is None or judging.steady(tx, admission.intent.policy, admission.flapping)


def _room(tx: Tx, admission: Admission, busy: Counter[str], most: int) -> bool:
    policy = admission.intent.policy
    crowded = (
        busy[policy] + most > admission.concurrent_policy or busy.total() + most > admission.concurrent_global
    )
    return not crowded and all(
        _far(tx, limit, policy, most) for limit in admission.limits if limit.scope != "target"
    )


def _far(tx: Tx, limit: Limit, policy: str, most: int) -> bool:
    """Whether a budget cannot be used up by so many more."""
    left = limit.budget.count - most
    name = f"far {limit.scope} {policy if limit.scope == 'policy' else ''} {limit.budget}"
    return left >= 0 and tx.known(name, lambda: not admit.as_many(tx, limit, policy, left))
