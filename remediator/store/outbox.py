"""The outbox: notifications that are written with the change they tell of, and sent later.

A message is posted once, without a notifier; whoever looks first spreads it over those it is for, a
row each. A notifier that fails is a row too (`notifier`): how long it has, and when it is tried again,
by whichever message. So fifty messages do not try a dead one fifty times, nor does a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from remediator.contracts import NotifierState, Outgoing
from remediator.errors import NotFound
from remediator.model import HOUR, SECOND, AuditEvent, Instant, Message, Millis
from remediator.store import trail
from remediator.store.rows import encode
from remediator.store.tx import Row, Tx, insert

_INSERT = insert("outbox", "id, at, next_at, attempts, message, error, incident, notifier, posted")
PLACE = "COALESCE(outbox.posted, outbox.id)"
_FORMER_PLACE = "COALESCE(former.posted, former.id)"
"""The id under which a message was posted, the same for each of its notifiers. Ids are given out in the order
in which an incident changes; a clock may be set back, and shows the same millisecond twice."""
IN_ORDER = f"""
NOT EXISTS (
  SELECT 1 FROM outbox AS former
  WHERE former.incident = outbox.incident AND former.sent_at IS NULL AND {_FORMER_PLACE} < {PLACE}
    AND (former.notifier = outbox.notifier OR former.notifier IS NULL)
    AND former.refused < 3 AND (former.attempts < 5 OR former.at > :patience))
"""  # noqa: S608
"""Nobody hears that an incident is over before hearing that there is one: what is still to be said to a
notifier holds up what comes after. Not for ever, for it may never take it, and the calls behind it must go
out: not where it was refused three times while others were taken, nor beyond `PATIENCE`. Once one of those is
out, what it went past is given up (`sent`)."""
# What was tried least first, or a message that a notifier never takes would hold up those behind it.
_DUE = f"""
SELECT outbox.id, outbox.at, outbox.attempts, outbox.message, outbox.notifier
FROM outbox LEFT JOIN notifier ON notifier.name = outbox.notifier
WHERE outbox.sent_at IS NULL AND outbox.next_at <= :now
  AND (notifier.retry_at IS NULL OR notifier.retry_at <= :now)
  AND {IN_ORDER}
ORDER BY outbox.attempts, outbox.at, {PLACE} LIMIT :limit
"""  # noqa: S608
_ANY_DUE = "SELECT 1 FROM outbox WHERE sent_at IS NULL AND next_at <= :now LIMIT 1"
_ADDRESS = """
UPDATE outbox SET notifier = :notifier
WHERE id = :id AND notifier IS NULL AND sent_at IS NULL RETURNING at, message, incident, COALESCE(posted, id)
"""
_SENT = """
UPDATE outbox SET sent_at = :now, attempts = attempts + 1 WHERE id = :id AND sent_at IS NULL
RETURNING notifier, incident, COALESCE(posted, id)
"""
_PASSED = """
UPDATE outbox SET sent_at = :now
WHERE incident = :incident AND notifier = :notifier AND sent_at IS NULL AND COALESCE(posted, id) < :place
RETURNING id
"""
_FAILED = """
UPDATE outbox SET next_at = :retry_at, attempts = attempts + 1, error = :error,
  refused = refused + COALESCE((
    SELECT CASE WHEN failing_since IS NULL THEN 1 ELSE 0 END FROM notifier
    WHERE notifier.name = outbox.notifier), 0)
WHERE id = :id AND sent_at IS NULL RETURNING notifier
"""
_ABANDON = """
UPDATE outbox SET sent_at = :now WHERE notifier = :notifier AND sent_at IS NULL AND at <= :before
RETURNING id
"""
_NOTIFIER = "name, failing_since, retry_at, told_at, error"
_STATES = f"SELECT {_NOTIFIER} FROM notifier ORDER BY name"  # noqa: S608
_STATE = f"SELECT {_NOTIFIER} FROM notifier WHERE name = :name"  # noqa: S608
_FAILING = "SELECT name, retry_at FROM notifier WHERE failing_since IS NOT NULL"
_PROBE = "UPDATE notifier SET retry_at = :until WHERE name = :name AND retry_at = :seen"
_BROKEN = (
    insert("notifier", "name, failing_since, retry_at, error")
    + """
ON CONFLICT (name) DO UPDATE SET
  failing_since = COALESCE(notifier.failing_since, excluded.failing_since),
  retry_at = excluded.retry_at, error = excluded.error
