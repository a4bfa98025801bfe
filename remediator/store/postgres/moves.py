"""What many runs write at the same time, as a few statements for all of them.

Only what nearly every move is: a run's row, what became of its intents, its events and messages, and the
end of its lock. Whatever else a move may bring is written for itself (`moves.write`), by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from remediator.contracts import Move
from remediator.errors import Conflict
from remediator.model import Instant, IntentOutcome, Origin, Run, RunId, State
from remediator.store import brakes, moves, outbox, rows, trail
from remediator.store.postgres.lane import Item
from remediator.store.postgres.tx import PostgresTx
from remediator.store.rows import RUN, encode
from remediator.store.tx import Tx

_COLUMNS = {
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
}


def _listed(columns: dict[str, str]) -> str:
    """The rows that the parameters of these names hold, column by column."""
    lists = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    return f"unnest({lists}) AS new ({', '.join(columns)})"


# As in `moves`, for many.
_MOVE = f"""
UPDATE run SET
  state = new.state, outcome = new.outcome, reason = new.reason, observed = new.observed,
  allowed = new.allowed, updated_at = :now, progress = new.progress, lease_until = new.lease_until,
  next_at = CASE WHEN run.woken = 1 AND new.wakeable = 1 THEN :now ELSE new.next_at END,
  woken = 0, target_key = COALESCE(new.target_key, run.target_key)
FROM {_listed(_COLUMNS)}
WHERE run.id = new.id AND run.epoch = new.epoch AND run.outcome IS NULL
  AND (run.lease_until IS NOT NULL OR new.unclaimed = 1)
RETURNING {", ".join(f"run.{name.strip()}" for name in RUN.split(","))}
"""  # noqa: S608
_UPDATES = {"run": "bigint", "number": "int", "outcome": "text", "evidence": "text"}
_INTENTS = f"""
UPDATE intent SET outcome = new.outcome, outcome_at = :now, evidence = COALESCE(new.evidence, intent.evidence)
FROM {_listed(_UPDATES)} WHERE intent.run = new.run AND intent.number = new.number
"""  # noqa: S608
_FREE = f"DELETE FROM target_lock WHERE run IN (:runs) AND {brakes.NOT_QUARANTINED}"  # noqa: S608


class Write(msgspec.Struct, frozen=True):
    """One run's move. Args: lease_until, target_key, unclaimed: as for `moves.write`."""

    run: Run
    move: Move
    lease_until: Instant | None = None
    target_key: str | None = None
    unclaimed: bool = False


def plain(run: Run, move: Move) -> bool:
    """Whether it is one that `write` can write."""
    more = (
        move.effects,
        move.effect_done,
        move.effect_extend,
        move.controls,
        move.ask,
        move.breaker,
        move.incident,
    )
    again = any(update.outcome is IntentOutcome.PENDING for update in move.intents)
    ends = move.outcome is not None and (run.state is State.APPROVAL or run.origin is Origin.LEASE)
    return not (any(more) or again or ends)


def write(tx: Tx, wanted: Sequence[Write]) -> Mapping[RunId, Run]:
    """Write them; returns those that were still their worker's, as they are now. The others are left alone.

    Args:
        wanted: plain ones, of different runs whose rows are locked.

    Raises:
        Conflict: one of them is about an intent that is not there.
    """
    if not wanted:
        return {}
    values = [
        {
            **moves.columns(tx, one.run, one.move, one.lease_until, one.target_key),
            "unclaimed": int(one.unclaimed),
        }
        for one in wanted
    ]
    columns = {name: [row[name] for row in values] for name in _COLUMNS}
    moved = {RunId(row[0]): rows.run(row) for row in tx.change(_MOVE, {**columns, "now": tx.now})}
    written = [one for one in wanted if one.run.id in moved]
    _update_intents(tx, written)
    trail.append(tx, [event for one in written for event in one.move.events])
    for one in written:
        outbox.post(tx, one.move.messages)
    ended = [one.run.id for one in written if one.move.outcome is not None]
    if ended:
        tx.change(_FREE, {"now": tx.now}, "runs", ended)
    return moved


def together(tx: PostgresTx, items: Sequence[Item]) -> Sequence[Item]:
    """As `lane.Together`, for moves."""
    first: dict[RunId, Item] = {}
    rest: list[Item] = []
    wanted = [(item, item.wanted) for item in items if isinstance(item.wanted, Move)]
    joined = moves.firing(tx, [item.run.id for item, move in wanted if moves.for_resolve(move)])
    for item in items:
        fits = isinstance(item.wanted, Move) and plain(item.run, item.wanted) and item.run.id not in joined
        fits = fits and not item.by(tx)
        if not fits or first.setdefault(item.run.id, item) is not item:
            rest.append(item)
    moved = write(tx, [Write(item.run, cast(Move, item.wanted)) for item in first.values()])
    for id, item in first.items():
        item.answer = moved.get(id)
        if item.answer is None:
            item.error = moves.lost(item.run)
    return rest


def _update_intents(tx: Tx, written: Sequence[Write]) -> None:
    found = [
        (
            one.run.id,
            update.number,
            update.outcome.value,
            encode(update.evidence) if update.evidence else None,
        )
        for one in written
        for update in one.move.intents
    ]
    if not found:
        return
    columns = dict(zip(_UPDATES, map(list, zip(*found, strict=True)), strict=True))
    if tx.run(_INTENTS, {**columns, "now": tx.now}) != len(found):
        raise Conflict("a run has no intent of that number")
