"""How long the store may take, and how much it may hold."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.model import DAY, HOUR, MINUTE, SECOND, Millis

_LEASE = Millis(30 * SECOND)
_LATE = Millis(5 * MINUTE)
_CORRECTED = Millis(MINUTE)
_KEEP_INTENTS = Millis(32 * DAY)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one store. All have safe defaults; tests narrow them.

    Args:
        intake: seconds until a delivery is answered StoreUnavailable. The webhook answers 503.
        write: seconds for every other write, and for a read.
        upkeep: seconds for sealing, verifying and pruning.
        queue: calls that may wait for the writer; more are answered StoreUnavailable at once.
        lease: how long a claimed run is its worker's.
        late: a "firing" this soon after a "resolved" of the same start is a late peer's.
        corrected: another start of an open alert this soon after all about it was over is a correction of the
            first, and later than that a new episode, of whose predecessor's end nobody told.
        remember: how long an ended alert is kept in memory to recognise late deliveries.
        rejected_rows: rows kept in `rejected`, the oldest go first.
        rejected_bytes: bytes of bodies kept there.
        rejected_body: bytes kept of one body.
        wal: bytes of write-ahead log at which a checkpoint is made although there is work.
        seal_batch: records sealed by one row of `audit_seal`.
        prune_batch: rows deleted by one transaction.
        keep_intents: intents are kept this long whatever the retention of runs says, for budgets
            are counted from them.
    """

    intake: float = 2.0
    write: float = 10.0
    upkeep: float = 600.0
    queue: int = 4_096
    lease: Millis = _LEASE
    late: Millis = _LATE
    corrected: Millis = _CORRECTED
    remember: Millis = HOUR
    rejected_rows: int = 10_000
    rejected_bytes: int = 64 * 1024 * 1024
    rejected_body: int = 64 * 1024
    wal: int = 64 * 1024 * 1024
    seal_batch: int = 2_000
    prune_batch: int = 500
    keep_intents: Millis = _KEEP_INTENTS
