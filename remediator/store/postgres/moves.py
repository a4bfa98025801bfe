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
from remediator.store import moves, outbox, rows, trail
from remediator.store.postgres.lane import Item
from remediator.store.postgres.tx import PostgresTx
from remediator.store.tx import Tx


def _listed(columns: Mapping[str, str]) -> str:
    """The rows that the parameters of these names hold, column by column."""
    lists = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    return f"FROM unnest({lists}) AS new ({', '.join(columns)})"


_MOVE = moves.run_statement("new.", _listed(moves.COLUMNS))
_INTENTS = moves.intent_statement("new.", _listed(moves.UPDATES))


class Write(msgspec.Struct, frozen=True):
    """One run's move. Args: lease_until, target_key, unclaimed: as for `moves.write`."""

    run: Run
    move: Move
    lease_until: Instant | None = None
    target_key: str | None = None
    unclaimed: bool = False


def plain(run: Run, move: Move) -> bool:
    """Whether it is one that `write` can write."""
    again = any(update.outcome is IntentOutcome.PENDING for update in move.intents)
    ends = move.outcome is not None and (run.state is State.APPROVAL or run.origin is Origin.LEASE)
    return not (again or ends or any(getattr(move, name) for name in moves.MORE))


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
        moves.columns(tx, one.run, one.move, one.lease_until, one.target_key, one.unclaimed) for one in wanted
    ]
    found = tx.change(_MOVE, {**_by_column(moves.COLUMNS, values), "now": tx.now})
    moved = {RunId(row[0]): rows.run(row) for row in found}
    written = [one for one in wanted if one.run.id in moved]
    _update_intents(tx, written)
    trail.append(tx, [event for one in written for event in one.move.events])
    for one in written:
        outbox.post(tx, one.move.messages)
    ended = [one.run.id for one in written if one.move.outcome is not None]
    if ended:
        tx.change(moves.FREE, {"now": tx.now}, "runs", ended)
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
    found = [values for one in written for values in moves.updates(tx, one.run, one.move)]
    if found and tx.run(_INTENTS, _by_column(moves.UPDATES, found)) != len(found):
        raise Conflict("a run has no intent of that number")


def _by_column(names: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {name: [row[name] for row in rows] for name in names}
