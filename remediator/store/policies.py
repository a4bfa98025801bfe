"""Policy sets: their texts by content hash, and which one is active."""

from __future__ import annotations

from collections.abc import Collection

from remediator.contracts import Hint, Revision
from remediator.errors import NotFound
from remediator.model import DAY, Instant
from remediator.store.rows import decode, encode
from remediator.store.tx import BRAKES, Tx, insert

_PUT = (
    insert("policy_revision", "hash, files, git, loaded_at")
    + "\nON CONFLICT (hash) DO UPDATE SET git = excluded.git, loaded_at = excluded.loaded_at"
)
_ACTIVATE = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"
_ACTIVE = "SELECT value FROM meta WHERE key = 'active'"
_LOOKED = "SELECT value FROM meta WHERE key = :key"
_FORGET_LOOKED = "DELETE FROM meta WHERE key LIKE 'looked:%' AND value < :before"
_REMEMBER = 90 * DAY
_FILES = "SELECT files FROM policy_revision"
_RUNS = "SELECT DISTINCT policy FROM run"
_ONE = "SELECT hash, files, git, loaded_at FROM policy_revision WHERE hash = :hash"


def propose(tx: Tx, revision: Revision) -> None:
    """Store a set and make it the active one."""
    tx.lock(BRAKES)
    tx.unknown("active")
    tx.run(
        _PUT,
        {
            "hash": revision.hash,
            "files": encode(revision.files),
            "git": revision.git,
            "loaded_at": tx.now,
        },
    )
    tx.run(_ACTIVATE, {"key": "active", "value": revision.hash})
    tx.hint(Hint.POLICIES)


def looked(tx: Tx, replica: str) -> str | None:
    """The hash of the set that this replica's directory held when it last looked; None if it never did."""
    row = tx.one(_LOOKED, {"key": f"looked:{replica}"})
    return None if row is None else str(row[0]).partition(" ")[2]


def look(tx: Tx, replica: str, hash: str) -> None:
    """Remember it. What replicas saw that have not been heard of for a quarter of a year is forgotten."""
    tx.run(_ACTIVATE, {"key": f"looked:{replica}", "value": f"{tx.now:016d} {hash}"})
    tx.run(_FORGET_LOOKED, {"before": f"{tx.now - _REMEMBER:016d}"})


def active(tx: Tx) -> str | None:
    """The hash of the active set; None before there is one."""
    row = tx.one(_ACTIVE)
    return None if row is None else str(row[0])


def revision(tx: Tx, hash: str) -> Revision:
    """A set by its hash.

    Raises:
        NotFound: it was never active here, or is older than its retention.
    """
    row = tx.one(_ONE, {"hash": hash})
    if row is None:
        raise NotFound(f"no policy set has the hash {hash!r}")
    return Revision(hash=row[0], files=decode(row[1]), git=row[2], loaded_at=Instant(row[3]))


def names(tx: Tx) -> Collection[str]:
    """What the files of every set that is kept are called, without their ending, and the policies of every
    run. A policy is called as its file; which files are none is not for the store to know."""
    files = {name for (texts,) in tx.all(_FILES) for name in decode(texts)}
    stems = {name.rpartition("/")[2].removesuffix(".yaml") for name in files}
    return stems | {str(name) for (name,) in tx.all(_RUNS)}
