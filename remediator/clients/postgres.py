"""A PostgreSQL database: short statements, each on a connection of its own."""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from remediator.errors import ActionError, Ambiguous, Permanent, Temporary
from remediator.model import Target

if TYPE_CHECKING:
    import psycopg

    from remediator.settings import PostgresConnection

Row = dict[str, Any]

APPLICATION = "remediator"
"""Every session of remediator carries a name that starts with this."""

OPTIONS = "-c datestyle=ISO -c timezone=UTC"
"""Makes `timestamptz::text` exact and the same everywhere: microseconds, +00."""

FULL = ("connection slots", "too many clients", "too many connections")
"""What a server without a free slot says (a failed login carries no SQLSTATE)."""
LOGIN = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied", "permitted")
"""What a server says that will refuse this login until a person changes something."""

IDENTITY = "SELECT system_identifier::text AS system, current_database() AS database FROM pg_control_system()"
# Some managed services (Aurora) do not let pg_control_system() be called. The address that the server
# itself sees is then the best that every alias of it shares.
FALLBACK = """
SELECT coalesce(host(inet_server_addr()), 'socket') || ':' || current_setting('port') AS system,
       current_database() AS database
"""


class PostgresClient:
    """Reads and changes of one database.

    The connection of the last successful call is kept as a spare. It is used only while the server has
    no free slot for a new one: a full pool is when this client is needed most.

    Connect to the server itself, not through a pooler in transaction mode: its sessions are not ours.
    """

    def __init__(self, name: str, settings: PostgresConnection) -> None:
        self.name = name
        self._settings = settings
        self._spare: psycopg.Connection[Row] | None = None
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def connect(cls, name: str, settings: PostgresConnection) -> Self:
        """Make the client; the database is reached with the first statement.

        Raises:
            ImportError: psycopg is not installed.
        """
        import psycopg  # noqa: F401

        return cls(name, settings)

    def read(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement that changes nothing and return its rows.

        Raises:
            Temporary: out of reach, overloaded, too slow.
            Permanent: login refused, permission denied, no such thing.
        """
        import psycopg

        with self._connection() as connection:
            try:
                return self._run(connection, sql, params)
            except psycopg.Error as error:
                raise self._reading_failed(error) from error

    def change(
        self, sql: str, params: Mapping[str, Any] | None = None, *, undone_by_error: bool = True
    ) -> list[Row]:
        """Run one statement that changes something, in a transaction of its own; return its rows.

        Args:
            undone_by_error: whether an error of the server takes back everything the statement did.
                False for functions whose effect no rollback takes back (signals to other sessions).

        Raises:
            Temporary, Permanent: provably nothing was changed.
            Ambiguous: the statement was sent and its answer is lost or does not tell.
        """
        import psycopg

        with self._connection() as connection:
            try:
                return self._run(connection, sql, params)
            except psycopg.Error as error:
                severity = error.diag.severity_nonlocalized
                if undone_by_error and severity == "ERROR":  # rolled back; FATAL ends the session instead
                    raise self._reading_failed(error) from error
                raise Ambiguous(f"{self._said(error)} after the change was sent") from error

    def identity(self) -> str:
        """The system identifier and the database: `7310432460709892402/orders`.

        `pg_control_system()` may be called by everyone unless it was revoked. Where it cannot be, the
        address that the server itself has stands in: `10.0.3.7:5432/orders`.
        """
        try:
            row = self.read(IDENTITY)[0]
        except Permanent:
            row = self.read(FALLBACK)[0]
        return f"{row['system']}/{row['database']}"

    def target(self) -> Target:
        """The database as the target of an action."""
        return Target(name=f"postgres:{self.name}", key=f"postgres:{self.identity()}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    # ------------------------------------------------------------ connections

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Row]]:
        connection = self._open()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            former, self._spare = (connection, None) if self._closed else (self._spare, connection)
        if former is not None:
            former.close()

    def _open(self) -> psycopg.Connection[Row]:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
        from psycopg.rows import dict_row

        settings = self._settings
        try:
            arguments: dict[str, Any] = conninfo_to_dict(settings.dsn)
        except psycopg.Error:  # its message repeats the DSN, which may hold a password
            raise Permanent(
                f"postgres:{self.name}: the dsn of this connection cannot be read; write it as "
                "postgresql://user@host:port/database"
            ) from None
        if settings.password is not None:
            arguments["password"] = settings.password.get_secret_value()
        arguments |= {
            "connect_timeout": max(2, math.ceil(settings.timeout)),
            "application_name": APPLICATION,
            # Else a database in SQL_ASCII hands out bytes for texts, and its identity is another one.
            "client_encoding": "UTF8",
            "options": f"{arguments.get('options', '')} {OPTIONS} "
            f"-c statement_timeout={math.ceil(settings.timeout * 1000)}".strip(),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        try:
            return psycopg.Connection[Row].connect(
                **arguments, autocommit=True, prepare_threshold=None, row_factory=dict_row
            )
        except psycopg.Error as error:
            return self._instead(self._connecting_failed(error), str(error))

    def _instead(self, failure: ActionError, said: str) -> psycopg.Connection[Row]:
        """The spare connection, if the server is full and the spare is alive; else the failure."""
        import psycopg

        if not any(text in said for text in FULL):
            raise failure
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is None:
            raise failure
        try:
            self._run(spare, "SELECT 1", None)
        except psycopg.Error:
            spare.close()
            raise failure from None
        return spare

    def _run(
        self, connection: psycopg.Connection[Row], sql: str, params: Mapping[str, Any] | None
    ) -> list[Row]:
        with _cut_after(connection, self._settings.timeout + 1):
            # The text is this package's own; whatever comes from outside is in params.
            return connection.execute(sql, params).fetchall()  # type: ignore[arg-type, unused-ignore]

    # ------------------------------------------------------------ errors

    def _connecting_failed(self, error: psycopg.Error) -> ActionError:
        said = str(error).strip().splitlines()[0]
        if any(text in said for text in FULL):
            return Temporary(
                f"postgres:{self.name}: the server has no free slot for remediator itself ({said}); from "
                "PostgreSQL 16 on, set reserved_connections and GRANT pg_use_reserved_connections to its role"
            )
        kind = Permanent if any(text in said for text in LOGIN) else Temporary
        return kind(f"postgres:{self.name}: {said}")

    def _reading_failed(self, error: psycopg.Error) -> ActionError:
        # Classes of SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html: connection,
        # rolled back by the server, resources, locks, operator or time-out, system.
        passing = error.sqlstate is None or error.sqlstate[:2] in ("08", "40", "53", "55", "57", "58")
        return (Temporary if passing else Permanent)(self._said(error))

    def _said(self, error: psycopg.Error) -> str:
        text = error.diag.message_primary or (str(error).strip().splitlines() or ["no answer"])[0]
        code = f" ({error.sqlstate})" if error.sqlstate else ""
        return f"postgres:{self.name}: {text}{code}"


@contextmanager
def _cut_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cut the line when no answer comes: statement_timeout is kept by the server, which may itself hang."""
    line = socket.socket(fileno=os.dup(connection.fileno()))

    def cut() -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        line.close()
