"""An installation on SQLite moves to PostgreSQL in the middle of everything, and goes on there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.installation import ROOT, Installation, firing
from tests.crash.provider import Provider
from tests.e2e.pager import ESCALATION, Pager
from tests.servers.postgres import Postgres

HELD = """
name: held
mode: enforce
from: [am]
match: [alertname="Held"]
for: 10s
remedies:
  - action: recorder.grow
    with: {{connection: recorder, name: "${{labels.queue}}", add: 2, max: 10, url: "{url}"}}
"""
LENT = """
name: lent
mode: enforce
from: [am]
match: [alertname="Lent"]
remedies:
  - action: recorder.grow
    with: {{connection: recorder, name: "${{labels.queue}}", add: 2, max: 10, url: "{url}"}}
    expires: 12s
verify:
  within: 2m
  every: 1s
  checks: [{{check: alert.firing, with: {{}}, is: "== 0"}}]
escalate: on-call
"""
REFUSED = """
name: refused
mode: enforce
from: [am]
match: [alertname="Refused"]
remedies:
  - action: recorder.grow
    with: {{connection: recorder, name: "${{labels.missing}}", add: 2, max: 10, url: "{url}"}}
escalate: on-call
"""


def program(daemon: Installation, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "remediator", "--config", str(daemon.config), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=daemon.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def one(daemon: Installation, policy: str) -> dict[str, Any]:
    return next(run for run in daemon.runs() if run["policy"] == policy)


@pytest.mark.slow
def test_it_goes_on_on_postgresql(tmp_path: Path) -> None:
    with (
        Postgres() as server,
        Provider() as provider,
        Pager() as pager,
        Installation(
            tmp_path,
            {
                "held.yaml": HELD.format(url=provider.url),
                "lent.yaml": LENT.format(url=provider.url),
                "refused.yaml": REFUSED.format(url=provider.url),
                "escalation.yaml": ESCALATION,
            },
            connections={"recorder": {"kind": "http", "url": provider.url}},
            plugins=["tests.crash.plugin"],
            notifiers={"person": {"url": "json://127.0.0.1:1"}},  # nobody is there yet
        ) as daemon,
    ):
        lent = firing("Lent", queue="b")
        daemon.start()
        assert daemon.post(firing("Held", queue="a"), lent, firing("Refused", queue="c")) == 200
        daemon.until(lambda: one(daemon, "lent")["state"] == "VERIFY", "it verifies")
        daemon.until(lambda: one(daemon, "refused")["outcome"] is not None, "it is refused, and tells")
        assert one(daemon, "held")["state"] == "HOLD"
        code, _, said = program(daemon, "store", "copy", "--to", server.superuser_dsn)
        assert code == 3
        assert "held by process" in said
        daemon.stop()
        before = daemon.config.read_text()

        code, out, said = program(daemon, "store", "copy", "--to", server.superuser_dsn, "--output", "json")
        assert code == 0, said
        copied = json.loads(out)
        assert copied["rows"]["run"] == 3
        assert copied["rows"]["effect"] == 1
        assert copied["rows"]["outbox"] >= 1
        head = copied["audit"]["head"]
        code, _, said = program(daemon, "store", "copy", "--to", server.superuser_dsn)
        assert code == 1
        assert "holds rows already" in said
        code, _, said = program(daemon, "serve")
        assert code != 0
        assert "was copied to postgresql://" in said

        settings = before.replace(f"sqlite:///{daemon.database}", server.superuser_dsn)
        daemon.config.write_text(settings.replace("json://127.0.0.1:1", pager.notifiers["person"]["url"]))
        daemon.start()
        lent["status"] = "resolved"
        lent["endsAt"] = lent["startsAt"]
        assert daemon.post(lent) == 200  # known there: this ends the episode that SQLite took
        daemon.until(lambda: one(daemon, "lent")["outcome"] == "succeeded", "it is healed")
        daemon.until(lambda: one(daemon, "held")["outcome"] is not None, "the hold ends", seconds=40)
        assert one(daemon, "held")["outcome"] == "succeeded"
        daemon.until(lambda: provider.sizes["b"] == 1, "the lease ends", seconds=40)
        daemon.until(lambda: len(pager.messages) >= 1, "the message arrives", seconds=40)
        assert [call["name"] for call in provider.calls].count("a") == 1
        assert provider.twice() == []
        story = daemon.get(f"alerts/{one(daemon, 'lent')['alert']}/explain")
        assert "run.admitted" in json.dumps(story)
        assert "run.succeeded" in json.dumps(story)
        code, out, said = program(daemon, "audit", "verify", "--head", head)
        assert code == 0, out + said
        with psycopg.connect(server.superuser_dsn) as connection:
            moved = connection.execute("SELECT count(*) FROM audit_event WHERE kind = 'store.copied'")
            assert moved.fetchone() == (1,)


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    with Installation(tmp_path, {}) as daemon:
        url = f"sqlite:///{daemon.database}"
        for words, code, said in (
            (("copy", "--to", "postgresql://nobody@127.0.0.1:1/none"), 3, "there is no store at"),
            (("copy", "--to", url), 2, "is the store of the settings"),
            (("copy", "--to", "mysql://root@db/x"), 2, "--to: not a store; allowed: sqlite:///"),
            (("migrate", "--check"), 1, ""),
            (("migrate",), 0, ""),
            (("copy", "--to", "postgresql://nobody@127.0.0.1:1/none"), 3, "look at the server and at --to"),
            (("copy", "--to", f"sqlite:///{tmp_path}/no/such.db"), 2, "--to: the directory"),
            (("copy", "--to", "postgresql://h/x?nonsense=1"), 2, "--to: not an address of PostgreSQL"),
            (("copy", "--to", f"sqlite:///{tmp_path}"), 2, "is a directory"),
            (("copy", "--to", f"sqlite:///{tmp_path}/other.db"), 0, ""),
            (("migrate", "--check"), 0, ""),
            (("reopen", "--comment", " "), 2, "--comment is empty"),
            (("reopen", "--comment", "x"), 0, ""),
            (("reopen", "--comment", "x"), 1, ""),
        ):
            answer = program(daemon, "store", *words)
            assert answer[0] == code, (words, answer)
            assert said in answer[2], (words, answer)
            # Whoever names a wrong destination is not sent to his settings.
            assert "store.url" not in answer[2], (words, answer)
