"""How full a real PostgreSQL is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from remediator.checks.postgres import Connections as ConnectionsInUse
from remediator.checks.postgres import ConnectionsParams
from remediator.clients.connections import CallContext, Connections
from remediator.errors import Permanent
from remediator.model import Instant
from remediator.settings import PostgresConnection
from tests.servers.postgres import Postgres

CHECK = ConnectionsInUse()
NOW = Instant(7)
OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    # 23 less 3 for superusers: ordinary roles have 20
    settings = {"superuser_reserved_connections": "3", "fsync": "off"}
    with Postgres(max_connections=23, settings=settings) as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
            admin.execute("CREATE ROLE remediator LOGIN; GRANT pg_read_all_stats TO remediator")
            admin.execute(
                "CREATE ROLE app LOGIN; CREATE ROLE blind LOGIN; CREATE ROLE walker LOGIN REPLICATION"
            )
            admin.execute("CREATE DATABASE orders CONNECTION LIMIT 10")
        yield server


@pytest.fixture
def context(server: Postgres) -> Iterator[CallContext]:
    def at(role: str, database: str) -> PostgresConnection:
        return PostgresConnection(dsn=server.dsn(role, database))

    with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
        while admin.execute(OTHERS).fetchone() != (0,):  # an earlier test's sessions end a moment late
            time.sleep(0.01)
    made = Connections(
        {
            "orders": at("remediator", "orders"),
            "main": at("remediator", "postgres"),
            "blind": at("blind", "orders"),
        }
    )
    yield CallContext(made, NOW)
    made.close()


def percent(context: CallContext, **params: Any) -> float:
    (sample,) = CHECK.read(context, ConnectionsParams.model_validate(params)).samples
    assert sample.at == NOW
    return sample.value


def test_slots_in_use_are_counted_against_those_that_ordinary_roles_can_have(
    server: Postgres, context: CallContext
) -> None:
    with ExitStack() as stack:
        for user, database in (
            [("app", "orders")] * 6 + [("app", "postgres")] * 4 + [("postgres", "postgres")]
        ):
            stack.enter_context(psycopg.connect(server.dsn(user, database)))
        stack.enter_context(
            psycopg.connect(server.dsn("walker", "orders"), replication="true", autocommit=True)  # no slot
        )
        # 11 sessions of 20; in orders 6 of the 10 it may have
        assert percent(context, connection="orders") == pytest.approx(55.0)
        # now with the one that the client keeps
        assert percent(context, connection="orders") == pytest.approx(60.0)
        assert percent(context, connection="orders", database="current") == pytest.approx(70.0)


def test_a_database_without_a_limit_has_the_servers(server: Postgres, context: CallContext) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(psycopg.connect(server.dsn("app", "postgres")))
        assert percent(context, connection="main", database="current") == pytest.approx(15.0)


def test_a_full_server_still_answers_and_has_all_its_slots_in_use_but_ours(
    server: Postgres, context: CallContext
) -> None:
    with ExitStack() as stack:
        percent(context, connection="main")  # its connection is kept
        while True:
            try:
                stack.enter_context(psycopg.connect(server.dsn("app", "postgres")))
            except psycopg.OperationalError:
                break
        assert percent(context, connection="main") == pytest.approx(95.0)  # 19 others, and the one that asks


def test_a_role_that_cannot_see_is_told_the_grant(server: Postgres, context: CallContext) -> None:
    with psycopg.connect(server.dsn("app", "orders")):
        with pytest.raises(Permanent, match="run: GRANT pg_read_all_stats TO blind;"):
            CHECK.read(context, ConnectionsParams(connection="blind"))
