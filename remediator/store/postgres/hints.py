"""Hints between replicas, by LISTEN and NOTIFY: that a run may be due, or that the policies may have changed.

A hint saves waiting for the next look, and nothing more: whatever is lost here (a notification, the
connection, the whole thread) is found by that look. Notifications are sent after the commit that they
are about and on a connection of their own, a few a second at most: a NOTIFY in the transaction itself
would let all transactions that have one commit one after another.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import threading
import time
from collections.abc import Callable, Set

import structlog

from remediator.contracts import LOOK, Hint
from remediator.errors import StoreUnavailable
from remediator.model import SECOND
from remediator.store.postgres.link import Changed, Link, tell

log = structlog.get_logger()

_CHANNEL = "remediator"
_PAUSE = 0.02
"""Seconds between two sendings at least."""
_RETRY = 0.5
"""Seconds before a lost connection is made anew."""


class Hints:
    """A thread that tells the other replicas and listens to them.

    Args:
        connect: makes a connection.
        told: called in this thread for each hint of another replica, and for every kind of hint when
            the connection was made anew, for something may have been missed.
    """

    def __init__(self, connect: Callable[[], Link], told: Callable[[Hint], None]) -> None:
        self._connect = connect
        self._told = told
        self._name = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._pending: set[Hint] = set()
        self._stopping = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="store-hints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, hints: Set[Hint]) -> None:
        """Tell the others soon. Called from any thread; never blocks."""
        with self._lock:
            new = not hints <= self._pending
            self._pending |= hints
        if new:
            self._poke()

    def stop(self) -> None:
        """Send what is pending, then end. Blocks."""
        self._stopping = True
        self._poke()
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been poked often enough
            os.write(self._writer, b"!")

    def _run(self) -> None:
        link: Link | None = None
        again = False
        while True:
            last = self._stopping
            try:
                if link is None or not link.usable:
                    if last:
                        break
                    link = self._connect()
                    # Its own name, so that an operator can tell it from the connections that matter.
                    link.connection.execute("SET application_name = 'remediator hints'", prepare=False)
                    link.connection.execute(f"LISTEN {_CHANNEL}", prepare=False)
                    # A commit record of nothing but a notification need not be synced.
                    link.connection.execute("SET synchronous_commit = off", prepare=False)
                    for hint in Hint if again else ():
                        self._told(hint)
                    again = True
                self._send(link)
                if last:
                    break
                self._listen(link)
            except Exception as error:
                told = tell(error)
                if not isinstance(told, StoreUnavailable | Changed):
                    log.exception("store.hints_fault")
                else:
                    log.info("store.hints_lost", error=str(told))
                if link is not None:
                    link.close()
                    link = None
                self._wait(_RETRY)
        if link is not None:
            link.close()

    def _send(self, link: Link) -> None:
        with self._lock:
            pending, self._pending = self._pending, set()
        for hint in pending:
            link.connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, f"{self._name} {hint}"))
        if pending:
            time.sleep(_PAUSE)

    def _listen(self, link: Link) -> None:
        """Wait until there is something to send or to hear, and hear it."""
        # Whether the connection is there is asked no later than whoever waits for a hint looks by himself.
        if not self._wait(LOOK / SECOND, link.connection.fileno()):
            link.connection.execute("SELECT 1")
        heard = set()
        for notification in link.connection.notifies(timeout=0):
            sender, _, hint = notification.payload.partition(" ")
            if sender != self._name and hint in set(Hint):
                heard.add(Hint(hint))
        for one in heard:
            self._told(one)

    def _wait(self, seconds: float, *files: int) -> bool:
        """Whether a file became readable, or this thread was poked, within the time."""
        ready, _, _ = select.select([self._reader, *files], [], [], seconds)
        if self._reader in ready:
            os.read(self._reader, 4096)
        return bool(ready)
