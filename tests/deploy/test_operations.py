"""docs/operations.md says what is so: its commands exist and do what it says, on real stores."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer

from remediator.cli.app import app
from remediator.clock import SystemClock
from remediator.contracts import Store
from remediator.errors import ConfigurationError
from remediator.model import AuditEvent, ControlKind
from remediator.store import open_store
from tests.cli.program import Program
from tests.servers.postgres import Postgres
from tests.servers.process import Missing

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def commands(first: str) -> list[list[str]]:
    """The commands of the page's blocks that begin with this word, as words."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(f"{first} ")]


def settings(home: Path, url: str) -> Program:
    home.mkdir(exist_ok=True)
    (home / "policies").mkdir(exist_ok=True)
    (home / "remediator.yaml").write_text(f"store: {{url: '{url}'}}\npolicies: {{dir: policies}}\n")
    return Program(home, {})


async def filled(store: Store) -> str:
    """A store that knows something; returns its head."""
    await store.open()
    for number in range(20):
        await store.record((AuditEvent(kind="audit.read", observed=str(number)),))
    return await store.seal()


def test_every_command_of_the_page_is_one_of_the_command_line() -> None:
    named = re.findall(r"(?:`|^ *|[A-Z_]=\S+ )remediator ([a-z][^`\n]*)", PAGE, re.MULTILINE)
    assert len(named) > 30
    root = typer.main.get_command(app)
    for line in named:
        words = shlex.split(line)
        command, context = root, typer.Context(root)
        while words and hasattr(command, "get_command"):
            found = command.get_command(context, words[0])
            assert found is not None, f"remediator {line}"
            command = found
            words = words[1:]
        known = {option for one in command.params for option in one.opts}
        for word in words:
            if word.startswith("--"):
                assert word in known, f"remediator {line}: no option {word}"


def test_every_metric_and_setting_of_the_page_exists() -> None:
    docs = Path(__file__).parents[2] / "docs"
    metrics = (docs / "metrics.md").read_text()
    for name in re.findall(r"`(remediator_\w+)`", PAGE):
        assert f"`{name}`" in metrics, name
    known = (docs / "settings.md").read_text()
    for name in re.findall(r"`((?:server|engine|approvals|retention|notifications)\.\w+|audit\.key)`", PAGE):
        assert f"`{name}`" in known, name


async def test_a_backup_of_sqlite_is_whole_and_restored_it_is_paused(tmp_path: Path) -> None:
    (command,) = commands("python3")
    live, copy = tmp_path / "remediator.db", tmp_path / "copy.db"
    assert command[-2:] == ["/var/lib/remediator/remediator.db", "/var/backups/remediator.db"]
    url = f"sqlite:///{live}"
    store = open_store(url, SystemClock(), receivers={})
    head = await filled(store)
    try:
        argv = [sys.executable, *command[1:-2], str(live), str(copy)]
        await asyncio.to_thread(subprocess.run, argv, check=True)  # beside the running daemon
        await store.record((AuditEvent(kind="control.resumed"),) * 3)
        await store.seal()
    finally:
        await store.close()
    program = settings(tmp_path / "cli", f"sqlite:///{copy}")
    checked = await asyncio.to_thread(program, "audit", "verify", "--head", head)
    assert checked.code == 0, checked.out + checked.err

    for name in ("remediator.db", "remediator.db-wal", "remediator.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ConfigurationError, match="restore a backup"):
        await open_store(url, SystemClock(), receivers={}).open()
    shutil.copy(copy, live)
    restored = open_store(url, SystemClock(), receivers={})
    await restored.open()
    try:
        assert [pause.kind for pause in await restored.controls()] == [ControlKind.PAUSE]
        assert len(await restored.audit(kind="audit.read", limit=100)) == 20
    finally:
        await restored.close()


@pytest.fixture
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def run(server: Postgres, words: list[str], places: dict[str, str]) -> None:
    """Run one of PostgreSQL's programs as the page has it, with these for its variables and files."""
    program = server.bin_dir / words[0]
    if not program.exists():
        raise Missing(f"{server.bin_dir} has no {words[0]}; apt-get install postgresql")
    text = "\0".join(words[1:])
    for place, value in places.items():
        text = text.replace(place, value)
    done = subprocess.run([str(program), *text.split("\0")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_a_dump_of_postgresql_is_whole_and_restored_it_is_paused(
    tmp_path: Path, server: Postgres
) -> None:
    (dump,), (create,), (restore,) = commands("pg_dump"), commands("createdb"), commands("pg_restore")
    with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE remediator")
    live, copy = server.dsn(dbname="remediator"), server.dsn(dbname="remediator_restored")
    places = {
        "/var/backups/remediator.dump": str(tmp_path / "remediator.dump"),
        "$STORE_URL": live,
        "$RESTORED_URL": copy,
        "$ADMIN_URL": server.superuser_dsn,
    }
    store = open_store(live, SystemClock(), receivers={})
    head = await filled(store)
    try:
        await asyncio.to_thread(run, server, dump, places)  # beside the running daemon
    finally:
        await store.close()
    await asyncio.to_thread(run, server, create, places)
    await asyncio.to_thread(run, server, restore, places)
    program = settings(tmp_path / "cli", copy)
    checked = await asyncio.to_thread(program, "audit", "verify", "--head", head)
    assert checked.code == 0, checked.out + checked.err

    restored = open_store(copy, SystemClock(), receivers={})
    await restored.open()
    try:
        assert [pause.kind for pause in await restored.controls()] == [ControlKind.PAUSE]
        assert len(await restored.audit(kind="audit.read", limit=100)) == 20
        [event] = await restored.audit(kind="control.paused")
        assert event.event.reason == "database_changed"
        await restored.seal()
        assert (await restored.verify(head)).whole
    finally:
        await restored.close()
