"""The watch over the server: its pulse, its clock, the leases of this replica, what it has seen.

A thread with a connection of its own, so that a busy store is not taken for a dead one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from remediator.contracts import Clock
from remediator.errors import StoreUnavailable
from remediator.model import SECOND, Instant
from remediator.store.limits import Limits
from remediator.store.postgres import clock as postgres_clock
from remediator.store.postgres import seen as postgres_seen
from remediator.store.postgres.claims import Held
from remediator.store.postgres.clock import ServerClock
from remediator.store.postgres.link import Changed, Link, tell
from remediator.store.postgres.pool import nothing
from remediator.store.postgres.seen import Seen
from remediator.store.postgres.tx import PostgresTx

log = structlog.get_logger()

_PULSE = 0.5
_SHARE = 2.0
"""Seconds between two writings of what was seen."""
_FRESH = 1.0
"""Seconds for which the server's word about the time is carried on."""
_NOTE = 5.0
"""Seconds between two notes that this process lives by the server's clock; well below a jump."""


class Watch:
    """Runs until stopped.

    Args:
        connect: makes a connection.
        changed: told when the server is no longer one to write to.
        clock: None for the database's own.
        server: what is known of that, where this process lives by it.
        beats: whether this process holds leases and sees deliveries; not where it only reads.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        changed: Callable[[str], None],
        seen: Seen,
        held: Held,
        limits: Limits,
        clock: Clock | None,
        server: ServerClock | None,
        *,
        beats: bool,
    ) -> None:
        self._connect = connect
        self._changed = changed
        self._seen = seen
        self._held = held
        self._limits = limits
        self._clock = clock
        self._server = server
        self._beats = beats
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
        self._told: tuple[float, int] = (time.monotonic(), 0)
        self._next_beat = 0.0
        self._next_share = 0.0
        self._next_note = 0.0
        self._away = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Share what is left, then end. Blocks."""
        self._stopping.set()
        self._thread.join()

    @property
    def silent(self) -> float:
        """Seconds since the server's last word."""
        return time.monotonic() - self._told[0]

    def now(self) -> Instant | None:
        """The server's clock; None if it has said nothing lately."""
        at, said = self._told
        gone = time.monotonic() - at
        if not said or gone >= _FRESH:
            return None
        return self._server.now() if self._server is not None else Instant(said + int(gone * SECOND))

    def _run(self) -> None:
        link: Link | None = None
        last = False
        while not last:
            last = self._stopping.is_set()
            try:
                if link is None or not link.usable:
                    link = self._connect()
                self._turn(link, last)
                if self._away:
                    self._away = False
                    log.info("store.back")
            except Exception as error:
                if isinstance(error, Changed):
                    self._changed(str(error))
                told = tell(error)
                if not isinstance(told, StoreUnavailable | Changed):
                    log.exception("store.watch_fault")
                elif not self._away:
                    self._away = True
                    log.warning("store.away", error=str(told))
                if link is not None:
                    link.roll_back()
            self._stopping.wait(_PULSE)
        if link is not None:
            link.close()

    def _turn(self, link: Link, last: bool) -> None:
        asked = time.monotonic()
        _, now = link.check_pulse(link.server.system, link.server)
        if self._server is not None:
            link.read(lambda tx: None)  # whoever begins looks at the clock
        answered = time.monotonic()
        self._told = ((asked + answered) / 2, now)
        if not self._beats:
            return
        if answered >= self._next_beat:
            lease = self._limits.lease
            if self._clock is None:  # a driven clock's leases end when its driver says so
                link.write(lambda tx: self._held.beat(tx, lease, answered), nothing, nothing)
            self._next_beat = answered + lease / SECOND / 3
        if self._server is not None and answered >= self._next_note:
            link.write(_live, nothing, nothing)
            self._next_note = answered + _NOTE
        taken = self._seen.take() if last or answered >= self._next_share else {}
        if taken:
            link.write(lambda tx: postgres_seen.put(tx, taken), nothing, nothing)
            self._seen.shared(taken)
            self._next_share = answered + _SHARE


def _live(tx: PostgresTx) -> None:
    if tx.now == tx.wall:  # else the clock has jumped, and who finds that so writes it
        postgres_clock.put(tx)
