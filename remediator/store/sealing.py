"""Seals what is committed: numbers the records in the order of sealing, and chains them.

Hashing is done beside the writer; only the row of the seal goes through it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from remediator.audit import seal
from remediator.model import Instant
from remediator.store.tx import Row, Tx, insert

SOURCES = ("audit_event", "alert_event")
SEAL = "id, first, count, at, algorithm, upto, items, previous, hash"
DELIVERY = "id, at, sender, kind, revision, truncated, test, changes, body"
EVERY = (1 << 63) - 1
_INSERT = insert("audit_seal", SEAL)
_HEAD = f"SELECT {SEAL} FROM audit_seal ORDER BY id DESC LIMIT 1"  # noqa: S608
_EVENT = "SELECT body FROM audit_event WHERE id = :id"
_DELIVERY = f"SELECT {DELIVERY} FROM alert_event WHERE id = :id"  # noqa: S608
_NEXT = "WHERE id > :upto AND id <= :settled ORDER BY id LIMIT :limit"
_UNSEALED = {
    "audit_event": f"SELECT id, body FROM audit_event {_NEXT}",  # noqa: S608
    "alert_event": f"SELECT {DELIVERY} FROM alert_event {_NEXT}",  # noqa: S608
}
_AT_ONCE = {"audit_event": 128, "alert_event": 8}
"""Records read by one statement. A delivery holds a whole body, of which not many shall be in memory."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A seal that is ready to be written."""

    number: int
    first: int
    at: Instant
    algorithm: str
    upto: int
    count: int
    items: bytes
    previous: str
    hash: str


def head(tx: Tx) -> str:
    """The chain's last hash; "" while there is none."""
    row = tx.one(_HEAD)
    return "" if row is None else str(row[8])


def upto(tx: Tx) -> int:
    """The id up to which every record is sealed; -1 while there is none."""
    row = tx.one(_HEAD)
    return -1 if row is None else int(row[5])


def digest(tx: Tx, source: str, id: int) -> str | None:
    """The digest of a record as it is stored now; None if there is no such record."""
    if source == "audit_event":
        row = tx.one(_EVENT, {"id": id})
        return None if row is None else seal.digest(raw(row[0]))
    row = tx.one(_DELIVERY, {"id": id})
    return None if row is None else seal.delivery_digest(row[:8], raw(row[8]))


def raw(value: object) -> bytes:
    """A stored body as bytes, also where someone has put something else in its place."""
    return bytes(value) if isinstance(value, (bytes, memoryview)) else str(value).encode(errors="replace")


def prepare(tx: Tx, key: bytes | None, limit: int, settled: int = EVERY) -> Sealed | None:
    """The next seal, over at most `limit` records; None if there is nothing to seal.

    Args:
        settled: no record with an id up to this one is still to be committed; later ones wait.

    The first seal with a key may be empty: it vouches for a chain that had none.
    """
    last = tx.one(_HEAD)
    done = -1 if last is None else last[5]
    records = heapq.merge(*(_unsealed(tx, source, done, settled) for source in SOURCES), key=itemgetter(1))
    items = tuple(islice(records, limit))
    algorithm = seal.algorithm(key)
    if not items and (last is None or last[4] == algorithm or key is None):
        return None
    return _seal(tx.now, last, items, items[-1][1] if items else done, algorithm, key)


def _unsealed(tx: Tx, source: str, done: int, settled: int) -> Iterator[seal.Item]:
    """The digests of what came after the record `done`, in order."""
    most = _AT_ONCE[source]
    while rows := tx.all(_UNSEALED[source], {"upto": done, "settled": settled, "limit": most}):
        for row in rows:
            body = raw(row[-1])
            found = seal.digest(body) if source == "audit_event" else seal.delivery_digest(row[:8], body)
            yield source, row[0], found
        if len(rows) < most:
            return
        done = rows[-1][0]


def write(tx: Tx, sealed: Sealed) -> None:
    """Append a seal. Another sealer's seal with the same predecessor excludes it."""
    tx.run(
        _INSERT,
        {
            "id": sealed.number,
            "first": sealed.first,
            "count": sealed.count,
            "at": sealed.at,
            "algorithm": sealed.algorithm,
            "upto": sealed.upto,
            "items": sealed.items,
            "previous": sealed.previous,
            "hash": sealed.hash,
        },
    )


def _seal(
    now: Instant, last: Row | None, items: tuple[seal.Item, ...], upto: int, algorithm: str, key: bytes | None
) -> Sealed:
    number = 1 if last is None else last[0] + 1
    first = 1 if last is None else last[1] + last[2]
    previous = seal.GENESIS if last is None else last[8]
    packed = seal.pack(items)
    hash = seal.link(
        number=number,
        first=first,
        count=len(items),
        at=now,
        upto=upto,
        algorithm=algorithm,
        items=packed,
        previous=previous,
        key=key,
    )
    return Sealed(number, first, now, algorithm, upto, len(items), packed, previous, hash)
