"""The PostgreSQL client's connections and errors, against a real server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from pydantic import SecretStr

from remediator.clients.postgres import PostgresClient
from remediator.errors import Ambiguous, Permanent, Temporary
from remediator.settings import PostgresConnection
from tests.servers.ports import free_port
from tests.servers.postgres import Postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres(max_connections=8, settings={"fsync": "off"}) as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
            admin.execute("CREATE ROLE plain LOGIN PASSWORD 'hunter2'")
            admin.execute("CREATE DATABASE orders")
            admin.execute("CREATE TABLE flag (name text PRIMARY KEY)")
        yield server


@contextmanager
def client(dsn: str, password: str | None = None, timeout: float = 2) -> Iterator[PostgresClient]:
    settings = PostgresConnection(
        dsn=dsn, password=SecretStr(password) if password else None, timeout=timeout
    )
    made = PostgresClient.connect("orders", settings)
    try:
        yield made
    finally:
        made.close()


def test_identity_is_the_servers_own_and_the_database(server: Postgres) -> None:
    with psycopg.connect(server.superuser_dsn) as admin:
        (system,) = admin.execute("SELECT system_identifier FROM pg_control_system()").fetchone() or ("",)
    with client(server.dsn("plain", "orders")) as orders, client(server.dsn("plain")) as other:
        assert orders.identity() == f"{system}/orders"
        assert orders.target().key == f"postgres:{system}/orders"
        assert other.identity() == f"{system}/postgres"


def test_texts_are_texts_in_a_database_without_an_encoding(server: Postgres) -> None:
    with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
        (system,) = admin.execute("SELECT system_identifier FROM pg_control_system()").fetchone() or ("",)
        admin.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    with client(server.dsn("plain", "bytes")) as plain:
        assert plain.identity() == f"{system}/bytes"
        with pytest.raises(Permanent, match="invalid byte sequence"):
            plain.read("SELECT chr(233)::text AS text")


def test_identity_without_the_control_file_is_the_servers_address(server: Postgres) -> None:
    with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            with client(server.dsn("plain")) as plain:
                assert plain.identity() == f"127.0.0.1:{server.port}/postgres"
        finally:
            admin.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")


def test_nobody_listening_is_temporary() -> None:
    with client(f"postgresql://plain@127.0.0.1:{free_port()}/orders") as gone:
        with pytest.raises(Temporary, match=r"postgres:orders: .*refused"):
            gone.change("SELECT 1")


def test_no_such_database_is_permanent(server: Postgres) -> None:
    with client(server.dsn("plain", "nowhere")) as gone:
        with pytest.raises(Permanent, match='database "nowhere" does not exist'):
            gone.read("SELECT 1")


def test_an_unreadable_dsn_does_not_repeat_its_password() -> None:
    with client("postgresql://u:hunter2@h:port:1/x?nonsense=1", password="hunter3") as broken:
        with pytest.raises(Permanent, match="cannot be read; write it as postgresql://") as raised:
            broken.read("SELECT 1")
    assert "hunter" not in str(raised.value)
    assert "hunter" not in repr(vars(broken))
    assert raised.value.__suppress_context__


def test_permission_denied_and_bad_sql_are_permanent(server: Postgres) -> None:
    with client(server.dsn("plain")) as plain:
        with pytest.raises(Permanent, match=r"permission denied for table flag \(42501\)"):
            plain.read("SELECT * FROM flag")
        with pytest.raises(Permanent, match=r"\(42601\)"):
            plain.change("SELEKT 1")


def test_a_slow_read_is_temporary_and_a_slow_change_that_was_rolled_back_too(server: Postgres) -> None:
    with client(server.superuser_dsn, timeout=0.2) as slow:
        with pytest.raises(Temporary, match="57014"):
            slow.read("SELECT pg_sleep(10)")
        insert = "INSERT INTO flag SELECT 'half' FROM pg_sleep(10) RETURNING name"
        with pytest.raises(Temporary, match="57014"):
            slow.change(insert)
        assert slow.read("SELECT * FROM flag") == []


def test_an_error_during_a_change_that_no_rollback_undoes_is_ambiguous(server: Postgres) -> None:
    with client(server.superuser_dsn, timeout=0.2) as slow:
        with pytest.raises(Ambiguous, match=r"57014.*after the change was sent"):
            slow.change("SELECT pg_sleep(10)", undone_by_error=False)


def test_a_session_that_is_ended_during_a_change_is_ambiguous(server: Postgres) -> None:
    with client(server.superuser_dsn) as cut:
        with pytest.raises(Ambiguous, match="after the change was sent"):
            cut.change("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)")


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that keep their sockets and answer nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_hangs_is_left_in_time(server: Postgres) -> None:
    with client(server.dsn("plain"), timeout=0.5) as plain:
        plain.read("SELECT 1")
        with stopped([server.process.pid]):
            started = time.monotonic()
            with pytest.raises(Temporary, match="timeout"):
                plain.read("SELECT 1")
            assert time.monotonic() - started < 4


def test_a_backend_that_hangs_in_a_change_is_left_in_time_and_ambiguous(server: Postgres) -> None:
    """The server's own time-out cannot help: it stands still together with its backend."""
    with client(server.superuser_dsn, timeout=0.5) as plain:
        started = time.monotonic()
        # the backend stops itself, by way of a shell, before it can answer
        with pytest.raises(Ambiguous):
            plain.change("COPY (SELECT 1) TO PROGRAM 'kill -STOP $PPID; sleep 1'")
        assert time.monotonic() - started < 4
    with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
        rows = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'remediator' AND query LIKE 'COPY%'"
        ).fetchall()
    assert len(rows) == 1
    os.kill(rows[0][0], signal.SIGCONT)


