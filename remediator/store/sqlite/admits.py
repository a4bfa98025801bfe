"""ADMIT for all that a group of the writer brings: what is nearly always so is asked once for all of them.

Each is still judged by itself, in order and by `admit`, with what those before it have written. Who is held
back has written nothing, so nobody needs a savepoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from remediator.contracts import Admission
from remediator.model import Instant, Run, RunId
from remediator.store import admit, clearing, moves
from remediator.store.clearing import Seen
from remediator.store.sqlite.tx import SqliteTx

# The compare-and-set is the move's: here it only tells who need not be asked about.
_LOOK = """
SELECT
  EXISTS (
    SELECT 1 FROM run_alert JOIN alert ON alert.id = run_alert.alert
    WHERE run_alert.run = :run AND alert.status = 'firing'
  ),
  NOT EXISTS (SELECT 1 FROM intent WHERE target_key = :target_key AND created_at > :after),
  NOT EXISTS (SELECT 1 FROM target_lock WHERE target_key = :target_key)
FROM run WHERE id = :run AND epoch = :epoch AND outcome IS NULL
"""


def together(tx: SqliteTx, wanted: Sequence[tuple[Run, Admission]], lease: Instant) -> Sequence[object]:
    """Admit those that may act; returns the answer to each in order: a Run, a Held or LeaseLost.

    Args:
        wanted: of different runs.
        lease: until when a run stays its worker's.

    Raises:
        Exception: something cannot be written; then nothing of it may be kept.
    """
    seen: dict[RunId, Seen] = {}
    for run, admission in wanted:
        row = tx.one(
            _LOOK,
            {
                "run": run.id,
                "epoch": run.epoch,
                "target_key": admission.intent.plan.target.key,
                "after": tx.now - clearing.back(admission),
            },
        )
        if row is not None:
            seen[run.id] = (bool(row[0]), bool(row[1]), bool(row[2]))
    clear = clearing.clear(tx, wanted, seen, len(wanted))
    return [
        _one(tx, run, admission, lease, clear[run.id]) if run.id in clear else moves.lost(run)
        for run, admission in wanted
    ]


def _one(tx: SqliteTx, run: Run, admission: Admission, lease: Instant, clear: admit.Clear) -> object:
    held = admit.held_by(tx, run, admission, clear)
    if held is not None:
        return held
    admit.note(tx, run, admission, clear)
    key = admission.intent.plan.target.key
    return moves.write(tx, run, admission.move, lease_until=lease, target_key=key, unclaimed=True)
