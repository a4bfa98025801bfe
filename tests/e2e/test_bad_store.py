"""A PostgreSQL that cannot be used: named, with the exit code for it, and no password told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.cli.program import Program
from tests.servers.ports import free_port
from tests.servers.postgres import Postgres

SETTINGS = 'server: {port: 0}\nstore: {url: "URL"}\npolicies: {dir: policies}\n'


@pytest.fixture(scope="module")
def unsafe() -> Iterator[Postgres]:
    with Postgres(settings={"fsync": "off"}) as server:
        yield server


@pytest.mark.parametrize(
    ("what", "said", "read"),
    [
        ("does not sync", "fsync = off: a crash of the server would lose", 2),
        ("nobody there", "look at the server and at store.url", 3),
        ("no such database", 'database "absent" does not exist', 3),
    ],
)
def test_a_store_that_cannot_be_used_is_named(
    tmp_path: Path, unsafe: Postgres, what: str, said: str, read: int
) -> None:
    url = {
        "does not sync": unsafe.superuser_dsn.replace("postgres@", "postgres:secret-word@"),
        "nobody there": f"postgresql://remediator:secret-word@127.0.0.1:{free_port()}/remediator",
        "no such database": unsafe.dsn(dbname="absent").replace("postgres@", "postgres:secret-word@"),
    }[what]
    (tmp_path / "policies").mkdir()
    (tmp_path / "remediator.yaml").write_text(SETTINGS.replace("URL", url))
    program = Program(tmp_path, {})
    for words, code in ((("serve",), 1), (("store", "migrate"), read), (("runs", "list"), read)):
        answer = program(*words)
        assert answer.code == code, (words, answer)
        assert said in answer.err, (words, answer)
        assert "secret-word" not in answer.out + answer.err
        assert "Traceback" not in answer.err


def test_anothers_database_is_left_alone(tmp_path: Path) -> None:
    with Postgres() as server:
        with psycopg.connect(server.superuser_dsn) as connection:
            connection.execute("CREATE TABLE theirs (id int)")
        (tmp_path / "policies").mkdir()
        (tmp_path / "remediator.yaml").write_text(SETTINGS.replace("URL", server.superuser_dsn))
        answer = Program(tmp_path, {})("serve")
        assert answer.code == 1
        assert "holds other tables (theirs)" in answer.err
        with psycopg.connect(server.superuser_dsn) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            assert tables.fetchall() == [("theirs",)]