def test_a_full_server_is_reached_through_the_spare_connection(server: Postgres) -> None:
    """The pool being full is the trouble that remediator is there for."""
    with ExitStack() as stack, client(server.dsn("plain")) as early, client(server.dsn("plain")) as late:
        assert early.read("SELECT 1 AS one") == [{"one": 1}]
        fill(server, stack)
        assert early.read("SELECT 2 AS two") == [{"two": 2}]
        assert early.read("SELECT 3 AS three") == [{"three": 3}]
        with pytest.raises(
            Temporary, match=r"no free slot for remediator itself.*pg_use_reserved_connections"
        ):
            late.read("SELECT 1")


def test_a_spare_that_died_is_not_used(server: Postgres) -> None:
    with ExitStack() as stack, client(server.dsn("plain")) as early:
        early.read("SELECT 1")
        with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remediator'"
            )
        fill(server, stack)
        with pytest.raises(Temporary, match="no free slot"):
            early.change("SELECT 1")


def fill(server: Postgres, stack: ExitStack) -> None:
    """Take every slot that an ordinary role can have."""
    deadline = time.monotonic() + 10
    full_since = None
    while full_since is None or time.monotonic() - full_since < 0.2:  # slots of ended sessions come back late
        assert time.monotonic() < deadline
        try:
            stack.enter_context(psycopg.connect(server.dsn("plain"), autocommit=True))
            full_since = None
        except psycopg.OperationalError as error:
            if "connection slots" not in str(error):
                raise
            full_since = full_since or time.monotonic()
            time.sleep(0.02)


OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remediator' AND usename = 'plain'"


def test_it_leaves_nothing_open(server: Postgres) -> None:
    with client(server.dsn("plain")) as plain:
        for _ in range(5):
            plain.read("SELECT 1")
        with psycopg.connect(server.superuser_dsn) as admin:
            until_counted(admin, 1)
    with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
        until_counted(admin, 0)


def until_counted(admin: psycopg.Connection[tuple[int]], wanted: int) -> None:
    admin.autocommit = True
    deadline = time.monotonic() + 5
    while (seen := (admin.execute(OURS).fetchone() or (None,))[0]) != wanted:
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
