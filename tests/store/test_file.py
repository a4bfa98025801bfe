"""The file: where it may lie, who may hold it, who may read it, what its schema is."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.clock import DrivenClock, SystemClock
from remediator.contracts import Store
from remediator.errors import ConfigurationError, StoreError, StoreUnavailable
from remediator.model import DAEMON, AuditEvent, Control, ControlKind
from remediator.store import VERSION, open_store, schema
from remediator.store.migrations import migrate
from remediator.store.sqlite.file import file_system, refuse_network
from remediator.store.sqlite.threads import Readers
from remediator.store.sqlite.tx import SqliteTx
from tests.store.world import START, Lines, World, alert

HOLDER = """
import asyncio, sys
from remediator.clock import SystemClock
from remediator.store import open_store

async def main():
    store = open_store(sys.argv[1], SystemClock(), receivers={})
    await store.open()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()

asyncio.run(main())
"""


def store_at(path: Path, *, read_only: bool = False) -> Store:
    return open_store(
        f"sqlite://{path}", DrivenClock(START), receivers={"lines": Lines()}, read_only=read_only
    )


async def test_a_second_process_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    holder = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", HOLDER, f"sqlite://{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert await asyncio.to_thread(holder.stdout.readline) == "open\n"
        store = store_at(path)
        with pytest.raises(StoreUnavailable, match=rf"store\.db is held by process {holder.pid}\b"):
            await store.open()
        reader = store_at(path, read_only=True)
        await reader.open()  # beside the running owner
        assert await reader.controls() == []
        await reader.close()
        holder.kill()
        await asyncio.to_thread(holder.wait)
        await store.open()  # the kernel freed the lock with the process
        await store.close()
    finally:
        holder.kill()
        holder.communicate()


async def test_the_same_process_cannot_open_it_twice(file_world: World, tmp_path: Path) -> None:
    link = tmp_path / "alias.db"
    link.symlink_to(tmp_path / "store.db")
    for path in (tmp_path / "store.db", link):
        with pytest.raises(StoreUnavailable, match=str(os.getpid())):
            await store_at(path).open()


async def test_a_file_with_a_second_name_is_refused(tmp_path: Path) -> None:
    store = store_at(tmp_path / "store.db")
    await store.open()
    (tmp_path / "other").mkdir()
    os.link(tmp_path / "store.db", tmp_path / "other" / "alias.db")
    try:
        with pytest.raises(ConfigurationError, match=r"alias\.db has further names \(hard links\)"):
            await store_at(tmp_path / "other" / "alias.db").open()
    finally:
        await store.close()


async def test_only_its_user_may_read_it(file_world: World, tmp_path: Path) -> None:
    await file_world.deliver(alert("a"))
    modes = {name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)}
    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /mnt/a\\040b rw - nfs4 server:/x rw
31 22 0:27 / /mnt rw - xfs /dev/sdb rw
32 22 0:28 / /mnt/home rw - fuse.sshfs user@host: rw
33 22 0:29 / /srv/cifs rw - cifs //host/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/remediator", "ext4"),
        ("/mnt/db", "xfs"),
        ("/mnt/homer", "xfs"),
        ("/mnt/home/db", "fuse.sshfs"),
        ("/mnt/a b/db", "nfs4"),
        ("/srv/cifs", "cifs"),
    ],
)
def test_network_file_systems_are_refused(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind
    if kind in ("ext4", "xfs"):
        refuse_network(Path(path), MOUNTS)
    else:
        with pytest.raises(ConfigurationError, match=rf"network file system \({kind}\)"):
            refuse_network(Path(path), MOUNTS)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "'mysql' is no store"),
        ("/var/lib/x.db", "is no store"),
        ("sqlite://relative.db", "names a host"),
    ],
)
def test_an_address_that_is_no_store_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        open_store(url, SystemClock(), receivers={})


def test_a_store_in_memory_cannot_be_read_beside(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="read-only"):
        open_store("sqlite://", SystemClock(), receivers={}, read_only=True)


async def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none does not exist; create it"):
        await store_at(tmp_path / "none" / "store.db").open()
    with pytest.raises(ConfigurationError, match="is a directory"):
        await store_at(tmp_path).open()
    with pytest.raises(StoreUnavailable, match="there is no store"):
        await store_at(tmp_path / "store.db", read_only=True).open()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(StoreUnavailable, match=r"store\.db: file is not a database: .*backup"):
        await store_at(path).open()
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.close()
    with pytest.raises(ConfigurationError, match="other tables \\(customers\\)"):
        await store_at(path).open()


async def test_readers_change_nothing_and_see_commits_at_once(file_world: World, tmp_path: Path) -> None:
    reader = store_at(tmp_path / "store.db", read_only=True)
    await reader.open()
    for name in "abc":
        await file_world.deliver(alert(name))
        assert (await reader.find_episodes(limit=1))[0].alert.fingerprint == name
    assert (await reader.find_episodes(limit=1))[0].seen_at is None  # only the owner knows
    for write in (
        reader.record((AuditEvent(kind="x"),)),
        reader.claim("w", 1),
        reader.release([]),
    ):
        with pytest.raises(StoreError, match="reading only"):
            await write
    await reader.close()
    await file_world.deliver(alert("d"))


async def test_a_reader_works_without_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    owner = store_at(path)
    await owner.open()
    await owner.record((AuditEvent(kind="audit.read"),))
    await owner.close()
    reader = store_at(path, read_only=True)
    await reader.open()
    assert len(await reader.audit()) == 1
    await reader.close()


# ---------------------------------------------------------------- schema


def tables(connection: sqlite3.Connection) -> dict[str, object]:
    """Everything about a schema but its wording: columns, keys, indexes and their conditions."""
    found: dict[str, object] = {}
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'"):
        columns = connection.execute(f"PRAGMA index_xinfo({name})").fetchall()
        condition = " ".join((sql or "").partition("WHERE")[2].split())
        found[f"index {name}"] = (columns, condition, "UNIQUE" in (sql or ""))
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        found[name] = connection.execute(f"PRAGMA table_info({name})").fetchall()
    return found


def test_the_compiled_schema_is_current() -> None:
    text = (Path(schema.__file__).with_name("schema.sql")).read_text()
    assert text == schema.compiled(), "run: python -m remediator.store.schema"


def test_migrations_lead_to_the_same_schema() -> None:
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    fresh.executescript(schema.compiled())
    migrated = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(migrated)
    assert tables(migrated) == tables(fresh)
    assert migrated.execute("SELECT version_num FROM alembic_version").fetchall() == [(VERSION,)]
    fresh.close()
    migrated.close()


async def test_a_newer_schema_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = store_at(path)
    await store.open()
    await store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.execute("UPDATE meta SET value = '9999' WHERE key = 'oldest_code'")
    connection.commit()
    connection.close()
    for read_only in (False, True):
        with pytest.raises(ConfigurationError, match="version 9999, this remediator knows"):
            await store_at(path, read_only=read_only).open()


def test_opening_a_current_store_loads_neither_alembic_nor_sqlalchemy(tmp_path: Path) -> None:
    script = HOLDER + "\nprint(sorted({'alembic', 'sqlalchemy'} & set(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", script, f"sqlite://{tmp_path}/store.db"],
        input="",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "open\n[]\n"


async def test_a_store_that_was_here_and_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    """An empty one would have forgotten every budget, lease and quarantine."""
    path = tmp_path / "store.db"
    store = store_at(path)
    await store.open()
    await store.close()
    body = path.read_bytes()
    lock = tmp_path / "store.db.lock"
    for damage in (path.unlink, path.touch):  # deleted; then an empty file
        damage()
        with pytest.raises(ConfigurationError, match=r"store\.db is gone, and was here .*restore a backup"):
            await store_at(path).open()
    path.write_bytes(body)  # as from a backup
    await store_opens(path)
    path.unlink()
    lock.unlink()  # a person has decided to begin anew
    await store_opens(path)


async def test_a_first_start_that_failed_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("this is no database")
    with pytest.raises(StoreUnavailable, match="damaged or no SQLite database"):
        await store_at(path).open()
    path.unlink()
    await store_opens(path)


async def store_opens(path: Path) -> None:
    store = store_at(path)
    await store.open()
    await store.close()


async def test_an_older_file_that_was_put_back_is_opened_paused_and_people_are_told(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = store_at(path)
    await store.open()
    await store.record((AuditEvent(kind="audit.read"),))
    await store.seal()
    await store.close()
    body = path.read_bytes()
    await store_opens(path)
    store = store_at(path)
    await store.open()
    assert await store.controls() == []  # opened again, nothing is wrong
    await store.record((AuditEvent(kind="audit.read"),) * 5)
    await store.seal()
    await store.close()

    path.write_bytes(body)
    store = store_at(path)
    await store.open()
    [pause] = await store.controls()
    assert (pause.kind, pause.scope, pause.actor) == (ControlKind.PAUSE, "", "daemon")
    assert "the audit log ends at 1 and went to 6 before" in pause.reason
    [told] = await store.due_messages(10)
    assert told.message.chain == DAEMON
    assert pause.reason in told.message.body
    await store.seal()
    await store.close()

    store = store_at(path)
    await store.open()
    assert len(await store.audit(kind="control.paused")) == 1  # said once
    await store.close()


async def test_looks_share_a_snapshot_and_yet_each_sees_what_it_has_written(tmp_path: Path) -> None:
    store = store_at(tmp_path / "store.db")
    await store.open()

    async def on(scope: str) -> bool:
        return scope in {control.scope for control in await store.controls()}

    async def person(number: int) -> None:
        scope = f"target:queue:{number}"
        event = AuditEvent(kind="control.paused", actor="alice")
        for _ in range(10):
            pause = Control(kind=ControlKind.PAUSE, scope=scope, reason="drill", actor="alice", since=START)
            await store.set_control(pause, event)
            assert await on(scope)
            assert await store.clear_control(ControlKind.PAUSE, scope, event)
            assert not await on(scope)

    await asyncio.gather(*(person(number) for number in range(20)))
    await store.close()


async def test_a_reader_knows_nothing_of_the_snapshot_before(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = store_at(path)
    await store.open()
    readers = Readers(path, DrivenClock(START), threads=1)

    def count(tx: SqliteTx) -> int:
        return tx.known("events", lambda: len(tx.all("SELECT id FROM audit_event")))

    before = readers.here(count, 5)
    await store.record((AuditEvent(kind="audit.read"),))
    assert readers.here(count, 5) == before + 1
    readers.close()
    await store.close()


async def test_the_loop_closes_its_own_connection_whose_snapshot_has_yet_to_end(tmp_path: Path) -> None:
    """Another thread closed it in the middle of that: the process died of it."""
    path = tmp_path / "store.db"
    store = store_at(path)
    await store.open()
    readers = Readers(path, DrivenClock(START), threads=1)
    looked = readers.here(lambda tx: tx.connection, 5)
    assert looked.in_transaction
    readers.leave()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        looked.execute("SELECT 1")
    await asyncio.sleep(0)  # what was to end the snapshot finds none
    readers.close()
    await store.close()
