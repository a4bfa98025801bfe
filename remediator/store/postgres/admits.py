"""ADMIT for many runs in one transaction: what is nearly always so is asked once for all of them.

Each is still judged by itself, in order and by `admit`, with what those before it have written. A look at
all of them beforehand only says which questions need not be asked: those whose answer cannot hold anybody
back, even if everybody in the group is admitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remediator.contracts import Admission
from remediator.model import Instant, RunId
from remediator.store import admit, clearing, moves
from remediator.store.admit import Clear
from remediator.store.clearing import Wanted
from remediator.store.postgres import moves as postgres_moves
from remediator.store.postgres.lane import Item
from remediator.store.postgres.moves import Write, plain
from remediator.store.tx import Tx

_LOOK = """
SELECT new.run,
  EXISTS (
    SELECT 1 FROM run_alert JOIN alert ON alert.id = run_alert.alert
    WHERE run_alert.run = new.run AND alert.status = 'firing'
  ),
  NOT EXISTS (SELECT 1 FROM intent WHERE target_key = new.target_key AND created_at > new.after),
  NOT EXISTS (SELECT 1 FROM target_lock WHERE target_key = new.target_key)
FROM unnest(CAST(:runs AS bigint[]), CAST(:target_keys AS text[]), CAST(:afters AS bigint[]))
  AS new (run, target_key, after)
JOIN run ON run.id = new.run
  AND (run.id, run.epoch) IN (SELECT * FROM unnest(CAST(:runs AS bigint[]), CAST(:epochs AS bigint[])))
WHERE run.outcome IS NULL
"""


def together(tx: Tx, items: Sequence[Item], lease: Instant) -> Sequence[Item]:
    """As `lane.Together`, for admissions."""
    first: dict[RunId, tuple[Item, Admission]] = {}
    rest: list[Item] = []
    for item in items:
        wanted = item.wanted
        if isinstance(wanted, Admission) and plain(item.run, wanted.move) and item.run.id not in first:
            first[item.run.id] = (item, wanted)
        else:
            rest.append(item)
    clear = look(tx, [(item.run, admission) for item, admission in first.values()], len(items))
    writes: list[Write] = []
    for id, (item, admission) in first.items():
        if id not in clear:
            item.error = moves.lost(item.run)
            continue
        item.answer = admit.held_by(tx, item.run, admission, clear[id])
        if item.answer is None:
            admit.note(tx, item.run, admission, clear[id])
            key = admission.intent.plan.target.key
            writes.append(Write(item.run, admission.move, lease, key, unclaimed=True))
    moved = postgres_moves.write(tx, writes)
    for one in writes:
        if one.run.id not in moved:
            raise moves.lost(one.run)  # its row is locked: whatever this is, nothing of it is written
        first[one.run.id][0].answer = moved[one.run.id]
    return rest


def look(tx: Tx, wanted: Sequence[Wanted], most: int) -> Mapping[RunId, Clear]:
    """What need not be asked, for each run that is still its worker's.

    Args:
        wanted: runs whose rows are locked, under the lock of the brakes.
        most: how many may be admitted in this transaction.
    """
    if not wanted:
        return {}
    found = tx.all(
        _LOOK,
        {
            "runs": [run.id for run, _ in wanted],
            "epochs": [run.epoch for run, _ in wanted],
            "target_keys": [admission.intent.plan.target.key for _, admission in wanted],
            "afters": [tx.now - clearing.back(admission) for _, admission in wanted],
        },
    )
    seen = {RunId(run): (firing, quiet, free) for run, firing, quiet, free in found}
    return clearing.clear(tx, wanted, seen, most)
