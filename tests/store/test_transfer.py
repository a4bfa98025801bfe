"""A store copied to another engine: every row, the chain, the counters; or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from sqlalchemy import LargeBinary, SmallInteger, Table, Text

from remediator.clock import DrivenClock, SystemClock
from remediator.errors import ConfigurationError, Conflict, StoreError, StoreUnavailable
from remediator.model import AuditEvent, State
from remediator.store import moved, open_store
from remediator.store.schema import metadata
from remediator.store.sides import Named, schema_version, side
from remediator.store.transfer import Copied, transfer
from remediator.store.tx import Row
from tests.servers.postgres import Postgres
from tests.store.world import START, Lines, World, alert, opening

KEY = b"the key of the chain"
AUDIT = {"audit_event", "alert_event", "audit_seal", "meta", "run"}
"""Tables that are filled by what really happens; the others also with odd values in every column."""

ODD = {"odd": "ä\0'\"\\ \u2028 🙂"}


def address(path: Path) -> str:
    return f"sqlite:///{path}"


def copy(source: str, target: str, key: bytes | None = KEY) -> Copied:
    one, other = side(source), side(target)
    try:
        return transfer(one, other, key, names=(source, target), actor="test", told=lambda *_: None)
    finally:
        one.close()
        other.close()


async def opened(url: str, clock: DrivenClock | None = None) -> World:
    async def reopen() -> None:
        raise NotImplementedError

    clock = clock or DrivenClock(START)
    store = open_store(url, clock, receivers={"lines": Lines()}, seal_key=KEY)
    await store.open()
    return World(store, clock, reopen)


async def lived_in(path: Path) -> str:
    """A store in which something happened: alerts, runs of which one is claimed, a pruned past; its head."""
    world = await opened(address(path))
    await world.activate()
    world.openings = lambda one: (opening(target=one.fingerprint),)
    for number in range(12):
        await world.deliver(alert(f"a{number}", labels=ODD))
    await world.deliver(alert("closed", at=START - 5))
    assert len(await world.store.claim("w", 3)) == 3
    await world.store.record([AuditEvent(kind="test.done", data={"text": "\0 ü"})])
    head = await world.store.seal()
    await world.store.record([AuditEvent(kind="test.unsealed")])
    await world.store.close()
    return head


def odd_rows(table: Table) -> Iterator[dict[str, Any]]:
    for number in (1, 2, 3):
        row: dict[str, Any] = {}
        for column in table.columns:
            if isinstance(column.type, LargeBinary):
                row[column.name] = bytes(range(256)) * number
            elif isinstance(column.type, Text):
                row[column.name] = f"{column.name} {number} ä'\"\\\t\n \u2028 🙂"
            elif isinstance(column.type, SmallInteger):
                row[column.name] = number % 2
            else:
                row[column.name] = 900 + number
            if column.nullable and number == 3:
                row[column.name] = None
        yield row


def fill(path: Path) -> None:
    """Rows with odd values in every column of every table that is not under the chain."""
    connection = sqlite3.connect(path)
    for table in metadata.sorted_tables:
        for row in odd_rows(table) if table.name not in AUDIT else ():
            names = ", ".join(row)
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(row.values()))
    connection.execute("INSERT INTO meta (key, value) VALUES ('next:run', '700')")
    connection.commit()
    connection.close()


def content(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Without what is a database's own business."""
    kept = {name: sorted(found, key=repr) for name, found in rows.items()}
    kept["meta"] = [row for row in kept["meta"] if row[0] == "active"]
    kept["audit_event"] = [row for row in kept["audit_event"] if row[2] != "store.copied"]
    return kept


