"""The server: what is refused at the start, and what happens when it goes, hangs, or is another one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from remediator.clock import DrivenClock
from remediator.contracts import Store
from remediator.errors import ConfigurationError, StoreError, StoreUnavailable
from remediator.model import AuditEvent, ControlKind, Run, State
from remediator.store import open_store
from remediator.store.sides import schema_version
from tests.servers.postgres import Postgres
from tests.store.world import START, Lines, World, alert, opening

EVENT = AuditEvent(kind="audit.read")


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def store_at(address: str, **more: bool) -> Store:
    return open_store(address, DrivenClock(START), receivers={"lines": Lines()}, **more)  # type: ignore[arg-type]


async def opened(address: str) -> World:
    async def reopen() -> None:
        await world.store.close()
        world.store = store_at(address)
        await world.store.open()

    world = World(store_at(address), DrivenClock(START), reopen)
    await world.store.open()
    return world


# ---------------------------------------------------------------- refused at the start


@pytest.mark.parametrize("name", ["fsync", "synchronous_commit", "full_page_writes"])
async def test_a_server_that_does_not_keep_what_it_says_is_refused(name: str) -> None:
    with Postgres(settings={name: "off"}) as server:
        with pytest.raises(ConfigurationError, match=rf"{name} = off: .*; set {name} = on"):
            await store_at(server.superuser_dsn).open()


async def test_a_database_that_holds_other_tables_is_refused(postgres: Postgres) -> None:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    with psycopg.connect(postgres.dsn(dbname="shop"), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int)")
    with pytest.raises(ConfigurationError, match="other tables \\(orders\\)"):
        await store_at(postgres.dsn(dbname="shop")).open()


async def test_a_role_that_may_not_make_tables_is_named_with_what_it_lacks(postgres: Postgres) -> None:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as server:
        server.execute("CREATE ROLE weak LOGIN")
        server.execute("CREATE DATABASE strict")
    with psycopg.connect(postgres.dsn(dbname="strict"), autocommit=True) as database:
        database.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is from version 15 on
        weak = postgres.dsn(user="weak", dbname="strict")
        lacks = r"role weak may not make tables in schema public of database strict.* GRANT USAGE, CREATE"
        with pytest.raises(ConfigurationError, match=lacks):
            schema_version(weak)  # as doctor asks
        with pytest.raises(ConfigurationError, match=lacks):
            await store_at(weak).open()
        database.execute("GRANT USAGE, CREATE ON SCHEMA public TO weak")  # as it was told
        store = store_at(weak)
        await store.open()
        await store.close()
        database.execute("REVOKE CREATE ON SCHEMA public FROM weak")  # nothing is to be made any more
        store = store_at(weak)
        await store.open()
        await store.close()


async def test_an_encoding_that_cannot_hold_every_alert_is_refused(postgres: Postgres) -> None:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match=r"SQL_ASCII.*UTF8"):
        await store_at(postgres.dsn(dbname="latin")).open()


async def test_a_newer_schema_is_refused_by_its_version(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        [version] = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ()
        try:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            with pytest.raises(ConfigurationError, match="9999"):
                await store_at(database).open()
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", (version,))


async def test_a_wrong_address_is_named_and_no_password_is(postgres: Postgres) -> None:
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        await store_at(postgres.dsn(dbname="nowhere")).open()
    with pytest.raises(ConfigurationError, match=r"store\.url.*nonsense"):
        await store_at("postgresql://127.0.0.1/x?nonsense=1").open()
    for password in ("hunter 2", 'hunt"er 2', "%zzhunter2"):
        with pytest.raises(ConfigurationError, match=r"store\.url") as refused:
            await store_at(f"postgresql://bob:{password}@127.0.0.1/x").open()
        assert "hunt" not in str(refused.value)
    with pytest.raises(StoreUnavailable) as caught:
        await store_at(f"postgresql://bob:hunter2@127.0.0.1:{postgres.port + 1 & 0xFFFF}/x").open()
    assert "hunter2" not in str(caught.value)


async def test_several_at_once_migrate_once(postgres: Postgres) -> None:
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    stores = [store_at(postgres.dsn(dbname="fresh")) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await store.record((EVENT,))
    assert len(await stores[0].audit()) == 3
    for store in stores:
        await store.close()


async def test_a_reader_reads_beside_the_daemon_and_writes_nothing(database: str) -> None:
    world = await opened(database)
    await world.deliver(alert("a"))
    reader = store_at(database, read_only=True)
    await reader.open()
    assert len(await reader.find_episodes()) == 1
    with pytest.raises(StoreError, match="reading only"):
        await reader.record((EVENT,))
    await reader.close()
    await world.store.close()


# ---------------------------------------------------------------- while it runs


async def within(seconds: float, call: object) -> str:
    """What a call that must fail says, and that it says so in time."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await call  # type: ignore[misc]
    assert time.monotonic() - began < seconds
    return str(caught.value)


