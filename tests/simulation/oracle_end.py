"""What must hold of alerts and messages, and in the end: rest, the record, and the chain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator.contracts import Receipt
from remediator.model import Alert, Message
from tests.simulation.link import suspended
from tests.simulation.oracle_ledger import (
    IN_DOUBT,
    KEPT,
    LATE,
    J,
    Ledger,
    R,
)

if TYPE_CHECKING:
    pass


class Ending(Ledger):
    """Asks when all is over."""

    def answered(self, alert: Alert, receipt: Receipt, revision: str) -> None:
        """A delivery was answered with 2xx."""
        self.accepted[(alert.fingerprint, alert.labels["alertname"])].update(receipt.alerts)
        self._kept(alert.fingerprint, set(receipt.alerts))

    def kept(self) -> None:
        """Every accepted alert is still there, and what policies wanted for it."""
        for (fingerprint, _), ids in self.accepted.items():
            self._kept(fingerprint, ids)

    def _kept(self, fingerprint: str, ids: set[int]) -> None:
        """These are stored, and have the runs that policies wanted for them."""
        db = self._db
        assert db is not None
        for id in ids:
            row = db.execute(KEPT, (id,)).fetchone()
            if row is None or row[0] != fingerprint:
                self.fail("an accepted alert is never lost", f"alert {id} {fingerprint}")
                return
            rules = self.simulation.sets.get(row[1])
            if rules is None:
                continue
            found = set(json.loads(row[2]))
            for spec in rules.specs.values():
                if fingerprint.startswith(f"{spec.alert}/") and spec.name not in found:
                    self.fail("an accepted alert is never lost", f"alert {id}: no run of {spec.name}")

    def told(self, name: str, message: Message) -> None:
        self.simulation.say(f"  told {name}: {message.subject}")
        self.simulation.count("told")
        self.told_of.add((message.incident, message.run, message.subject))

    # ------------------------------------------------------------ in the end

    def at_rest(self) -> bool:
        """Whether nothing is left to do."""
        db = self._db
        assert db is not None
        if any(run[R.OUTCOME] is None for run in self.runs.values()):
            return False
        now = self.simulation.now()
        if any(until is None or until > now for until in self.controls.values()):
            return False
        if any(effect[6] is None for effect in self.effects.values()):
            return False
        told = self._known_to_people()
        if not all(incidents & told for incidents in self._calling().values()):
            return False
        return db.execute("SELECT 1 FROM outbox WHERE sent_at IS NULL").fetchone() is None

    def finish(self) -> None:
        """What must be true when nothing goes wrong any more and time has passed."""
        db = self._db
        assert db is not None
        self.kept()
        for run in self.runs.values():
            if run[R.OUTCOME] is None:
                self.fail("every run comes to an end", f"run {run[R.ID]} {run[R.STATE]} {run[R.REASON]}")
        if self.locks:
            self.fail("an ended run holds no lock", f"{self.locks}")
        for effect in self.effects.values():
            if effect[6] is None:
                self.fail("every lease comes to an end", f"lease {effect[0]} on {effect[2]}")
        unsent = db.execute("SELECT id, attempts FROM outbox WHERE sent_at IS NULL").fetchall()
        if unsent:
            self.fail("the outbox drains", f"{unsent}")
        for place, host in self.late.items():
            if not host.running:
                continue  # it died with what it had heard
            self.simulation.count("came late")
            if db.execute(LATE, place).fetchone() is None:
                what = f"run {place[0]} #{place[1]} by {host}"
                self.fail("a late outcome is kept, and changes no state", what)
        seen = sorted(host.name for host in self.noticed if host.running)
        if seen:
            self.fail("a jump of the clock pauses", f"{', '.join(seen)} saw it")
        self._messages()
        for run in self.runs.values():
            self._replays(run)
        self._chain()

    def _messages(self) -> None:
        """What is called sent was sent, and every ending that needs a person has called one."""
        db = self._db
        assert db is not None
        for (text,) in db.execute("SELECT message FROM outbox ORDER BY id"):
            message = json.loads(text)
            about = (message.get("incident"), message.get("run"), message["subject"])
            if (message["chain"] or message.get("notifiers")) and about not in self.told_of:
                self.fail("a message is sent before it is called sent", f"{about}")
        known = self._known_to_people()
        for run, incidents in self._calling().items():
            if not incidents & known:
                self.fail("an ending that needs a person calls one", f"run {run} {self.runs[run][R.OUTCOME]}")

    def _known_to_people(self) -> set[int | None]:
        """Incidents that somebody was told of, or has taken without."""
        db = self._db
        assert db is not None
        taken = db.execute("SELECT id FROM incident WHERE acknowledged_at IS NOT NULL")
        return {incident for incident, _, _ in self.told_of} | {incident for (incident,) in taken}

    def _calling(self) -> dict[int, set[int]]:
        """Runs that ended so that a person must know, and the incidents they belong to."""
        db = self._db
        assert db is not None
        found: dict[int, set[int]] = {}
        for run in self.runs.values():
            ended = run[R.OUTCOME] in ("refused", "nothing_to_do", "reverted", "escalated")
            quiet = run[R.MODE] == "observe" or run[R.REASON] == "open_runs"
            if run[R.ORIGIN] == "lease":
                quiet = run[R.OUTCOME] != "escalated"
            if ended and not quiet:
                rows = db.execute("SELECT incident FROM incident_run WHERE run = ?", (run[R.ID],))
                found[run[R.ID]] = {incident for (incident,) in rows}
        return found

    def _replays(self, run: tuple[Any, ...]) -> None:
        """The audit log alone tells how the run ended, and what became of each call."""
        db = self._db
        assert db is not None
        outcome = reason = None
        created = False
        calls: dict[int, str] = {}
        for kind, body in db.execute(
            "SELECT kind, body FROM audit_event WHERE run = ? ORDER BY id", (run[R.ID],)
        ):
            event = json.loads(body)["event"]
            data = event.get("data") or {}
            number: int = data.get("number", -1)
            match kind:
                case "run.created":
                    created = True
                case "run.admitted":
                    calls[number] = "pending"
                case "action.applied" | "action.reverted":
                    calls[number] = "applied"
                case "action.unknown":
                    calls[number] = "unknown"
                case "action.failed" if calls.get(number, "") in IN_DOUBT:
                    calls[number] = "not_applied"
                case "action.reconciled" if "issued again" in (event.get("observed") or ""):
                    calls[number] = "pending"
            if kind in ENDINGS:
                created = created or event.get("reason") == "open_runs"
                outcome, reason = kind.removeprefix("run."), event.get("reason")
        told = (created, outcome, reason)
        if told != (True, run[R.OUTCOME], run[R.REASON]):
            self.fail(
                "the audit log tells every ending",
                f"run {run[R.ID]}: {told}, it is {run[R.OUTCOME]} {run[R.REASON]}",
            )
        stored = {
            intent[J.NUMBER]: intent[J.OUTCOME]
            for intent in self.intents.values()
            if intent[J.RUN] == run[R.ID]
        }
        if calls != stored:
            self.fail(
                "the audit log tells what became of every call", f"run {run[R.ID]}: {calls}, stored {stored}"
            )

    def _chain(self) -> None:
        store = self.simulation.store
        _, error = suspended(store.seal())
        report, second = suspended(store.verify())
        if error is not None or second is not None or not report.whole or report.unsealed:
            self.fail("the audit chain is whole", f"{error or second or report}")


ENDINGS = frozenset(
    f"run.{outcome}"
    for outcome in ("succeeded", "observed", "nothing_to_do", "reverted", "refused", "cancelled", "escalated")
)
