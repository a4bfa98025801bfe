"""Schemas of other versions: the former code on the new schema, and this code on one to come."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from remediator.clock import DrivenClock
from remediator.errors import ConfigurationError
from remediator.store import OLDEST_CODE, VERSION, open_store
from tests.crash.installation import ROOT, TOKEN, Installation, firing
from tests.crash.provider import Provider
from tests.crash.test_kill import ESCALATION, POLICY
from tests.servers.postgres import Postgres
from tests.servers.process import Process
from tests.store.world import START, Lines, World, alert, opening

FORMER = "c90899c"
"""The last commit whose schema is 0001."""
WIDE = "{{budget: [100 per 1h], concurrent: 6, open_runs: 100}}"
EXPAND = (
    "ALTER TABLE run ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'",
    "CREATE TABLE later (id BIGINT PRIMARY KEY)",
    "UPDATE alembic_version SET version_num = '9999'",
)


@pytest.fixture
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def change(url: str, *statements: str) -> None:
    """As a newer version's migration does, beside whoever is there."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            for statement in statements:
                connection.execute(statement)
        return
    file = sqlite3.connect(url.removeprefix("sqlite:///"))
    for statement in statements:
        file.execute(statement)
    file.commit()
    file.close()


async def opened(url: str) -> World:
    async def reopen() -> None:
        raise NotImplementedError

    clock = DrivenClock(START)
    world = World(open_store(url, clock, receivers={"lines": Lines()}), clock, reopen)
    await world.store.open()
    return world


def declared(oldest: str) -> str:
    return f"UPDATE meta SET value = '{oldest}' WHERE key = 'oldest_code'"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_schema_that_was_expanded_is_worked_on(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    if engine == "postgresql":
        url = request.getfixturevalue("server").superuser_dsn
    world = await opened(url)
    await world.activate()
    world.openings = lambda one: (opening(target=one.fingerprint),)
    await world.deliver(alert("before"))
    await world.deliver(alert("second"))
    if engine == "sqlite":  # its owner is the only one who can change it
        await world.store.close()
    change(url, *EXPAND)
    if engine == "postgresql":
        await world.deliver(alert("meanwhile"))  # a replica that was running goes on
        assert len(await world.store.claim("w", 5)) == 3
        await world.store.close()
    world = await opened(url)  # and it may restart
    assert (await world.deliver(alert("after"))).accepted == 1
    await world.store.seal()
    assert (await world.store.verify()).whole
    await world.store.close()
    reader = open_store(url, DrivenClock(START), receivers={"lines": Lines()}, read_only=True)
    await reader.open()
    assert len(await reader.find_runs()) >= 2
    await reader.close()

    change(url, declared("9998"))  # a later version contracts
    with pytest.raises(ConfigurationError, match=r"version 9999, .* knows \d+; the oldest .* is 9998: start"):
        await opened(url)
    change(url, "DELETE FROM meta WHERE key = 'oldest_code'")
    with pytest.raises(ConfigurationError, match="version 9999, this remediator knows"):
        await opened(url)


def test_both_ways_to_the_newest_schema_declare_the_same(tmp_path: Path) -> None:
    from remediator.store.migrations import migrate

    migrated = sqlite3.connect(tmp_path / "migrated.db", isolation_level=None)
    migrate(migrated)
    made = sqlite3.connect(":memory:")
    made.executescript((ROOT / "remediator" / "store" / "schema.sql").read_text())
    for connection in (migrated, made):
        assert connection.execute("SELECT key, value FROM meta").fetchall() == [("oldest_code", OLDEST_CODE)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(VERSION,)]
        connection.close()


# ---------------------------------------------------------------- the former code


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """The former version's package, from history."""
    git = shutil.which("git")
    archive = None
    if git is not None:
        archive = subprocess.run(
            [git, "-C", str(ROOT), "archive", FORMER, "remediator"], capture_output=True, check=False
        )
    if archive is None or archive.returncode:
        pytest.skip(f"the history does not reach back to {FORMER} here: the former code cannot be run")
    place = tmp_path / "former"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(place, filter="data")
    (place / "tests").symlink_to(ROOT / "tests")  # the plugin with the recording action
    return place


class Former(Installation):
    """An installation of the former version."""

    package: Path

    def start(self, failpoint: str = "", timeout: float = 20, wait: bool = True) -> Process:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("REMEDIATOR_")}
        self.process = Process(
            [sys.executable, "-m", "remediator", "--config", str(self.config), "serve"],
            log=self.home / "daemon.log",
            ready=self._ready,
            timeout=timeout,
            env={**kept, "PYTHONPATH": str(self.package)},
            cwd=self.home,
        ).start()
        return self.process


