"""How a database is opened, trusted, watched and let go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remediator.contracts import Clock, Hint, Receiver, SteadyTime
from remediator.errors import ConfigurationError, StoreError, StoreUnavailable
from remediator.model import Instant
from remediator.store import moved, rewind
from remediator.store.limits import Limits
from remediator.store.postgres import admits as postgres_admits
from remediator.store.postgres import clock as postgres_clock
from remediator.store.postgres import moves as postgres_moves
from remediator.store.postgres import schema as postgres_schema
from remediator.store.postgres.claims import Held, Sending
from remediator.store.postgres.clock import ServerClock
from remediator.store.postgres.hints import Hints
from remediator.store.postgres.intake import IntakeLane, Taking
from remediator.store.postgres.lane import Lane
from remediator.store.postgres.link import Changed, Link, Server, tell
from remediator.store.postgres.looks import Looks
from remediator.store.postgres.pool import Pool, nothing
from remediator.store.postgres.seen import Seen, SharedHistory
from remediator.store.postgres.tx import PostgresTx
from remediator.store.postgres.watch import Watch
from remediator.store.sql import SqlStore
from remediator.store.tx import BRAKES, Tx, insert

_THREADS = 6
_JOIN = 4.0
"""Seconds within which a replica that is alive has noticed a jump of the server's clock, and written it."""
_JOINING = 0.1
"""Seconds between two tries to join them."""
_REMEMBER = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"
_REMEMBERED = "SELECT value FROM meta WHERE key = 'server'"


