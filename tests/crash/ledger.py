"""Reads what a campaign left in its store, from the tables themselves: the judge trusts no API."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import psycopg
from psycopg.rows import dict_row


class Ledger:
    """All rows that the judge asks for, read once. The daemons have ended, or nothing happens any more.

    Args:
        store: `sqlite:///path` or `postgresql://…`.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self.runs = {row["id"]: row for row in self._rows("SELECT * FROM run ORDER BY id")}
        self.intents = self._rows("SELECT * FROM intent ORDER BY created_at, id")
        for intent in self.intents:
            intent["plan"] = json.loads(intent["plan"])
        self.alerts = self._rows("SELECT * FROM alert")
        self.attached = {(row["run"], row["alert"]) for row in self._rows("SELECT * FROM run_alert")}
        self.approvals = self._rows("SELECT * FROM approval ORDER BY id")
        for asked in self.approvals:
            asked["plan"], asked["data"] = json.loads(asked["plan"]), json.loads(asked["data"])
        self.revisions = {
            row["hash"]: json.loads(row["files"])
            for row in self._rows("SELECT hash, files FROM policy_revision")
        }
        """hash → the texts of that set"""
        self.effects = self._rows("SELECT * FROM effect")
        self.locks = self._rows("SELECT * FROM target_lock")
        self.quarantined = {
            row["scope"] for row in self._rows("SELECT scope FROM control WHERE kind = 'quarantine'")
        }
        self.events = [
            {**json.loads(bytes(row["body"]))["event"], "id": row["id"], "at": row["at"]}
            for row in self._rows("SELECT id, at, body FROM audit_event ORDER BY id")
        ]
        self.of_token = {intent["token"]: intent for intent in self.intents}

    def events_of(self, *kinds: str) -> list[dict[str, Any]]:
        """The audit events of these kinds, oldest first."""
        return [event for event in self.events if event["kind"] in kinds]

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        if self._store.startswith("sqlite"):
            path = self._store.removeprefix("sqlite:///")
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as there:
                there.row_factory = sqlite3.Row
                found = [dict(row) for row in there.execute(sql)]
            there.close()
            return found
        with psycopg.connect(self._store, row_factory=dict_row) as link:
            return list(link.execute(sql.encode()).fetchall())