async def test_a_server_that_stopped_is_said_within_two_seconds_and_comes_back(own_server: Postgres) -> None:
    world = await opened(own_server.superuser_dsn)
    await world.deliver(alert("a"))
    own_server.stop()
    for call in (world.deliver(alert("b")), world.store.claim("w", 1), world.store.controls()):
        await within(2.5, call)
    assert world.store.fatal is None
    own_server.start()
    assert (await world.deliver(alert("b"))).accepted == 1
    assert (await world.deliver(alert("a"))).repeated == 1
    await world.store.close()


async def test_a_server_that_was_killed_has_kept_everything(own_server: Postgres) -> None:
    world = await opened(own_server.superuser_dsn)
    ids = [(await world.deliver(alert(f"a{number}"))).alerts[0] for number in range(10)]

    async def deliver() -> None:
        for number in range(1_000):
            ids.extend((await world.deliver(alert(f"z{number}"))).alerts)

    own_server.kill()
    with pytest.raises(StoreUnavailable):  # its backends notice one after another, each in its own time
        await deliver()
    await within(2.5, world.deliver(alert("z")))
    own_server.start()
    assert [await world.status(id) for id in ids] == ["firing"] * len(ids)
    await world.store.close()


class Wire:
    """A wire to the server that can hang, or break when the answer to a COMMIT is due."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.flowing = threading.Event()
        self.flowing.set()
        self.lose = 0
        """How many COMMITs shall get no answer."""
        self.reach = True
        """Whether those COMMITs reach the server."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            threading.Thread(target=self._forth, args=(client, server), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(client):
            self.flowing.wait()
            if b"COMMIT" in data and self.lose:
                self.lose -= 1
                client.shutdown(socket.SHUT_RDWR)
                if self.reach:
                    server.sendall(data)
                    time.sleep(0.05)
                break
            server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        while data := _received(server):
            self.flowing.wait()
            try:
                client.sendall(data)
            except OSError:
                break
        client.close()

    def close(self) -> None:
        self.flowing.set()
        self._listener.close()


def _received(from_: socket.socket) -> bytes:
    try:
        return from_.recv(65_536)
    except OSError:
        return b""


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Wire]:
    made = Wire(postgres.port)
    yield made
    made.close()


def through(wire: Wire, database: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{wire.port}/{database.rsplit('/', 1)[1]}"


async def test_a_server_that_hangs_is_given_up_within_seconds(database: str, wire: Wire) -> None:
    world = await opened(through(wire, database))
    await world.deliver(alert("a"))
    wire.flowing.clear()
    calls = (world.deliver(alert("b")), world.store.claim("w", 1), world.store.controls())
    await asyncio.gather(*(within(3.5, call) for call in calls))
    wire.flowing.set()
    for _ in range(50):
        try:
            receipt = await world.deliver(alert("b"))
            break
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    assert receipt.accepted + receipt.repeated == 1
    await world.store.close()


@pytest.mark.parametrize("reach", [True, False])
async def test_a_commit_without_an_answer(database: str, wire: Wire, reach: bool) -> None:
    """Whether it reached the server or not, the caller gets the true answer and nothing is there twice."""
    world = await opened(through(wire, database))
    await world.activate()
    world.openings = lambda one: (opening(target=one.fingerprint),)
    wire.reach, wire.lose = reach, 1
    receipt = await world.deliver(alert("a"))
    assert receipt.accepted + receipt.repeated == 1
    assert len(await world.store.find_episodes()) == 1
    [run] = await world.store.claim("w", 1)

    wire.lose = 1
    admitted = await world.admitted(run)
    assert admitted == await world.store.run(run.id)
    assert (admitted.state, len(await world.store.intents(run.id))) == (State.ACTING, 1)
    assert await world.kinds(run=run.id) == ["run.created", "run.admitted"]

    wire.lose = 1
    moved = await world.move(
        admitted, State.SETTLING, events=(AuditEvent(kind="action.applied", run=run.id),)
    )
    assert isinstance(moved, Run)
    assert moved == await world.store.run(run.id)
    assert await world.kinds(run=run.id) == ["run.created", "run.admitted", "action.applied"]

    wire.lose = 1
    said = await within(3, world.store.record((EVENT,)))
    assert "commit" in said  # not known, and not tried again: it would be there twice
    await world.store.close()


async def test_fsync_turned_off_under_a_running_store_is_fatal(own_server: Postgres) -> None:
    world = await opened(own_server.superuser_dsn)
    with psycopg.connect(own_server.superuser_dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
    for _ in range(40):
        if world.store.fatal is not None:
            break
        await asyncio.sleep(0.1)
    assert "full_page_writes" in str(world.store.fatal)
    await within(1, world.deliver(alert("a")))
    await world.store.close()


async def test_a_database_that_went_on_elsewhere_is_opened_paused(database: str) -> None:
    """As after a failover: the remembered timeline is not the server's."""
    world = await opened(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "UPDATE meta SET value = split_part(value, ':', 1) || ':000000AA' WHERE key = 'server'"
        )
    await world.reopen()
    [pause] = await world.store.controls()
    assert (pause.kind, pause.scope, pause.actor) == (ControlKind.PAUSE, "", "daemon")
    assert "timeline 170" in pause.reason
    assert await world.kinds() == ["control.paused"]
    await world.reopen()
    assert len(await world.kinds()) == 1  # said once
    await world.store.close()