@pytest.mark.slow
def test_the_former_daemon_goes_on_while_the_new_one_migrates(
    tmp_path: Path, server: Postgres, former: Path
) -> None:
    with Provider() as provider:
        policy = POLICY.replace("escalate:", f"limits: {WIDE}\nescalate:")
        files = {
            "grow.yaml": policy.format(url=provider.url),
            "escalation.yaml": ESCALATION,
            "limits.yaml": "global: {budget: [100 per 1h], concurrent: 6}\n",
        }
        more = {
            "store": {"url": server.superuser_dsn},
            "connections": {"recorder": {"kind": "http", "url": provider.url}},
            "plugins": ["tests.crash.plugin"],
        }
        homes = [tmp_path / "old", tmp_path / "new"]
        for home in homes:
            home.mkdir()
        Former.package = former
        with Former(homes[0], files, **more) as old, Installation(homes[1], files, **more) as new:
            old.start(timeout=60)
            assert schema(server) == "0001"
            assert old.post(firing(queue="a")) == 200
            new.start(timeout=60)
            assert schema(server) == VERSION
            for number in range(4):  # both take, and both work
                assert old.post(firing(queue=f"old{number}")) == 200
                assert new.post(firing(queue=f"new{number}")) == 200
            new.until(
                lambda: [run["outcome"] for run in new.runs()] == ["succeeded"] * 9, "all end", seconds=60
            )
            assert old.process is not None
            assert old.process.running
            assert old.http.get("/readyz").status_code == 200
            assert len(old.runs()) == 9
            assert new.get("audit/verify")["whole"]
            new.stop()
            assert old.post(firing(queue="alone")) == 200
            old.until(lambda: old.runs()[-1]["outcome"] == "succeeded", "the former one works on", seconds=60)
            assert provider.twice() == []
            assert sorted(call["name"] for call in provider.calls) == sorted(
                ["a", "alone", *(f"{which}{number}" for which in ("old", "new") for number in range(4))]
            )
            assert TOKEN not in (homes[0] / "daemon.log").read_text()


@pytest.mark.slow
def test_a_file_of_the_former_daemon_is_migrated_with_all_that_was_open(tmp_path: Path, former: Path) -> None:
    """As an installation on SQLite is upgraded. The former process was killed: it has tidied up nothing."""
    held = POLICY.replace("grow\n", "held\n", 1).replace("QueueHigh", "Held").replace("for: 1s", "for: 8s")
    with Provider() as provider:
        files = {
            "grow.yaml": POLICY.format(url=provider.url),
            "held.yaml": held.format(url=provider.url),
            "escalation.yaml": ESCALATION,
        }
        more = {
            "connections": {"recorder": {"kind": "http", "url": provider.url}},
            "plugins": ["tests.crash.plugin"],
        }
        Former.package = former
        done, waits = firing(queue="done"), firing("Held", queue="waits")
        with Former(tmp_path, files, **more) as old:
            old.start(timeout=60)
            assert old.post(done) == 200
            old.until(lambda: [run["outcome"] for run in old.runs()] == ["succeeded"], "one ends", seconds=40)
            assert old.post(waits) == 200
            assert old.runs()[-1]["state"] == "HOLD"
            before = {event["id"] for event in old.get("audit", limit=500)["items"]}
            old.kill()
        with Installation(tmp_path, files, **more) as new:
            new.start(timeout=60)
            with sqlite3.connect(new.database) as file:
                assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [(VERSION,)]
            assert before <= {event["id"] for event in new.get("audit", limit=500)["items"]}
            assert new.post(done, waits) == 200  # known: neither is a new episode
            new.until(
                lambda: [run["outcome"] for run in new.runs()] == ["succeeded"] * 2,
                "the other too",
                seconds=60,
            )
            assert sorted(call["name"] for call in provider.calls) == ["done", "waits"]
            assert provider.twice() == []
            assert new.get("audit/verify")["whole"]


def schema(server: Postgres) -> str:
    with psycopg.connect(server.superuser_dsn) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return "" if row is None else str(row[0])
