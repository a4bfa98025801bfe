"""One connection to PostgreSQL: made with time limits, refused when the server cannot be trusted,
and its errors told apart by what they say about the transaction."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from remediator.contracts import Clock, Hint
from remediator.errors import ConfigurationError, Conflict, StoreError, StoreUnavailable
from remediator.store.limits import Limits
from remediator.store.postgres.clock import ServerClock
from remediator.store.postgres.tx import PostgresTx

if TYPE_CHECKING:
    import psycopg

    from remediator.store.tx import Row

T = TypeVar("T")
OLDEST = 130_000
"""PostgreSQL 13."""
_CONNECT = 2
_IDLE_IN_TRANSACTION = 3.0
"""Seconds after which the server ends the transaction of a process that was stopped in the middle
of it, so that what it has locked becomes free."""
_MUST_BE_ON = {
    "fsync": "a crash of the server would lose or damage what was answered as kept",
    "synchronous_commit": "a crash of the server would lose what was answered as kept",
    "full_page_writes": "a crash of the server could leave torn pages",
}
PULSE = """
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
  CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
  current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')
"""
# Bodies are most of what is written, and are kept compressed. In a third of the time, to the same size, if
# the server can (PostgreSQL 14, built with lz4).
_COMPRESS = """
SELECT set_config(name, 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)
"""
_WHO = """
SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()),
  current_setting('server_version_num')::int,
  current_setting('server_version'), current_setting('server_encoding')
