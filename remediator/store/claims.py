"""Which runs are due, and whose they are. Nothing here waits: a timer is a row with `next_at`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from remediator.contracts import Hint
from remediator.model import Instant, Reason, Run, RunId
from remediator.store import effects, rows
from remediator.store.rows import RUN
from remediator.store.tx import Row, Tx

_FREE = "next_at <= :now AND (lease_until IS NULL OR lease_until <= :now)"
BEGUN = f"outcome IS NULL AND state NOT IN ('HOLD', 'GUARD', 'APPROVAL') AND {_FREE}"
"""Due runs that have been admitted. They come first: they hold a target and a place among those that may
act at once, so whoever waits for these two must not keep them from ending. As in the index `run_begun`."""
WAITING = f"outcome IS NULL AND state IN ('HOLD', 'GUARD', 'APPROVAL') AND {_FREE}"
# SQLite does not see by itself that the narrower index is the better one.
_DUE = tuple(
    f"SELECT id FROM run INDEXED BY {index} WHERE {which} ORDER BY next_at, id LIMIT :limit"  # noqa: S608
    for index, which in (("run_begun", BEGUN), ("run_due", WAITING))
)
_CLAIM = f"""
UPDATE run SET epoch = epoch + 1, worker = :worker, lease_until = :lease_until, woken = 0
WHERE id = :id RETURNING {RUN}
"""  # noqa: S608
# Nobody else can have had it in its hands yet.
_CLAIM_NEW = f"""
UPDATE run SET epoch = epoch + 1, worker = :worker, lease_until = :lease_until, woken = 0
WHERE id IN (:ids) AND epoch = 0 AND {WAITING} AND woken = 0 RETURNING {RUN}
"""  # noqa: S608
# A run that was admitted has its timer at its deadline; whoever lets go of it does so for good: what it has
# asked for before, and arrives only now, finds another epoch.
RELEASE = """
UPDATE run SET epoch = epoch + 1, lease_until = NULL, worker = NULL, woken = 0,
  next_at = CASE WHEN next_at > :now THEN :now ELSE next_at END
WHERE id = :id AND epoch = :epoch AND outcome IS NULL AND lease_until IS NOT NULL
"""
_RECLAIM = """
UPDATE run SET lease_until = NULL, worker = NULL, woken = 0,
  next_at = CASE WHEN next_at > :now THEN :now ELSE next_at END
WHERE outcome IS NULL AND lease_until IS NOT NULL
"""
_WAKE = "UPDATE run SET next_at = :now, woken = 1 WHERE id IN (:ids) AND outcome IS NULL"
_WAKE_WAITING = f"{_WAKE} AND state IN ('HOLD', 'GUARD', 'APPROVAL')"
# Whoever is claimed may be about to wait for it: the look that it then takes at once finds it gone.
_HELD = """
SELECT id FROM run
WHERE outcome IS NULL AND (lease_until IS NOT NULL OR (reason = :reason AND next_at > :now))
"""
_ABOUT = "SELECT run FROM run_alert WHERE alert IN (:alerts)"
_STILL_OPEN = "SELECT id FROM run WHERE id IN (:runs) AND outcome IS NULL"
_SOONEST = """
SELECT next_at, lease_until FROM run WHERE outcome IS NULL ORDER BY next_at LIMIT 500
"""
_NEXT_RETURN = """
SELECT MIN(expires_at) FROM effect WHERE returned_at IS NULL AND return_run IS NULL
"""


def claim(tx: Tx, worker: str, limit: int, lease: Instant) -> Sequence[Run]:
    """Take due runs: epoch + 1, and nobody else's until `lease`. Leases on effects that ran out
    become runs first."""
    effects.open_returns(tx)
    due: list[Row] = []
    for sql in _DUE:
        due += tx.all(sql, {"now": tx.now, "limit": limit - len(due)})
    return [
        rows.run(tx.change(_CLAIM, {"worker": worker, "lease_until": lease, "id": id})[0]) for (id,) in due
    ]


def claim_new(tx: Tx, worker: str, runs: Sequence[RunId], lease: Instant) -> Sequence[Run]:
    """Take those among these that this transaction has opened and that are due, as `claim` would, where only
    one writes."""
    if not runs:
        return []
    values = {"worker": worker, "lease_until": lease, "now": tx.now}
    return [rows.run(row) for row in tx.change(_CLAIM_NEW, values, "ids", runs)]


def release(tx: Tx, runs: Sequence[Run]) -> None:
    """Hand runs back; those that are someone else's by now are left alone."""
    for run in sorted(runs, key=lambda run: run.id):
        tx.run(RELEASE, {"now": tx.now, "id": run.id, "epoch": run.epoch})
    tx.hint(Hint.DUE)


def reclaim(tx: Tx) -> int:
    """Free every claim: for an owner who knows that all earlier workers are dead."""
    return tx.run(_RECLAIM, {"now": tx.now})


def wake(tx: Tx, id: RunId) -> None:
    """Make an open run due now, also if it is claimed and its worker is about to set a timer."""
    _wake(tx, [id])


def wake_held(tx: Tx, reasons: Sequence[Reason]) -> None:
    """Make the open runs that wait for one of these due now, without waiting for their own next look."""
    held = {id for reason in reasons for (id,) in tx.all(_HELD, {"reason": reason.value, "now": tx.now})}
    if held:
        _wake(tx, tx.hold(_STILL_OPEN, {}, "runs", sorted(held)))  # at once, or their order is not one


def wake_about(tx: Tx, alerts: Sequence[int], joined: Collection[int] = ()) -> Collection[int]:
    """Make the runs of these alerts due now, if they have not acted; returns which of the runs that others
    joined have ended since. Whoever ends one waits from here on until this transaction has ended."""
    about = {row[0] for row in tx.any(_ABOUT, "alerts", alerts)}
    if not about and not joined:
        return ()
    held = set(tx.hold(_STILL_OPEN, {}, "runs", sorted(about.union(joined))))
    _wake(tx, sorted(about & held), _WAKE_WAITING)
    return set(joined) - held


def _wake(tx: Tx, ids: Sequence[int], wake: str = _WAKE) -> None:
    if ids:
        tx.change(wake, {"now": tx.now}, "ids", ids)
        tx.hint(Hint.DUE)


def next_due(tx: Tx) -> Instant | None:
    """When the next run or lease is due; in the past if one is due already."""
    soonest: int | None = None
    for next_at, lease_until in tx.all(_SOONEST):
        if soonest is not None and next_at >= soonest:
            break
        at = next_at if lease_until is None else max(next_at, lease_until)
        soonest = at if soonest is None else min(soonest, at)
    row = tx.one(_NEXT_RETURN)
    if row is not None and row[0] is not None:
        soonest = row[0] if soonest is None else min(soonest, row[0])
    return None if soonest is None else Instant(soonest)