"""
)
_WELL = """
UPDATE notifier SET failing_since = NULL, retry_at = NULL, error = ''
WHERE name = :name AND failing_since IS NOT NULL
"""
_TOLD = (
    "UPDATE notifier SET told_at = :now WHERE name = :name AND told_at IS NULL AND failing_since IS NOT NULL"
)
_TOLD_WELL = """
UPDATE notifier SET told_at = NULL WHERE name = :name AND told_at IS NOT NULL AND failing_since IS NULL
"""
_message = msgspec.json.Decoder(Message)

SHORTEST, LONGEST = Millis(5 * SECOND), Millis(600 * SECOND)
"""Between two tries of a notifier that fails."""
PATIENCE = Millis(HOUR)
"""How long a message that its notifier does not take holds up the others of its incident."""
_PROBING = Millis(30 * SECOND)
"""How long the others leave a notifier that fails to whoever tries it; longer than a try may take."""


def post(tx: Tx, messages: Sequence[Message]) -> None:
    """Put messages into the outbox."""
    for message in messages:
        tx.run(_INSERT, _values(tx, tx.now, encode(message), message.incident, None))


def any_due(tx: Tx) -> bool:
    """Whether any message is to be sent now, unless its notifier is not to be tried: read from an index."""
    return tx.one(_ANY_DUE, {"now": tx.now}) is not None


def due(tx: Tx, limit: int) -> Sequence[Outgoing]:
    """The messages to be sent now, those that were tried least first, without any whose notifier is
    not to be tried now. Of those for a notifier that fails it is for `probes` to choose one."""
    values = {"now": tx.now, "limit": limit, "patience": tx.now - PATIENCE}
    return [outgoing(*row) for row in tx.all(_DUE, values)]


def failing(tx: Tx) -> dict[str, int]:
    """The notifiers that fail, and when each is to be tried again."""
    return {name: retry_at for name, retry_at in tx.all(_FAILING) if retry_at is not None}


def probes(tx: Tx, found: Sequence[Outgoing]) -> Sequence[Outgoing]:
    """The same, with one message for each notifier that fails, and that only if nobody else tries it."""
    known = failing(tx)
    chosen: list[Outgoing] = []
    for one in found:
        if one.notifier is None or one.notifier not in known:
            chosen.append(one)
            continue
        seen = known[one.notifier]
        values = {"name": one.notifier, "seen": seen, "until": tx.now + _PROBING}
        if seen <= tx.now and tx.run(_PROBE, values):
            known[one.notifier] = tx.now + _PROBING
            chosen.append(one)
    return chosen


def outgoing(id: int, at: int, attempts: int, message: str, notifier: str | None) -> Outgoing:
    """A row as a value."""
    return Outgoing(
        id=id, at=Instant(at), attempts=attempts, message=_message.decode(message), notifier=notifier
    )


def spread(tx: Tx, id: int, notifiers: Sequence[str]) -> bool:
    """Address a message to these, of which there is at least one; False if another did so already."""
    found = tx.change(_ADDRESS, {"id": id, "notifier": notifiers[0]})
    for row in found:
        for notifier in notifiers[1:]:
            tx.run(_INSERT, _values(tx, row[0], row[1], row[2], notifier, row[3]))
    return bool(found)


def sent(tx: Tx, id: int, event: AuditEvent) -> NotifierState | None:
    """Record that a message went out; its notifier is well. What it went past is given up: nobody hears of it
    afterwards.

    Raises:
        NotFound: there is no unsent message of that id.
    """
    found = tx.change(_SENT, {"now": tx.now, "id": id})
    if not found:
        raise NotFound(f"no unsent message has the id {id}")
    trail.append(tx, (event,))
    name, incident, place = found[0]
    if name is None:
        return None
    if incident is not None:
        passed = tx.change(_PASSED, {"now": tx.now, "incident": incident, "notifier": name, "place": place})
        if passed:
            trail.append(tx, (_passed(event, [row[0] for row in passed]),))
    tx.run(_WELL, {"name": name})
    return _state(tx.one(_STATE, {"name": name}))


def failed(tx: Tx, id: int, retry_at: Instant, error: str) -> NotifierState | None:
    """Record a failed try and when the next one is due. The notifier is left alone for as long as it
    has been failing, within bounds.

    Raises:
        NotFound: there is no unsent message of that id.
    """
    found = tx.change(_FAILED, {"retry_at": retry_at, "error": error[:4_000], "id": id})
    if not found:
        raise NotFound(f"no unsent message has the id {id}")
    name = found[0][0]
    if name is None:
        return None
    before = _state(tx.one(_STATE, {"name": name}))
    since = before.failing_since if before is not None and before.failing_since is not None else tx.now
    wait = min(max(tx.now - since, SHORTEST), LONGEST)
    tx.run(
        _BROKEN,
        {"name": name, "failing_since": tx.now, "retry_at": tx.now + wait, "error": error[:4_000]},
    )
    return _state(tx.one(_STATE, {"name": name}))


def abandon(tx: Tx, notifier: str, before: Instant, event: AuditEvent) -> int:
    """Give up what a notifier has not taken since then; returns how many messages."""
    found = tx.change(_ABANDON, {"notifier": notifier, "before": before, "now": tx.now})
    if found:
        data = {**event.data, "messages": [row[0] for row in found]}
        trail.append(tx, (msgspec.structs.replace(event, data=data),))
    return len(found)


def states(tx: Tx) -> Sequence[NotifierState]:
    """The notifiers that have failed once, by name."""
    return [state for row in tx.all(_STATES) if (state := _state(row)) is not None]


def tell(tx: Tx, name: str, failing: bool, event: AuditEvent, messages: Sequence[Message]) -> bool:
    """Say that a notifier fails, or is well again; False if that was said, or is not so."""
    if not tx.run(
        _TOLD if failing else _TOLD_WELL, {"name": name, "now": tx.now} if failing else {"name": name}
    ):
        return False
    trail.append(tx, (event,))
    post(tx, messages)
    return True


def _passed(event: AuditEvent, ids: Sequence[int]) -> AuditEvent:
    return msgspec.structs.replace(
        event,
        kind="message.abandoned",
        observed="not taken for long: a later message of the incident went out first",
        data={**event.data, "messages": list(ids)},
    )


def _values(
    tx: Tx, at: int, message: str, incident: int | None, notifier: str | None, posted: int | None = None
) -> dict[str, object]:
    return {
        "id": tx.id("outbox"),
        "at": at,
        "next_at": tx.now,
        "attempts": 0,
        "message": message,
        "error": "",
        "incident": incident,
        "notifier": notifier,
        "posted": posted,
    }


def _state(row: Row | None) -> NotifierState | None:
    if row is None:
        return None
    return NotifierState(name=row[0], failing_since=row[1], retry_at=row[2], told_at=row[3], error=row[4])
