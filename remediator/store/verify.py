"""Recomputes the whole chain and every record in it. Reads only."""

from __future__ import annotations

import hmac

import msgspec

from remediator.audit import seal
from remediator.contracts import SealReport
from remediator.store import pruned, sealing, trail
from remediator.store.pruned import Pruned
from remediator.store.sealing import SEAL, SOURCES
from remediator.store.tx import Row, Tx

_SEALS = f"SELECT {SEAL} FROM audit_seal WHERE id > :after ORDER BY id LIMIT 100"  # noqa: S608
_EVENT = f"SELECT {trail.COLUMNS} FROM audit_event WHERE id = :id"  # noqa: S608
_UPTO = {source: f"SELECT COUNT(*) FROM {source} WHERE id <= :high" for source in SOURCES}  # noqa: S608
_COUNT = {source: f"SELECT COUNT(*) FROM {source} WHERE id > :low AND id <= :high" for source in SOURCES}  # noqa: S608
_IDS = {
    source: f"SELECT id FROM {source} WHERE id <= :high ORDER BY id"  # noqa: S608
    for source in SOURCES
}
_LAST = {source: f"SELECT MAX(id) FROM {source}" for source in SOURCES}  # noqa: S608


class _Walk:
    """Goes along the chain once and collects what is wrong."""

    def __init__(self, tx: Tx, key: bytes | None, head: str | None) -> None:
        self.tx = tx
        self.key = key
        self.gone: Pruned = pruned.last(tx)
        self.previous = self.gone.hash
        self.number = self.gone.seal
        self.first = self.gone.first
        self.upto = self.gone.upto
        self.keyed = False
        self.wanted = head
        self.found = head is None or head == self.previous
        self.sealed = 0
        self.present = dict.fromkeys(SOURCES, 0)
        self.missing: list[str] = []
        self.changed: list[str] = []
        self.broken: list[int] = []

    def seal(self, row: Row) -> None:
        number, first, count, at, algorithm, upto, packed, previous, hash = row
        numbers = (first, count, at, upto)
        if not all(isinstance(one, int) for one in numbers) or not isinstance(hash, str):
            self.broken.append(number)
            return
        items = _items(packed)
        whole = (
            number == self.number + 1
            and first == self.first
            and count == len(items)
            and upto >= self.upto
            and previous == self.previous
            and self._hash_holds(row)
        )
        if not whole:
            self.broken.append(number)
        for source, id, digest in items:
            self.record(source, id, digest)
        self.previous, self.number, self.first = hash, number, first + count
        self.upto = max(upto, self.upto)
        self.found = self.found or hash == self.wanted
        self.keyed = self.keyed or algorithm == seal.KEYED

    def _hash_holds(self, row: Row) -> bool:
        number, first, count, at, algorithm, upto, packed, previous, hash = row
        if self.key is not None and self.keyed and algorithm != seal.KEYED:
            return False  # a chain that has a key does not lose it again
        try:
            computed = seal.link(
                number=number,
                first=first,
                count=count,
                at=at,
                upto=upto,
                algorithm=algorithm,
                items=sealing.raw(packed),
                previous=previous,
                key=self.key,
            )
        except ValueError:
            return False
        return hmac.compare_digest(computed, hash)

    def record(self, source: str, id: int, digest: str) -> None:
        self.sealed += 1
        stored = sealing.digest(self.tx, source, id) if source in SOURCES else None
        if stored is None:
            if not self.gone.has(source, id):
                self.missing.append(f"{source}:{id}")
            return
        self.present[source] += 1
        if stored != digest or not self._columns_hold(source, id):
            self.changed.append(f"{source}:{id}")

    def _columns_hold(self, source: str, id: int) -> bool:
        if source != "audit_event":
            return True  # its columns are in its digest
        row = self.tx.one(_EVENT, {"id": id})
        return row is not None and trail.true_to_body(row)

    def smuggled(self) -> None:
        """Records before or between the sealed ones that no seal knows were put there afterwards."""
        for source in SOURCES:
            span = {"high": self.upto}
            counted = self.tx.one(_UPTO[source], span)
            if counted is None or counted[0] == self.present[source]:
                continue
            known = self._known_ids(source)
            self.changed += [f"{source}:{id}" for (id,) in self.tx.all(_IDS[source], span) if id not in known]

    def _known_ids(self, source: str) -> set[int]:
        known: set[int] = set()
        for row in _rows(self.tx, self.gone.seal):
            known.update(id for of, id, _ in _items(row[6]) if of == source)
        return known

    def unsealed(self) -> int:
        found = 0
        for source in SOURCES:
            last = self.tx.one(_LAST[source])
            high = last[0] if last is not None and last[0] is not None else -1
            counted = self.tx.one(_COUNT[source], {"low": self.upto, "high": high})
            found += counted[0] if counted is not None else 0
        return found


def _items(packed: object) -> tuple[seal.Item, ...]:
    try:
        return seal.unpack(sealing.raw(packed))
    except msgspec.DecodeError:
        return ()


def _rows(tx: Tx, after: int) -> list[Row]:
    found: list[Row] = []
    while batch := tx.all(_SEALS, {"after": after}):
        found += batch
        after = batch[-1][0]
    return found


def verify(tx: Tx, key: bytes | None, head: str | None) -> SealReport:
    """Check everything.

    Args:
        key: the chain's key. With one, the chain must end keyed.
        head: a hash that was noted outside; if it is no longer in the chain, the tail was cut.
    """
    walk = _Walk(tx, key, head)
    after = walk.number
    while batch := tx.all(_SEALS, {"after": after}):
        for row in batch:
            walk.seal(row)
        after = batch[-1][0]
    if key is not None and walk.number > walk.gone.seal and not walk.keyed:
        walk.broken.append(walk.number)
    walk.smuggled()
    return SealReport(
        sealed=walk.sealed,
        unsealed=walk.unsealed(),
        missing=tuple(walk.missing),
        changed=tuple(dict.fromkeys(walk.changed)),
        broken=tuple(walk.broken),
        head=walk.previous,
        head_found=walk.found,
    )
