"""What `doctor` and `store migrate --check` say of a store before a daemon is started on it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.cli.program import Answer, Program
from tests.e2e.pager import Pager
from tests.servers.ports import free_port


def asked(home: Path, url: str, *verb: str) -> Answer:
    (home / "policies").mkdir(exist_ok=True)
    (home / "remediator.yaml").write_text(f'store: {{url: "{url}"}}\n')
    return Program(home, {})(*verb, "-o", "json")


def store(home: Path, url: str) -> tuple[bool, str]:
    (found,) = [one for one in asked(home, url, "doctor").json if one["kind"] == "store"]
    return found["ok"], found["found"]


def test_doctor_says_how_the_store_stands_and_makes_none(tmp_path: Path) -> None:
    here = "sqlite:///./remediator.db"
    assert store(tmp_path, here) == (True, "empty; the daemon makes its tables when it starts")
    assert not (tmp_path / "remediator.db").exists()
    assert asked(tmp_path, here, "store", "migrate").code == 0
    well, said = store(tmp_path, here)
    assert well
    assert said.startswith("schema 0")


def test_a_store_that_cannot_be_used_is_not_well(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    nowhere = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d"
    for url, why in (
        ("sqlite:///./shop.db", "other tables (orders)"),
        ("sqlite:///./absent/r.db", "does not exist; create it first"),
        (nowhere, "look at the server and at store.url"),
    ):
        well, said = store(tmp_path, url)
        assert not well, url
        assert why in said
        assert "hunter2" not in said


def become(home: Path, found: str, oldest_code: str) -> None:
    """What a newer version's migration leaves."""
    with sqlite3.connect(home / "r.db") as file:
        file.execute("UPDATE alembic_version SET version_num = ?", (found,))
        file.execute("UPDATE meta SET value = ? WHERE key = 'oldest_code'", (oldest_code,))


def test_a_newer_schema_is_well_only_where_this_version_may_work_on_it(tmp_path: Path) -> None:
    here = "sqlite:///./r.db"
    assert asked(tmp_path, here, "store", "migrate").code == 0
    become(tmp_path, "9999", "0001")
    well, said = store(tmp_path, here)
    assert well
    assert said.startswith("schema 9999, newer than 0")
    for verb in (("store", "migrate", "--check"), ("store", "migrate")):
        answer = asked(tmp_path, here, *verb)
        assert (answer.code, answer.json["from"]) == (0, "9999")
    become(tmp_path, "9999", "9000")
    well, said = store(tmp_path, here)
    assert not well
    assert "the oldest that may work on it is 9000: start the newer version" in said
    refused = asked(tmp_path, here, "store", "migrate", "--check")
    assert refused.code == 2
    assert "the oldest that may work on it is 9000: start the newer version" in refused.err


def test_who_asks_in_the_wrong_directory_is_told_so(tmp_path: Path) -> None:
    said = Program(tmp_path, {})("alerts", "list")
    assert said.code == 3
    assert "There is no remediator.yaml here" in said.err
    assert "--config" in said.err
    (tmp_path / "remediator.yaml").write_text('store: {url: "sqlite:///./r.db"}\n')
    assert "remediator.yaml" not in Program(tmp_path, {})("alerts", "list").err


def test_a_test_message_reaches_the_notifier_that_is_named_and_no_other(tmp_path: Path) -> None:
    with Pager() as named, Pager() as other:
        (tmp_path / "remediator.yaml").write_text(
            f"notifiers:\n  primary: {{url: '{named.notifiers['person']['url']}'}}\n"
            f"  status-page: {{url: '{other.notifiers['person']['url']}'}}\n"
        )
        found = {one["name"]: one for one in Program(tmp_path, {})("doctor", "-o", "json").json}
        assert found["primary"]["ok"]
        assert (named.messages, other.messages) == ([], [])
        said = Program(tmp_path, {})("doctor", "--send", "primary", "-o", "json")
        found = {one["name"]: one for one in said.json}
        assert found["primary"] == {
            "kind": "notifier",
            "name": "primary",
            "ok": True,
            "found": "its address is understood; a test was sent",
        }
        (message,) = named.messages
        assert "Test message" in message["title"]
        assert "nothing is to be done" in message["message"]
        assert other.messages == []
        wrong = Program(tmp_path, {})("doctor", "--send", "primery")
        assert wrong.code == 2
        assert "did you mean 'primary'?" in wrong.err
    dead = {
        one["name"]: one for one in Program(tmp_path, {})("doctor", "--send", "primary", "-o", "json").json
    }
    assert not dead["primary"]["ok"]
    assert "not delivered" in dead["primary"]["found"]


def test_a_check_tells_a_place_that_is_not_there_from_a_store_to_be_made(tmp_path: Path) -> None:
    assert asked(tmp_path, "sqlite:///./r.db", "store", "migrate", "--check").code == 1
    absent = asked(tmp_path, "sqlite:///./absent/r.db", "store", "migrate", "--check")
    assert absent.code == 2
    assert "does not exist" in absent.err
    nowhere = asked(tmp_path, "sqlite:////proc/r.db", "store", "migrate")
    assert nowhere.code == 2
    assert "/proc/r.db" in nowhere.err
