"""What the oracle keeps: the rows as it last saw them, and its own account of what they mean."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Host
from tests.simulation.policies import Spec

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

WATCHED = {
    "run": "id",
    "intent": "run",
    "effect": "id",
    "target_lock": "target_key",
    "control": "scope",
    "meta": "key",
}
"""Tables whose every change is looked at, and what says which row it was."""
RUN = (
    "SELECT id, policy, policy_revision, alert, target, target_key, mode, origin, state, outcome, reason, "
    "next_at, epoch, progress, worker, lease_until, created_at FROM run WHERE id = ?"
)
INTENTS = (
    "SELECT run, number, kind, policy, target_key, plan, token, nonce, rung, step, created_at, counted, "
    "outcome FROM intent WHERE run = ? ORDER BY number"
)
LOCKS = "SELECT target_key, run FROM target_lock"
CONTROLS = "SELECT kind, scope, until FROM control"
EFFECT = "SELECT id, run, target_key, field, prior, current, returned_at, outcome FROM effect WHERE id = ?"
KEPT = (
    "SELECT alert.fingerprint, alert_event.revision, (SELECT json_group_array(run.policy) FROM run_alert "
    "JOIN run ON run.id = run_alert.run WHERE run_alert.alert = alert.id) "
    "FROM alert LEFT JOIN alert_event ON alert_event.id = alert.event WHERE alert.id = ?"
)
BREAKER = "SELECT data FROM control WHERE kind = 'breaker' AND scope = ?"
APPROVED = (
    "SELECT plan, decided_at, expires_at, json_extract(data, '$.rung'), json_extract(data, '$.step') "
    "FROM approval WHERE run = ? AND decision = 'approved'"
)
LATE = (
    "SELECT 1 FROM audit_event WHERE run = ? AND kind = 'action.late' "
    "AND json_extract(body, '$.event.data.number') = ?"
)
ACTIVE = "SELECT value FROM meta WHERE key = 'active'"
FIRING = (
    "SELECT 1 FROM run_alert JOIN alert ON alert.id = run_alert.alert WHERE run = ? AND status = 'firing'"
)
LICENCE = {"observe": 0, "approve": 1, "enforce": 2}
ELSEWHERE = frozenset({"probe", "seal", "message_sent", "message_failed", "record"})
"""What they change is asked about in the end; anything else they did would be seen at the next look."""
JUMP = 30_000
"""Milliseconds: a clock that moves by so much more or less than time does is not to be trusted."""
IN_DOUBT = ("pending", "unknown")
REISSUED = {"sim.resize_by_token": 600.0, "sim.resize_if": float("inf")}
"""Which actions declare that the same call may be issued again, and for how many seconds."""
FORWARD = {
    "HOLD": {"HOLD", "GUARD", "APPROVAL", "ACTING"},
    "GUARD": {"GUARD", "APPROVAL", "ACTING", "REVERTING", "VERIFY"},
    "APPROVAL": {"APPROVAL", "GUARD", "ACTING"},
    "ACTING": {"ACTING", "SETTLING", "UNKNOWN", "GUARD", "VERIFY", "REVERTING"},
    "SETTLING": {"SETTLING", "GUARD", "APPROVAL", "ACTING", "VERIFY", "REVERTING"},
    "UNKNOWN": {"UNKNOWN", "SETTLING", "ACTING", "REVERTING", "GUARD"},
    "VERIFY": {"VERIFY", "GUARD", "APPROVAL", "ACTING", "REVERTING"},
    "REVERTING": {"REVERTING", "UNKNOWN"},
}
"""From each state to those that the design's graph leads to; moves that wait for nothing share one."""


@dataclass(frozen=True)
class Violation:
    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class R:
    """Columns of a run's row."""

    (ID, POLICY, REVISION, ALERT, TARGET, KEY, MODE, ORIGIN, STATE, OUTCOME, REASON, NEXT, EPOCH, PROGRESS,
     WORKER, LEASE, CREATED) = range(17)  # fmt: skip


class J:
    """Columns of an intent's row."""

    RUN, NUMBER, KIND, POLICY, KEY, PLAN, TOKEN, NONCE, RUNG, STEP, AT, COUNTED, OUTCOME = range(13)


class Ledger:
    """The state of the account, and how a breach is told."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.violation: Violation | None = None
        self._db: sqlite3.Connection | None = None
        self._changes = 0
        self._touched: defaultdict[str, set[Any]] = defaultdict(set)
        self.runs: dict[int, tuple[Any, ...]] = {}
        self.intents: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.locks: dict[str, int] = {}
        self.controls: dict[tuple[str, str], int | None] = {}
        self.effects: dict[int, tuple[Any, ...]] = {}
        self.active = ""
        self.by_token: dict[str, tuple[int, int]] = {}
        self.sends: Counter[str] = Counter()
        self.reissues: Counter[str] = Counter()
        self.accepted: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.written: set[int] = set()
        """readings (by their place in the provider's record) on which a move rests that was written"""
        self.told_of: set[tuple[int | None, int | None, str]] = set()
        """(incident, run, subject) of what reached a person"""
        self.freed: set[int] = set()
        """runs whose quarantine a person has cleared"""
        self.late: dict[tuple[int, int], Host] = {}
        """(run, number) → the process that heard, too late, what became of the call"""
        self.called: dict[tuple[int, int], tuple[int, Host]] = {}
        """(run, number) → under which claim, and by which process, its call was sent last"""
        self.looked: dict[Host, tuple[float, int]] = {}
        """process → when it last looked at the clock, and how far that had jumped then"""
        self.noticed: set[Host] = set()
        """processes that have seen a jump of the clock for which nobody has paused yet"""
        self.paused_itself = -1.0
        """when the daemon last did"""
        self.still_paused = False
        """whether that pause is still on"""
        self.oldest: dict[tuple[str, str], Any] = {}
        """(target, field) → the value from before all open leases"""

    def open(self, db: sqlite3.Connection) -> None:
        self._db = db

    def fail(self, invariant: str, text: str) -> None:
        if self.violation is None:
            self.violation = Violation(invariant, text)
            self.simulation.loop.stop()

    def _spec(self, run: tuple[Any, ...]) -> Spec | None:
        """The run's own policy: of the revision with which it started."""
        rules = self.simulation.sets.get(run[R.REVISION])
        return rules.specs.get(run[R.POLICY]) if rules is not None else None