class PostgresOpening(SqlStore):
    """Opens the database, starts the threads that work on it, and ends them.

    Args:
        address: `postgresql://…`, as libpq reads it.
        clock: None for the database's own.
    """

    def __init__(
        self,
        address: str,
        clock: Clock | None,
        receivers: Mapping[str, Receiver],
        *,
        read_only: bool,
        seal_key: bytes | None,
        limits: Limits,
    ) -> None:
        self._address = address
        self._clock = clock
        self._server_clock = ServerClock() if clock is None and not read_only else None
        self._read_only = read_only
        self._key = seal_key
        self._limits = limits
        self._seen = Seen()
        self._history = SharedHistory(receivers, self._seen)
        self._held = Held()
        self._sending = Sending()
        self._server: Server | None = None
        self._fatal: StoreUnavailable | None = None
        self._hints: Hints | None = None
        self._told: Callable[[Hint], None] | None = None
        self._waiting: dict[asyncio.Future[Any], tuple[float, float]] = {}
        """Calls that wait: since when they may be given up if the server is silent, and in any case."""
        self._ticking = False
        self._closed = "is not open yet"
        self.unwritable: Exception | None = None
        """As described in `contracts.Store`."""

    @property
    def fatal(self) -> StoreUnavailable | None:
        """Why this store answers nothing any more until it is opened anew; None if all is well: the
        database is another one than it was, or no longer keeps what it says."""
        return self._fatal

    @property
    def steady(self) -> SteadyTime | None:
        """As described in `contracts.Store`: None where somebody drives the clock."""
        return self._server_clock

    def hints(self, told: Callable[[Hint], None]) -> None:
        self._told = told

    async def open(self) -> None:
        """Reach the server, check that it can be trusted, make or migrate the tables.

        A database that went on elsewhere since the last time (a standby took over, a backup was put
        back) is opened paused: what was committed last may be missing from it.

        Raises:
            ConfigurationError: the address, the server's settings or the schema cannot be used.
            StoreUnavailable: the server cannot be reached.
        """
        await asyncio.to_thread(self._open)
        if not self._read_only:
            self._hints = Hints(self._link, self._teller())
            self._hints.start()
        self._pool = Pool(self._link, self._spoiled, _THREADS, "store")
        self._moves = Lane(
            self._link, self._spoiled, self._pool, "store-moves", postgres_moves.together, apart=False
        )
        self._admits = Lane(
            self._link,
            self._spoiled,
            self._pool,
            "store-admits",
            lambda tx, items: postgres_admits.together(tx, items, self._lease(tx)),
            locks=(BRAKES,),
            apart=True,
        )
        self._looks = Looks(self._intake_link, self._spoiled, self._pool)
        self._looks.start()
        self._moves.start()
        self._admits.start()
        self._lane = IntakeLane(self._answerer(), self._intake_link, self._spoiled, self._limits, self._seen)
        self._watch = Watch(
            self._link,
            self._spoiled,
            self._seen,
            self._held,
            self._limits,
            None if self._read_only else self._clock,
            self._server_clock,
            beats=not self._read_only,
        )
        self._lane.start()
        self._watch.start()
        self._closed = ""

    def _open(self) -> None:
        link = Link(
            self._address,
            self._limits,
            self._clock,
            seconds=self._limits.write,
            read_only=self._read_only,
        )
        try:
            self._server = link.server
            if self._read_only:
                postgres_schema.must_be_current(link.connection)
            else:
                postgres_schema.bring_up_to_date(link.connection)
                link.close()
                link = self._link()
                link.write(self._recognise, nothing, nothing)
                if self._server_clock is not None:
                    self._join(link, self._server_clock)
            link.tx.begin(read_only=True)
            self._seen.opened_at = link.tx.now
        except BaseException as error:
            told = tell(error)
            if told is error:
                raise
            raise told from error
        finally:
            link.close()

    def _join(self, link: Link, clock: ServerClock) -> None:
        """Live by the server's clock. Where nobody has noted lately that he does so, it may have jumped a
        moment ago: who was there before has the time to write that, and to move timers, before this one acts.
        """
        end = time.monotonic() + _JOIN
        joined = False
        while not joined:
            alone = time.monotonic() > end
            joined = link.write(
                lambda tx, alone=alone: postgres_clock.joins(tx, alone),  # type: ignore[misc]
                nothing,
                nothing,
                alone=alone,
            )
            if not joined:
                time.sleep(_JOINING)
        clock.joined()

    def _recognise(self, tx: PostgresTx) -> None:
        moved.refuse(tx)
        tx.lock("recognise")
        server = self._server
        assert server is not None
        row = tx.one(_REMEMBERED)
        now = f"{server.system}:{server.timeline}"
        if row is not None and row[0] == now:
            return
        tx.run(_REMEMBER, {"key": "server", "value": now})
        if row is None:
            return
        before = Server(*row[0].split(":"))
        if before.same_as_far_as_known(server):
            return
        rewind.pause(tx, f"the database was {before} and is {server}", {"before": row[0], "now": now})

    async def close(self) -> None:
        """Write what is queued, hand back what is claimed, and let go."""
        if self._closed:
            self._closed = "is closed"
            return
        if not self._read_only and self._fatal is None:
            with contextlib.suppress(StoreError):
                await self._write(self._hand_over, self._limits.intake)
        self._closed = "is closed"
        await asyncio.to_thread(self._let_go)

    def _hand_over(self, tx: Tx) -> None:
        raise NotImplementedError

    def _let_go(self) -> None:
        self._lane.stop()
        self._looks.stop()
        self._moves.stop()
        self._admits.stop()
        self._watch.stop()
        self._pool.close()
        if self._hints is not None:
            self._hints.stop()

    def _teller(self) -> Callable[[Hint], None]:
        loop, told = asyncio.get_running_loop(), self._told

        def tell_loop(hint: Hint) -> None:
            if told is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    loop.call_soon_threadsafe(told, hint)

        return tell_loop

    def _answerer(self) -> Callable[[Sequence[Taking]], None]:
        loop = asyncio.get_running_loop()

        def answered(group: Sequence[Taking]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_answer, group)

        return answered

    def _link(self) -> Link:
        return self._connect(self._limits.write)

    def _intake_link(self) -> Link:
        return self._connect(self._limits.intake)

    def _connect(self, seconds: float) -> Link:
        if self._fatal is not None:
            raise StoreUnavailable(str(self._fatal))
        try:
            link = Link(
                self._address,
                self._limits,
                self._clock,
                seconds=seconds,
                expected=self._server,
                read_only=self._read_only,
                server_clock=self._server_clock,
            )
            if self._hints is not None:
                link.hinted = self._hints.send
            return link
        except Changed as changed:
            self._spoiled(str(changed))
            raise StoreUnavailable(str(changed)) from changed

    def _spoiled(self, why: str) -> None:
        self._fatal = StoreUnavailable(why)

    def _lease(self, tx: Tx) -> Instant:
        return Instant(tx.now + self._limits.lease)


def _answer(group: Sequence[Taking]) -> None:
    for taking in group:
        resolve(taking.promise, taking.answer, taking.error)


def resolve(promise: asyncio.Future[Any], answer: object, error: BaseException | None) -> None:
    """Keep a promise, unless nobody waits for it any more."""
    if promise.done():
        return
    if error is not None:
        promise.set_exception(error)
    else:
        promise.set_result(answer)


def check_driver() -> None:
    """Raise ConfigurationError where the driver is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "store.url: PostgreSQL needs its driver: pip install 'remediator[postgres]'"
        ) from error
