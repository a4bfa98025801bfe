"""What must hold, written from the design's text and not from the code that enforces it.

The oracle reads the tables after every request that changed something, and hears of every call that leaves
for the provider and of every effect. It keeps its own account of policies (as numbers), budgets, locks and
leases. docs/invariants.md lists what it asks; the names there are the ones used here.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediator.contracts import Receipt
from remediator.model import Alert, Message, Run
from tests.simulation.loop import Host
from tests.simulation.policies import KEYS, MOST, WINDOW, Rules, Spec

if TYPE_CHECKING:
    from tests.simulation.provider import Call
    from tests.simulation.simulation import Simulation

RUNS = (
    "SELECT id, policy, policy_revision, alert, target, target_key, mode, origin, state, outcome, reason, "
    "next_at, epoch, progress, worker, lease_until, created_at FROM run"
)
INTENTS = (
    "SELECT run, number, kind, policy, target_key, plan, token, nonce, rung, step, created_at, counted, "
    "outcome FROM intent ORDER BY run, number"
)
LOCKS = "SELECT target_key, run FROM target_lock"
CONTROLS = "SELECT kind, scope, until FROM control"
EFFECTS = "SELECT id, run, target_key, field, prior, current, returned_at, outcome FROM effect"
POLICIES = "SELECT policy FROM run JOIN run_alert ON run_alert.run = run.id WHERE run_alert.alert = ?"
BREAKER = "SELECT data FROM control WHERE kind = 'breaker' AND scope = ?"
APPROVED = "SELECT plan, decided_at, expires_at FROM approval WHERE run = ? AND decision = 'approved'"
ACTIVE = "SELECT value FROM meta WHERE key = 'active'"
FIRING = (
    "SELECT 1 FROM run_alert JOIN alert ON alert.id = run_alert.alert WHERE run = ? AND status = 'firing'"
)
LICENCE = {"observe": 0, "approve": 1, "enforce": 2}
ELSEWHERE = frozenset({"probe", "seal", "message_sent", "message_failed", "record"})
"""What they change is asked about in the end; anything else they did would be seen at the next look."""
IN_DOUBT = ("pending", "unknown")
REISSUED = {"sim.resize_by_token": 600.0, "sim.resize_if": float("inf")}
"""Which actions declare that the same call may be issued again, and for how many seconds."""
FORWARD = {
    "HOLD": {"HOLD", "GUARD", "APPROVAL", "ACTING"},
    "GUARD": {"GUARD", "APPROVAL", "ACTING", "REVERTING", "VERIFY"},
    "APPROVAL": {"APPROVAL", "GUARD", "ACTING"},
    "ACTING": {"ACTING", "SETTLING", "UNKNOWN", "GUARD", "VERIFY", "REVERTING"},
    "SETTLING": {"SETTLING", "GUARD", "ACTING", "VERIFY", "REVERTING"},
    "UNKNOWN": {"UNKNOWN", "SETTLING", "ACTING", "REVERTING", "GUARD"},
    "VERIFY": {"VERIFY", "GUARD", "ACTING", "REVERTING"},
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


class Oracle:
    """Watches one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.violation: Violation | None = None
        self._db: sqlite3.Connection | None = None
        self._changes = 0
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

    # ------------------------------------------------------------ after every request

    def step(self, host: Host, name: str, args: tuple[Any, ...], value: Any, error: Exception | None) -> None:
        db = self._db
        assert db is not None
        if db.total_changes == self._changes:
            return
        failed = f" {type(error).__name__}" if error is not None else ""
        self.simulation.say(f"{host.name} {name}{failed} {_about(args)}".rstrip())
        if name in ELSEWHERE:
            self._changes = db.total_changes
        else:
            self.look(name, host, args)

    def worked_on(self, state: str) -> bool:
        """Whether some process has a run in this state in its hands."""
        return any(
            run[R.OUTCOME] is None and run[R.LEASE] is not None and run[R.STATE] == state
            for run in self.runs.values()
        )

    def look(self, name: str, host: Host | None = None, args: tuple[Any, ...] = ()) -> None:
        """Read the tables and ask everything of what has changed."""
        db = self._db
        assert db is not None
        self._changes = db.total_changes
        now = self.simulation.now()
        locks: dict[str, int] = dict(db.execute(LOCKS).fetchall())
        controls = {(kind, scope): until for kind, scope, until in db.execute(CONTROLS)}
        active = (db.execute(ACTIVE).fetchone() or ("",))[0]
        runs = {row[0]: row for row in db.execute(RUNS)}
        intents = {(row[0], row[1]): row for row in db.execute(INTENTS)}
        effects = {row[0]: row for row in db.execute(EFFECTS)}
        before = self.runs, self.intents, self.locks, self.controls, self.effects
        self._cleared(controls, now)
        self.runs, self.intents, self.locks, self.controls, self.effects = (
            runs,
            intents,
            locks,
            controls,
            effects,
        )
        self.active = active
        for key, intent in intents.items():
            was = before[1].get(key)
            if was is None:
                self._admitted(intent, before, now)
            elif was != intent:
                self._decided(was, intent, now)
        for id, run in runs.items():
            old = before[0].get(id)
            if old is not run and old != run:
                if old is None:
                    self._opened(run)
                else:
                    self._moved(old, run, name, host, args, now)
        for id, effect in effects.items():
            if before[4].get(id) != effect:
                self._lease(before[4].get(id), effect)
        if len(effects) < len(before[4]) or len(intents) < len(before[1]) or len(runs) < len(before[0]):
            self.fail("nothing stored is lost", "a row is gone")
        self._held(locks, now)

    # ------------------------------------------------------------ ADMIT

    def _admitted(self, intent: tuple[Any, ...], before: tuple[Any, ...], now: int) -> None:
        runs, intents, locks, controls, _ = before
        run = runs.get(intent[J.RUN])
        plan = json.loads(intent[J.PLAN])
        what = f"run {intent[J.RUN]} #{intent[J.NUMBER]} {intent[J.KIND]} {plan['action']} on {intent[J.KEY]}"
        self.simulation.count(f"intent:{intent[J.KIND]}")
        self.simulation.say(f"  intent {what} {plan['before']} -> {plan['after']}")
        if run is None or run[R.OUTCOME] is not None:
            self.fail("an intent belongs to an open run", what)
            return
        if intent[J.TOKEN] in self.by_token:
            self.fail("an intent's call is issued at most once", f"{what}: its token is another intent's")
        self.by_token[intent[J.TOKEN]] = (intent[J.RUN], intent[J.NUMBER])
        self._brakes(intent, run, controls, now, what)
        holder = locks.get(intent[J.KEY])
        if holder not in (None, run[R.ID]) and runs[holder][R.OUTCOME] is None:
            self.fail("one run at a time on one target", f"{what}: run {holder} holds it")
        if run[R.MODE] == "observe":
            self.fail("observe mode acts on nothing", what)
        if intent[J.KIND] != "apply":
            return
        spec = self._spec(run)
        rules = self.simulation.sets.get(self.active)
        licence = rules.specs.get(run[R.POLICY]) if rules is not None else None
        if spec is None or rules is None:
            self.fail("nothing acts under an inactive policy", f"{what}: no such policies")
            return
        acted = any(
            other[J.OUTCOME] == "applied" and other[J.RUN] == run[R.ID] and other[J.KIND] == "apply"
            for other in intents.values()
        )
        if not acted:
            if licence is None or LICENCE[licence.mode] < LICENCE[run[R.MODE]]:
                self.fail("nothing acts under an inactive policy", what)
            db = self._db
            assert db is not None
            if run[R.ORIGIN] == "alert" and db.execute(FIRING, (run[R.ID],)).fetchone() is None:
                self.fail("a resolve before ADMIT cancels", what)
            self._licence(intent, plan, run, controls, what)
        self._bounds(intent, plan, spec, intents, what)
        place = (intent[J.RUN], intent[J.RUNG], intent[J.STEP])
        further = any(
            (other[J.RUN], other[J.RUNG], other[J.STEP]) == place and other[J.OUTCOME] == "applied"
            for other in intents.values()
        )
        if not further:
            self._calm(intent, run, rules, controls, now, what)
            self._budgets(intent, spec, rules, runs, intents, locks, now, what)

    def _brakes(
        self, intent: tuple[Any, ...], run: tuple[Any, ...], controls: dict[Any, Any], now: int, what: str
    ) -> None:
        names = {f"target:{intent[J.KEY]}", f"target:{run[R.TARGET]}"}
        paused = {"", f"policy:{run[R.POLICY]}"} | names
        for (kind, scope), until in controls.items():
            if until is not None and until <= now:
                continue
            if kind == "pause" and scope in paused:
                self.fail("nothing acts while paused", f"{what}: {scope or 'the daemon'} is paused")
            if kind == "quarantine" and scope in names:
                self.fail("nothing acts on a quarantined target", what)

    def _licence(
        self,
        intent: tuple[Any, ...],
        plan: dict[str, Any],
        run: tuple[Any, ...],
        controls: dict[Any, Any],
        what: str,
    ) -> None:
        """What needs a person's yes has one, for just this: the same target, and no more of it."""
        db = self._db
        assert db is not None
        least = run[R.MODE]
        if ("breaker", f"policy:{run[R.POLICY]}") in controls:
            row = db.execute(BREAKER, (f"policy:{run[R.POLICY]}",)).fetchone()
            demoted = json.loads(row[0])["demote_to"]
            least = min(least, demoted, key=lambda mode: LICENCE[mode])
        if least == "observe":
            self.fail("a policy that does not heal loses its licence", what)
        if least != "approve":
            return
        for text, decided_at, expires_at in db.execute(APPROVED, (run[R.ID],)):
            approved = json.loads(text)
            same = approved["target"]["key"] == intent[J.KEY] and approved["action"] == plan["action"]
            if same and decided_at < expires_at and plan["blast"]["amount"] <= approved["blast"]["amount"]:
                self.simulation.count("approved")
                return
        self.fail("what needs approval is approved, in time and for this plan", what)

    def _calm(
        self,
        intent: tuple[Any, ...],
        run: tuple[Any, ...],
        rules: Rules,
        controls: dict[Any, Any],
        now: int,
        what: str,
    ) -> None:
        """No action starts in a window or a storm."""
        begins, ends, key = WINDOW
        minute = now // 60_000 % 1_440
        if rules.window and intent[J.KEY] == key and begins <= minute < ends:
            self.fail("no action starts in a window", f"{what}: minute {minute}")
        until = controls.get(("storm", "sender:am"))
        if rules.storm is not None and run[R.ORIGIN] == "alert" and until is not None and until > now:
            self.fail("no action starts in a storm", what)

    def _bounds(
        self, intent: tuple[Any, ...], plan: dict[str, Any], spec: Spec, intents: dict[Any, Any], what: str
    ) -> None:
        amount = plan["blast"]["amount"]
        for other in intents.values():
            same = (other[J.RUN], other[J.RUNG], other[J.STEP]) == (
                intent[J.RUN],
                intent[J.RUNG],
                intent[J.STEP],
            )
            if same and other[J.OUTCOME] == "applied" and other[J.KIND] == "apply":
                amount += json.loads(other[J.PLAN])["blast"]["amount"]
        after = plan["after"].get("size", 0)
        if amount > spec.blast or after > MOST or after - plan["before"].get("size", 0) > 8:
            self.fail("blast radius and bounds", f"{what}: {amount} to {after}")

    def _budgets(
        self,
        intent: tuple[Any, ...],
        spec: Spec,
        rules: Rules,
        runs: dict[int, Any],
        intents: dict[Any, Any],
        locks: dict[str, int],
        now: int,
        what: str,
    ) -> None:
        """Every intent that may have changed something counts, but for the further steps of one action."""
        counted: list[tuple[int, str, str]] = []
        places: set[tuple[Any, ...]] = set()
        for other in intents.values():
            if other[J.OUTCOME] == "not_applied":
                continue
            place = (other[J.RUN], other[J.RUNG], other[J.STEP])
            if other[J.KIND] == "apply":
                if place in places:
                    continue
                places.add(place)
            counted.append((other[J.AT], other[J.POLICY], other[J.KEY]))
        own, key = intent[J.POLICY], intent[J.KEY]
        for scope, (most, window), times in (
            ("global", rules.budget, [at for at, _, _ in counted]),
            ("policy", spec.budget, [at for at, policy, _ in counted if policy == own]),
            ("target", spec.per_target, [at for at, _, target in counted if target == key]),
        ):
            used = sum(at > now - window * 1000 for at in times)
            if used >= most:
                self.fail(
                    "sliding budgets hold", f"{what}: {used} in {window}s already, {scope} allows {most}"
                )
        for other in intents.values():
            if (
                other[J.KEY] == key
                and other[J.RUN] != intent[J.RUN]
                and other[J.OUTCOME] != "not_applied"
                and other[J.AT] > now - spec.cooldown * 1000
            ):
                self.fail("cooldown", f"{what}: run {other[J.RUN]} acted {now - other[J.AT]} ms ago")
        holders = {run for run in locks.values() if run in runs and runs[run][R.OUTCOME] is None} - {
            intent[J.RUN]
        }
        same = sum(runs[run][R.POLICY] == own for run in holders)
        if same >= spec.concurrent or len(holders) >= rules.concurrent:
            self.fail("concurrency", f"{what}: {same} of the policy and {len(holders)} in all act")

    def _decided(self, was: tuple[Any, ...], intent: tuple[Any, ...], now: int) -> None:
        what = f"run {intent[J.RUN]} #{intent[J.NUMBER]}: {was[J.OUTCOME]} -> {intent[J.OUTCOME]}"
        self.simulation.say(f"  {what}")
        self.simulation.count(f"outcome:{intent[J.OUTCOME]}")
        if was[: J.OUTCOME] != intent[: J.OUTCOME]:
            self.fail("nothing stored is lost", f"{what}: an intent was rewritten")
        if was[J.OUTCOME] in ("applied", "not_applied"):
            self.fail("an outcome once known stays", what)
        if intent[J.OUTCOME] == "not_applied":
            for call in self.simulation.provider.calls:
                if call.token == intent[J.TOKEN] and (call.applied or call.pending):
                    self.fail("what is said not to be applied is not", f"{what}: {call.applied} effects")
        if intent[J.OUTCOME] == "pending":
            action = json.loads(intent[J.PLAN])["action"]
            valid = REISSUED.get(action)
            self.simulation.count("reissued")
            self.reissues[intent[J.TOKEN]] += 1
            if valid is None or now - intent[J.AT] >= valid * 1000:
                self.fail(
                    "an intent's call is issued at most once", f"{what}: {action} may not be issued again"
                )
            self._brakes(intent, self.runs[intent[J.RUN]], self.controls, now, what)

    # ------------------------------------------------------------ runs

    def _opened(self, run: tuple[Any, ...]) -> None:
        self.simulation.say(f"  run {run[R.ID]} of {run[R.POLICY]} on {run[R.TARGET]} ({run[R.ORIGIN]})")
        self.simulation.count(f"run:{run[R.ORIGIN]}")
        if run[R.OUTCOME] is not None:
            self._ended(run, None)
        if run[R.ORIGIN] == "lease":
            return
        for other in self.runs.values():
            if other[R.ID] == run[R.ID] or other[R.ORIGIN] == "lease" or other[R.POLICY] != run[R.POLICY]:
                continue
            if other[R.ALERT] == run[R.ALERT]:
                self.fail("one run per policy and episode", f"runs {other[R.ID]} and {run[R.ID]}")
            both_open = other[R.OUTCOME] is None and run[R.OUTCOME] is None
            if both_open and other[R.TARGET] == run[R.TARGET] and run[R.TARGET] is not None:
                self.fail("one open run per policy and target", f"runs {other[R.ID]} and {run[R.ID]}")

    def _moved(
        self,
        old: tuple[Any, ...],
        run: tuple[Any, ...],
        name: str,
        host: Host | None,
        args: tuple[Any, ...],
        now: int,
    ) -> None:
        what = f"run {run[R.ID]} {old[R.STATE]} -> {run[R.STATE]}"
        if old[R.STATE] != run[R.STATE] or old[R.OUTCOME] != run[R.OUTCOME] or old[R.REASON] != run[R.REASON]:
            self.simulation.say(f"  {what} {run[R.OUTCOME] or ''} {run[R.REASON] or ''}")
            self.simulation.count(f"state:{run[R.STATE]}")
            if run[R.REASON] and run[R.OUTCOME] is None:
                self.simulation.count(f"waits:{run[R.REASON]}")
        if old[R.OUTCOME] is not None:
            self.fail("an ended run stays as it ended", f"{what} by {name}")
        if old[: R.TARGET + 1] != run[: R.TARGET + 1] or old[R.MODE] != run[R.MODE]:
            self.fail("nothing stored is lost", f"{what}: a run was rewritten by {name}")
        if run[R.STATE] not in FORWARD[old[R.STATE]]:
            self.fail("a run moves along the graph", what)
        substance = (R.STATE, R.OUTCOME, R.REASON, R.PROGRESS)
        changed = any(old[column] != run[column] for column in substance)
        if name in ("move", "admit") and args:
            claimed: Run = args[0]
            if claimed.epoch != old[R.EPOCH] or (host is not None and old[R.WORKER] not in (None, host.name)):
                self.fail(
                    "a zombie changes no state",
                    f"{what}: {host} wrote with {claimed.epoch}, it is {old[R.EPOCH]} of {old[R.WORKER]}",
                )
            if changed and old[R.LEASE] is None:
                self.fail("a zombie changes no state", f"{what}: {host} wrote without a claim")
            if name == "move" and host is not None:
                self._rests_on(run, host)
        elif name == "claim":
            if changed or run[R.EPOCH] != old[R.EPOCH] + 1:
                self.fail("a claim only claims", what)
            if old[R.LEASE] is not None and old[R.LEASE] > now:
                self.fail("a claim lasts until its lease ends", f"{what}: taken from {old[R.WORKER]}")
        elif name == "cancel":
            acted = any(
                intent[J.RUN] == run[R.ID] and intent[J.OUTCOME] != "not_applied"
                for intent in self.intents.values()
            )
            if acted:
                self.fail("a person cancels only what has not acted", what)
        elif changed:
            self.fail("a zombie changes no state", f"{what} by {name}")
        if json.loads(run[R.PROGRESS]).get("faults", 0):
            db = self._db
            assert db is not None
            seen = db.execute("SELECT observed FROM run WHERE id = ?", (run[R.ID],)).fetchone()[0]
            self.fail("the engine never breaks off", f"{what}: {seen}")
        if run[R.OUTCOME] is None and run[R.NEXT] is None:
            self.fail("an open run has a timer", what)
        if run[R.OUTCOME] is not None:
            self._ended(run, host)

    def _ended(self, run: tuple[Any, ...], host: Host | None) -> None:
        what = f"run {run[R.ID]} {run[R.OUTCOME]}"
        self.simulation.count(f"ended:{run[R.OUTCOME]}")
        self.simulation.count(f"because:{run[R.REASON]}")
        if run[R.REASON] is None:
            self.fail("an ended run has a reason", what)
        own = [intent for intent in self.intents.values() if intent[J.RUN] == run[R.ID]]
        if run[R.OUTCOME] == "observed" and own:
            self.fail("observe mode acts on nothing", what)
        if run[R.OUTCOME] in ("cancelled", "refused") and any(one[J.OUTCOME] == "applied" for one in own):
            self.fail("what has acted does not end as if it had not", what)
        if run[R.OUTCOME] == "reverted" and not any(
            one[J.KIND] != "apply" and one[J.OUTCOME] == "applied" for one in own
        ):
            self.fail("reverted means that something went back", what)
        for intent in own:
            if intent[J.OUTCOME] in IN_DOUBT:
                self.simulation.count("quarantined")
                if ("quarantine", f"target:{intent[J.KEY]}") not in self.controls:
                    self.fail("a call in doubt is quarantined", f"{what}: #{intent[J.NUMBER]}")
        if run[R.OUTCOME] == "succeeded" and run[R.REASON] == "healed":
            self._healed(run, host, what)
        elif run[R.OUTCOME] == "succeeded" and run[R.REASON] != "unverified":
            self.fail("no data is not health", what)

    def _rests_on(self, run: tuple[Any, ...], host: Host) -> None:
        readings = self.simulation.provider.readings
        for place in range(len(readings) - 1, -1, -1):
            if readings[place][1:4] == (run[R.POLICY], run[R.ALERT], host.name):
                self.written.add(place)
                return

    def _healed(self, run: tuple[Any, ...], host: Host | None, what: str) -> None:
        """The last reading of this process was good, and so were all that anybody acted on, for as long as
        `stable_for` says. (What a process saw and could not write before it lost the run is forgotten.)"""
        spec = self._spec(run)
        if spec is None or spec.verify is None or host is None:
            self.fail("no data is not health", f"{what}: nothing to verify by")
            return
        about = (run[R.POLICY], run[R.ALERT])
        readings = [
            one
            for place, one in enumerate(self.simulation.provider.readings)
            if one[1:3] == about and place in self.written
        ]
        mine = [one for one in readings if one[3] == host.name]
        if not mine or mine[-1][4] != "good":
            self.fail("no data is not health", f"{what}: last seen {mine[-1] if mine else 'nothing'}")
            return
        stable = spec.verify[2]
        good_since = mine[-1][0]
        for at, _, _, _, kind in reversed(readings):
            if kind != "good":
                break
            good_since = at
        if (
            self.simulation.jumped == 0 and mine[-1][0] - good_since < stable - 10
        ):  # an answer takes up to 10s
            self.fail(
                "no data is not health", f"{what}: good for {mine[-1][0] - good_since:.1f}s, wanted {stable}s"
            )

    def _held(self, locks: dict[str, int], now: int) -> None:
        """Locks stand as long as they must, and no longer."""
        needed: dict[str, int] = {}
        for intent in self.intents.values():
            run = self.runs[intent[J.RUN]]
            if intent[J.OUTCOME] == "not_applied":
                continue
            if run[R.OUTCOME] is None or (intent[J.OUTCOME] in IN_DOUBT and run[R.ID] not in self.freed):
                needed[intent[J.KEY]] = run[R.ID]
        for key, id in needed.items():
            if locks.get(key) != id:
                self.fail(
                    "a lock is held until its run ends, or a person frees it",
                    f"{key}: run {id}, not {locks.get(key)}",
                )
        for key, id in locks.items():
            over = self.runs[id][R.OUTCOME] is not None
            if key not in needed and over and not self._quarantined(key, id, now):
                self.fail("an ended run holds no lock", f"{key}: run {id}")

    def _quarantined(self, key: str, id: int, now: int) -> bool:
        for name in (f"target:{key}", f"target:{self.runs[id][R.TARGET]}"):
            if ("quarantine", name) in self.controls:
                return True
        return any(name.startswith("target:") and KEYS.get(name[11:]) == key for _, name in self.controls)

    def _cleared(self, controls: dict[tuple[str, str], int | None], now: int) -> None:
        for kind, scope in self.controls:
            if kind == "quarantine" and (kind, scope) not in controls:
                self.simulation.count("cleared")
                key = scope.removeprefix("target:")
                for intent in self.intents.values():
                    if intent[J.KEY] == key and self.runs[intent[J.RUN]][R.OUTCOME] is not None:
                        self.freed.add(intent[J.RUN])
                for call in self.simulation.provider.calls:
                    if call.key == key:
                        call.forgiven = True

    # ------------------------------------------------------------ leases on effects

    def _lease(self, was: tuple[Any, ...] | None, effect: tuple[Any, ...]) -> None:
        id, run, key, field, prior, _current, returned_at, outcome = effect
        place = (key, field)
        if was is None:
            self.simulation.count("lease")
            others = [
                one for one in self.effects.values() if one[2:4] == place and one[6] is None and one[0] != id
            ]
            if others:
                self.fail("one lease per target and field", f"{key}.{field}: {id} and {others[0][0]}")
            inherited = self.oldest.get(place)
            if inherited is not None:
                if prior != inherited:
                    self.fail(
                        "a lease keeps the oldest prior value", f"{key}.{field}: {prior}, not {inherited}"
                    )
                self.simulation.count("lease inherited")
            else:
                own = [
                    json.loads(one[J.PLAN])["before"].get(field)
                    for one in self.intents.values()
                    if one[J.RUN] == run and one[J.KEY] == key and one[J.KIND] == "apply"
                ]
                if json.loads(prior) not in own:
                    self.fail(
                        "a lease keeps the oldest prior value", f"{key}.{field}: {prior} was never seen"
                    )
                self.oldest[place] = prior
        elif was[6] is None and returned_at is not None:
            self.simulation.count(f"lease {outcome.split(':')[0]}")
            if outcome == "returned":
                self._went_back(effect)
            newer = [one for one in self.effects.values() if one[2:4] == place and one[6] is None]
            if not newer:
                self.oldest.pop(place, None)
        elif was[4] != prior:
            self.fail("a lease keeps the oldest prior value", f"{key}.{field}: {was[4]} became {prior}")

    def _went_back(self, effect: tuple[Any, ...]) -> None:
        id, _, key, field, prior, _, _, _ = effect
        back = [
            json.loads(one[J.PLAN])["after"].get(field)
            for one in self.intents.values()
            if one[J.KEY] == key and one[J.KIND] == "return" and one[J.OUTCOME] == "applied"
        ]
        if json.loads(prior) not in back[-1:]:
            self.fail(
                "a lease keeps the oldest prior value",
                f"lease {id}: {prior} was to come back, {back[-1:]} did",
            )

    # ------------------------------------------------------------ the provider's own record

    def sent(self, call: Call) -> None:
        """A change leaves a process."""
        simulation = self.simulation
        simulation.say(
            f"  {call.host.name} sends {call.action} {call.key} {call.before} -> {call.after} [{call.fate}]"
        )
        simulation.count("sent")
        what = f"{call.action} on {call.key} by {call.host.name}"
        place = self.by_token.get(call.token)
        if place is None:
            self.fail("a call has an intent before it", what)
            return
        self.sends[call.token] += 1
        what = f"{what} for run {place[0]} #{place[1]}"
        if self.sends[call.token] > 1 + self.reissues[call.token]:
            self.fail("an intent's call is issued at most once", f"{what}: {self.sends[call.token]} times")
        if self.locks.get(call.key) != place[0]:
            self.fail(
                "one run at a time on one target", f"{what}: run {self.locks.get(call.key)} holds the lock"
            )
        intent = self.intents[place]
        plan = json.loads(intent[J.PLAN])
        if (plan["before"], plan["after"]) != (call.before, call.after):
            self.fail("what is called is what was admitted", what)
        for other in simulation.provider.calls:
            under_way = other.key == call.key and other.pending and not other.forgiven
            if under_way and other.token != call.token:
                self.fail("one action at a time on one target", f"{what}: {other.action} is under way")
        simulation._trigger("send", call.host)

    def effect(self, call: Call) -> None:
        """A change takes effect."""
        simulation = self.simulation
        simulation.say(f"  effect {call.action} {call.key} -> {call.after}")
        simulation.count("effect")
        place = self.by_token.get(call.token)
        if place is None or call.forgiven or call.applied > 1:
            return  # the second is the network's doing
        if self.locks.get(call.key) != place[0]:
            self.fail(
                "one run at a time on one target",
                f"{call.action} on {call.key} for run {place[0]} takes effect while run "
                f"{self.locks.get(call.key)} holds the lock",
            )
        if not call.host.running:
            simulation.count("late: its process is gone or frozen")
        simulation._trigger("effect", call.host)

    def resized(self, key: str) -> None:
        """A person changed something."""

    def clock(self, seconds: int) -> None:
        """The database's clock jumped."""

    # ------------------------------------------------------------ alerts and messages

    def answered(self, alert: Alert, receipt: Receipt, revision: str) -> None:
        """A delivery was answered with 2xx."""
        for id in receipt.alerts:
            self.accepted[(alert.fingerprint, alert.labels["alertname"])].add(id)
        self.kept()

    def kept(self) -> None:
        """Every accepted alert is stored, and has the runs that policies wanted for it."""
        db = self._db
        assert db is not None
        for (fingerprint, _), ids in self.accepted.items():
            for id in ids:
                row = db.execute("SELECT fingerprint, event FROM alert WHERE id = ?", (id,)).fetchone()
                if row is None or row[0] != fingerprint:
                    self.fail("an accepted alert is never lost", f"alert {id} {fingerprint}")
                    return
                revision = db.execute("SELECT revision FROM alert_event WHERE id = ?", (row[1],)).fetchone()
                rules = self.simulation.sets.get(revision[0]) if revision is not None else None
                wanted = (
                    {spec.name for spec in rules.specs.values() if fingerprint.startswith(f"{spec.alert}/")}
                    if (rules)
                    else set()
                )
                found = {
                    policy
                    for (policy,) in db.execute(
                        POLICIES,
                        (id,),
                    )
                }
                if not wanted <= found:
                    self.fail("an accepted alert is never lost", f"alert {id}: no run of {wanted - found}")

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
        if any(effect[6] is None for effect in self.effects.values()) or self.controls:
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
            number = data.get("number")
            match kind:
                case "run.created":
                    created = True
                case "run.admitted":
                    calls[number] = "pending"
                case "action.applied" | "action.reverted":
                    calls[number] = "applied"
                case "action.unknown":
                    calls[number] = "unknown"
                case "action.failed" if calls.get(number) in IN_DOUBT:
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
        from tests.simulation.link import suspended

        store = self.simulation.store
        _, error = suspended(store.seal())
        report, second = suspended(store.verify())
        if error is not None or second is not None or not report.whole or report.unsealed:
            self.fail("the audit chain is whole", f"{error or second or report}")


ENDINGS = frozenset(
    f"run.{outcome}"
    for outcome in ("succeeded", "observed", "nothing_to_do", "reverted", "refused", "cancelled", "escalated")
)


def _about(args: tuple[Any, ...]) -> str:
    first = args[0] if args else ""
    if isinstance(first, Run):
        return f"run {first.id} epoch {first.epoch}"
    return str(first) if isinstance(first, (int, str)) else ""
