"""A store that the daemon must not trust: it does not start, names what is wrong, and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.scene import Scene
from tests.servers.fuse import Fuse
from tests.servers.ports import free_port
from tests.servers.postgres import Postgres


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def nobody_listens(stack: ExitStack, home: Path) -> str:
    return f"postgresql://bob:hunter2@127.0.0.1:{free_port()}/remediator"


def does_not_sync(stack: ExitStack, home: Path) -> str:
    return stack.enter_context(Postgres(settings={"fsync": "off"})).superuser_dsn


def commits_without_sync(stack: ExitStack, home: Path) -> str:
    return stack.enter_context(Postgres(settings={"synchronous_commit": "off"})).superuser_dsn


def of_a_newer_version(stack: ExitStack, home: Path) -> str:
    path = home / "newer.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alert_event (id INTEGER)")
        connection.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    return f"sqlite:///{path}"


def gone(stack: ExitStack, home: Path) -> str:
    path = home / "gone.db"
    first = stack.enter_context(Scene(home / "first", store={"url": f"sqlite:///{path}"}))
    first.daemon.start()
    assert first.daemon.stop() == 0
    path.unlink()
    return f"sqlite:///{path}"


def on_a_network(stack: ExitStack, home: Path) -> str:
    (place := home / "share").mkdir()
    return f"sqlite:///{stack.enter_context(Fuse(place, 'fuse.sshfs')).place}/remediator.db"


REFUSED: dict[Callable[[ExitStack, Path], str], list[str]] = {
    nobody_listens: ["connection refused", "store.url"],
    does_not_sync: ["fsync = off", "set fsync = on"],
    commits_without_sync: ["synchronous_commit = off", "set synchronous_commit = on"],
    of_a_newer_version: ["version 9999", "start the newer version"],
    on_a_network: [
        "share is on a network file system (fuse.sshfs)",
        "put it on a local disk, or use postgresql",
    ],
    gone: ["gone.db is gone, and was here", "restore a backup"],
}


@pytest.mark.parametrize("store", list(REFUSED))
def test_it_does_not_start(tmp_path: Path, stack: ExitStack, store: Callable[[ExitStack, Path], str]) -> None:
    url = store(stack, tmp_path)
    with Scene(tmp_path / "home", store={"url": url}) as place:
        process = place.daemon.start(wait=False)
        assert process.wait(20) == 1
        said = " ".join(process.tail().lower().split())
        for words in REFUSED[store]:
            assert words.lower() in said, said
        assert "hunter2" not in said
        assert "traceback" not in said
    if url.startswith("sqlite"):
        assert "gone.db" not in {path.name for path in tmp_path.iterdir()}