FROM pg_control_system()
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Which history of which database of which cluster this is: it changes when a standby takes over,
    or when a backup is put in its place.

    Args:
        system: the cluster's identifier and the database's own number in it.
    """

    system: str
    timeline: str

    def same_as_far_as_known(self, other: Server) -> bool:
        """Whether this is the other one, or may be: schema 0001's code did not note the database's number."""
        known = other.system if "/" in self.system else other.system.partition("/")[0]
        return (self.system, self.timeline) == (known, other.timeline)

    def __str__(self) -> str:
        return f"cluster {self.system}, timeline {int(self.timeline, 16)}"


class CommitLost(Exception):
    """COMMIT was sent and nobody knows what became of it."""


class Changed(Exception):
    """The server is no longer one to write to; the message says why."""


class Link:
    """A connection and its transactions. Owned by one thread at a time.

    Args:
        seconds: how long one statement may take.
        expected: what server this must be; None for the first connection of a store.
        server_clock: what is known of the server's; None for whoever takes it as it is.

    Raises:
        ConfigurationError: the server or its settings cannot be used.
        Changed: it is another server than `expected`, or has been made unsafe since.
        StoreUnavailable: it cannot be reached.
    """

    def __init__(
        self,
        address: str,
        limits: Limits,
        clock: Clock | None,
        *,
        seconds: float,
        expected: Server | None = None,
        read_only: bool = False,
        server_clock: ServerClock | None = None,
    ) -> None:
        self.hinted: Callable[[Set[Hint]], None] = _nobody
        """Told, after a commit, what the other replicas should look at."""
        self.connection = _connect(address)
        try:
            self.server = self._prepare(limits, seconds, expected, read_only)
        except BaseException as error:
            self.connection.close()
            told = tell(error)
            if told is error:
                raise
            raise told from error
        self.tx = PostgresTx(self.connection, clock, server_clock)

    def _prepare(self, limits: Limits, seconds: float, expected: Server | None, read_only: bool) -> Server:
        connection = self.connection
        connection.execute(
            f"SET statement_timeout = {int(seconds * 1000)}; "
            f"SET lock_timeout = {int(min(seconds, limits.intake) * 900)}; "
            f"SET idle_in_transaction_session_timeout = {int(_IDLE_IN_TRANSACTION * 1000)}; "
            f"SET default_transaction_read_only = {'on' if read_only else 'off'}; "
            "SET default_transaction_isolation = 'read committed'",
            prepare=False,
        )
        connection.execute(_COMPRESS, prepare=False)
        who = connection.execute(_WHO).fetchone()
        assert who is not None
        system, number, version, encoding = who
        if number < OLDEST:
            raise ConfigurationError(
                f"store.url: the server is PostgreSQL {version}; 13 or newer is needed: upgrade it"
            )
        if encoding != "UTF8":
            raise ConfigurationError(
                f"store.url: the database's encoding is {encoding}, only UTF8 can hold every alert: "
                "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )
        return self.check_pulse(system, expected)[0]

    def check_pulse(self, system: str, expected: Server | None) -> tuple[Server, int]:
        """Ask the server who it is and whether it keeps what it says; returns that and its clock.

        Raises:
            ConfigurationError, Changed: as for the class.
            StoreUnavailable: it is a standby.
        """
        pulse = self.connection.execute(PULSE).fetchone()
        assert pulse is not None
        now, timeline, *settings = pulse
        if not timeline:
            raise StoreUnavailable(
                "the server is a standby, which takes no writes: let store.url name the primary "
                "(target_session_attrs=read-write finds it among several hosts)"
            )
        for (name, why), value in zip(_MUST_BE_ON.items(), settings, strict=True):
            if value == "off":
                said = f"the server runs with {name} = off: {why}; set {name} = on"
                raise ConfigurationError(f"store.url: {said}") if expected is None else Changed(said)
        server = Server(system, timeline)
        if expected is not None and server != expected:
            raise Changed(
                f"the database was {expected} and is {server}: a standby took over or a backup was put "
                "in its place, and the latest commits may be gone"
            )
        return server, now

    @property
    def usable(self) -> bool:
        return not self.connection.closed and not self.connection.broken

    def write(
        self,
        work: Callable[[PostgresTx], T],
        before: Callable[[], None],
        after: Callable[[], None],
        *,
        alone: bool = False,
        locks: Sequence[str] = (),
    ) -> T:
        """One transaction.

        Args:
            alone, locks: as for `PostgresTx.begin`.
            before: called when all is written, before COMMIT; what it raises undoes the work.
            after: called after COMMIT.

        Raises:
            CommitLost: COMMIT was sent, and no answer came.
            psycopg.Error: rolled back, or the connection is gone before COMMIT, which is the same.
        """
        tx = self.tx
        try:
            tx.begin(alone=alone, locks=locks)
            answer = work(tx)
            tx.flush()
            before()
        except BaseException:
            self.roll_back()
            raise
        try:
            self.commit()
        finally:  # also where nobody knows whether it was committed: it is only a hint
            if tx.hinted:
                self.hinted(tx.hinted)
        after()
        return answer

    def read(self, work: Callable[[PostgresTx], T]) -> T:
        """One snapshot."""
        try:
            self.tx.begin(read_only=True)
            return work(self.tx)
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        """Undo what is under way. Where that fails the connection is given up, which undoes it too."""
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        try:
            if self.usable and self.connection.info.transaction_status is not TransactionStatus.IDLE:
                self.connection.execute("ROLLBACK")
        except Error:
            self.close()

    def close(self) -> None:
        from psycopg import Error

        with contextlib.suppress(Error):
            self.connection.close()

    def commit(self) -> None:
        """Commit.

        Raises:
            CommitLost: no answer came.
            psycopg.Error: the server says that it has rolled back.
        """
        from psycopg import Error

        try:
            self.connection.execute("COMMIT")
        except Error as error:
            # With these classes the server says itself that it has rolled back.
            if self.usable and (error.sqlstate or "")[:2] in ("23", "40"):
                self.roll_back()
                raise
            self.close()
            raise CommitLost from error


def _nobody(hinted: Set[Hint]) -> None:
    """Nobody listens."""


def again(error: BaseException) -> bool:
    """Whether the transaction is provably undone and may well succeed when it is tried again."""
    from psycopg import OperationalError, errors

    if isinstance(error, errors.UniqueViolation | errors.SerializationFailure | errors.DeadlockDetected):
        return True
    gone = isinstance(error, OperationalError | errors.IdleInTransactionSessionTimeout)
    return gone and not isinstance(
        error, errors.QueryCanceled | errors.LockNotAvailable | errors.InsufficientResources
    )


def tell(error: BaseException) -> BaseException:
    """What psycopg raised, as one of our errors; any other error as it is."""
    import psycopg
    from psycopg import errors

    if not isinstance(error, psycopg.Error):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, psycopg.IntegrityError):
        return Conflict(f"the store holds something that excludes this: {text}")
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreUnavailable(f"PostgreSQL: {text}: grant the daemon's role what it needs")
    if isinstance(error, errors.DiskFull):
        return StoreUnavailable(f"PostgreSQL: {text}: free space on the server")
    if isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError):
        return StoreError(f"this cannot be stored: {text}")
    return StoreUnavailable(f"PostgreSQL: {text}: look at the server and at store.url")


def _connect(address: str) -> psycopg.Connection[Row]:
    import psycopg
    from psycopg.types.numeric import Int8Dumper
    from psycopg.types.string import StrDumperUnknown

    class Text(StrDumperUnknown):
        """PostgreSQL's text holds no NUL; a label that does must not keep an alert out."""

        def dump(self, obj: Any) -> Any:
            return (obj.replace("\0", "\ufffd") if "\0" in obj else obj).encode()

    try:
        connection = psycopg.connect(
            address,
            autocommit=True,
            connect_timeout=_CONNECT,
            application_name="remediator",
            client_encoding="UTF8",
            keepalives_idle=5,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=4_000,
        )
    except psycopg.ProgrammingError as error:
        why = str(error).strip()
        if not why.startswith("invalid URI query parameter"):
            # The driver cites the part that it could not read, and that may be the password.
            why = re.sub(r'".*"', "***", why, flags=re.DOTALL)
        raise ConfigurationError(
            f"store.url: not an address of PostgreSQL ({why}); "
            "write postgresql://user:password@host:5432/database, and in the password %20 for a space"
        ) from None
    except psycopg.Error as error:
        raise tell(error) from error
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(str, Text)
    return connection