def columns(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def of_sqlite(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    found = {
        table.name: connection.execute(f"SELECT {columns(table)} FROM {table.name}").fetchall()
        for table in metadata.sorted_tables
    }
    connection.close()
    return content(found)


def of_postgres(database: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(database) as connection:
        return content(
            {
                table.name: connection.execute(f"SELECT {columns(table)} FROM {table.name}").fetchall()
                for table in metadata.sorted_tables
            }
        )


def unclaimed(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """As they are once the workers of before are known to be dead."""
    names = [column.name for column in metadata.tables["run"].columns]
    loose = [names.index(name) for name in ("lease_until", "worker", "next_at")]
    runs = [tuple(None if at in loose else value for at, value in enumerate(row)) for row in rows["run"]]
    return {**rows, "run": sorted(runs, key=repr)}


async def test_every_row_goes_to_postgresql_and_back(tmp_path: Path, database: str) -> None:
    path, back = tmp_path / "store.db", tmp_path / "back.db"
    head = await lived_in(path)
    fill(path)
    there = copy(address(path), database)
    assert there.head == head
    assert there.unsealed == 1
    assert all(count >= 3 for name, count in there.counts.items() if name not in AUDIT)
    assert unclaimed(of_postgres(database)) == unclaimed(of_sqlite(path))
    again = copy(database, address(back))
    assert unclaimed(of_sqlite(back)) == unclaimed(of_sqlite(path))
    assert again.head == head


async def test_it_goes_on_there(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    head = await lived_in(path)
    fill_next = sqlite3.connect(path)
    fill_next.execute("INSERT INTO meta (key, value) VALUES ('next:run', '700')")
    fill_next.commit()
    fill_next.close()
    copy(address(path), database)
    world = await opened(database)
    try:
        # What was claimed is due at once: whoever had it is dead.
        claimed = await world.store.claim("new", 100)
        assert len(claimed) == 13
        assert {run.state for run in claimed} == {State.GUARD}
        # Ids go on behind the last, also where the rows are gone.
        run = await world.start("new")
        assert run.id == 700
        assert (await world.deliver(alert("a3", labels=ODD))).repeated == 1
        assert await world.store.active_revision() == "set-1"
        assert await world.store.seal() != head
        report = await world.store.verify(head)
        assert report.whole
        assert report.unsealed == 0
        [event] = await world.store.audit(kind="store.copied")
        assert event.event.data["head"] == head
    finally:
        await world.store.close()


async def test_nothing_goes_on_in_both(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    await lived_in(path)
    copy(address(path), database)
    with pytest.raises(ConfigurationError, match=r"was copied to .*set store.url"):
        await opened(address(path))
    reader = open_store(address(path), SystemClock(), receivers={"lines": Lines()}, read_only=True)
    await reader.open()  # it can still be asked
    assert len(await reader.find_runs()) == 13
    await reader.close()
    held = side(address(path))
    held.hold()
    assert moved.reopen(held.tx, "drill", "test") == database
    held.commit()
    held.close()
    world = await opened(address(path))
    assert "store.reopened" in await world.kinds()
    await world.store.close()


async def test_a_second_copy_goes_nowhere_else(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    await lived_in(path)
    copy(address(path), database)
    other = address(tmp_path / "other.db")
    with pytest.raises(Conflict, match=r"was copied to postgresql://.*reopen"):
        copy(address(path), other)
    held = side(address(path))
    held.hold()
    moved.reopen(held.tx, "the copy was dropped", "test")
    held.commit()
    held.close()
    assert copy(address(path), other).counts["run"] == 13


async def test_a_destination_with_rows_is_refused(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    await lived_in(path)
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO control VALUES ('pause', '', 'r', 'a', 1, NULL, '{}')")
    before = of_sqlite(path)
    with pytest.raises(Conflict, match=r"holds rows already \(control\)"):
        copy(address(path), database)
    assert of_sqlite(path) == before
    world = await opened(address(path))  # not marked
    await world.store.close()


async def test_a_store_in_use_is_refused(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    world = await opened(address(path))
    with pytest.raises(StoreUnavailable, match="held by process"):
        copy(address(path), database)
    await world.store.close()
    there = await opened(database)
    with pytest.raises(StoreUnavailable, match="daemons are connected"):
        copy(address(path), database)
    await there.store.close()


async def test_a_log_that_is_not_whole_is_not_copied(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    await lived_in(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE audit_event SET body = body || ' ' WHERE kind = 'test.done'")
    connection.commit()
    connection.close()
    with pytest.raises(Conflict, match="audit log is not whole"):
        copy(address(path), database)
    with pytest.raises(Conflict, match="audit log is not whole"):
        copy(address(path), database, key=b"another key")


@contextmanager
def at_each_run(database: str, does: LiteralString) -> Iterator[None]:
    """For the time of a `with`, the database does this before it inserts a run."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + does + "; END $$"
        )
        connection.execute(
            "CREATE TRIGGER meddle BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION meddle()"
        )
    try:
        yield
    finally:
        with psycopg.connect(database) as connection:
            connection.execute("DROP FUNCTION meddle CASCADE")


async def test_what_comes_out_differently_is_not_kept(tmp_path: Path, database: str) -> None:
    """The proof is real: a database that changes what it is given is found out, and nothing stays."""
    path = tmp_path / "store.db"
    await lived_in(path)
    spoil = "NEW.updated_at := NEW.updated_at + 1; RETURN NEW"
    with (
        at_each_run(database, spoil),
        pytest.raises(StoreError, match=r"run: .* not the same; nothing was kept"),
    ):
        copy(address(path), database)
    assert of_postgres(database)["alert"] == []
    assert copy(address(path), database).counts["run"] == 13


async def test_an_older_source_is_named(tmp_path: Path, postgres: Postgres) -> None:
    path = tmp_path / "store.db"
    await lived_in(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.commit()
    connection.close()
    assert schema_version(address(path)) == "0001"
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as server:
        server.execute("CREATE DATABASE untouched")
    target = postgres.dsn(dbname="untouched")
    with pytest.raises(ConfigurationError, match="version 0001"):
        copy(address(path), target)
    assert schema_version(target) is None


async def test_what_goes_wrong_in_the_middle_names_the_destination(tmp_path: Path, database: str) -> None:
    path = tmp_path / "store.db"
    await lived_in(path)
    refuse = "RAISE EXCEPTION 'no room' USING ERRCODE = '57014'"
    with (
        at_each_run(database, refuse),
        pytest.raises(StoreError, match=r"no room.*look at the server and at the destination"),
    ):
        copy(address(path), database)


def test_what_the_source_says_is_not_said_of_the_destination(tmp_path: Path) -> None:
    class Broken(StoreError):
        """Of the side that is read."""

    def rows() -> Iterator[Row]:
        yield ("k", "v")
        raise Broken("look at store.url")

    target = Named(side(address(tmp_path / "other.db")), "--to")
    target.make()
    target.hold()
    with pytest.raises(Broken, match=r"look at store\.url"):
        target.write("meta", ("key", "value"), rows())
    target.close()
