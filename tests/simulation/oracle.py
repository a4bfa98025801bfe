"""What must hold, written from the design's text and not from the code that enforces it.

The oracle reads the tables after every request that changed something, and hears of every call that leaves
for the provider and of every effect. It keeps its own account of policies (as numbers), budgets, locks and
leases. docs/invariants.md lists what it asks; the names there are the ones used here.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from remediator.errors import LeaseLost
from remediator.model import Run
from tests.simulation.loop import Host
from tests.simulation.oracle_admission import Admissions
from tests.simulation.oracle_end import Ending
from tests.simulation.oracle_leases import Leases
from tests.simulation.oracle_ledger import (
    ACTIVE,
    CONTROLS,
    EFFECT,
    ELSEWHERE,
    INTENTS,
    JUMP,
    LOCKS,
    RUN,
    WATCHED,
    J,
    R,
    Violation,
)
from tests.simulation.oracle_runs import Runs

if TYPE_CHECKING:
    from tests.simulation.provider import Call

__all__ = ["Oracle", "Violation"]


class Oracle(Admissions, Runs, Leases, Ending):
    """Watches one simulation."""

    def step(self, host: Host, name: str, args: tuple[Any, ...], value: Any, error: Exception | None) -> None:
        db = self._db
        assert db is not None
        self._overtaken(host, name, args, error)
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

    def open(self, db: sqlite3.Connection) -> None:
        """Watch the tables: the database itself tells which rows were touched, by whatever statement."""
        super().open(db)
        db.create_function("oracle_touched", 2, lambda table, key: self._touched[table].add(key))
        for table, key in WATCHED.items():
            for verb, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                db.execute(
                    f"CREATE TEMP TRIGGER oracle_{table}_{verb} AFTER {verb} ON main.{table} "
                    f"BEGIN SELECT oracle_touched('{table}', {row}.{key}); END"
                )

    def look(self, name: str, host: Host | None = None, args: tuple[Any, ...] = ()) -> None:
        """Read what was touched, and ask everything of what has changed."""
        db = self._db
        assert db is not None
        self._changes = db.total_changes
        now = self.simulation.now()
        changed, self._touched = self._touched, defaultdict(set)
        if not changed:
            return
        state = changed.keys() - {"meta"}
        if name == "evidence" and state:
            self.fail("a late outcome is kept, and changes no state", f"{sorted(state)} by {host}")
        before = self.runs, self.intents, self.locks, self.controls, self.effects
        runs, intents, locks, controls, effects = before
        if changed["run"]:
            runs = _again(runs, ((id, db.execute(RUN, (id,)).fetchone()) for id in changed["run"]))
        if changed["intent"]:
            intents = {key: row for key, row in intents.items() if key[0] not in changed["intent"]}
            for id in changed["intent"]:
                intents.update(((id, row[J.NUMBER]), row) for row in db.execute(INTENTS, (id,)))
            intents = dict(sorted(intents.items()))
        if changed["effect"]:
            effects = _again(
                effects, ((id, db.execute(EFFECT, (id,)).fetchone()) for id in changed["effect"])
            )
        if changed["target_lock"]:
            locks = dict(db.execute(LOCKS).fetchall())
        if changed["control"]:
            controls = {(kind, scope): until for kind, scope, until in db.execute(CONTROLS)}
            self._cleared(controls, now)
            paused = ("pause", "") in controls
            if name == "set_control" and args[0].actor == "daemon" and paused:
                self.noticed.clear()
                self.paused_itself = self.simulation.loop.time()
                self.still_paused = True
            elif name == "set_control" or not paused:
                self.still_paused = False
        if changed["meta"]:
            self.active = (db.execute(ACTIVE).fetchone() or ("",))[0]
        self.runs, self.intents, self.locks, self.controls, self.effects = (
            runs,
            intents,
            locks,
            controls,
            effects,
        )
        for key, intent in intents.items() if changed["intent"] else ():
            was = before[1].get(key)
            if was is None:
                self._admitted(intent, before, now)
            elif was != intent:
                self._decided(was, intent, now)
        for id in sorted(changed["run"]):
            run, old = runs.get(id), before[0].get(id)
            if run is not None and old != run:
                if old is None:
                    self._opened(run)
                else:
                    self._moved(old, run, name, host, args, now)
        for id in sorted(changed["effect"]):
            effect = effects.get(id)
            if effect is not None and before[4].get(id) != effect:
                self._lease(before[4].get(id), effect)
        if len(effects) < len(before[4]) or len(intents) < len(before[1]) or len(runs) < len(before[0]):
            self.fail("nothing stored is lost", "a row is gone")
        self._held(locks, now)

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
        self.called[place] = (self.runs[place[0]][R.EPOCH], call.host)
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

    def watched(self, host: Host) -> None:
        """A process has looked at the database's clock, to see whether it has jumped."""
        at, offset = self.simulation.loop.time(), self.simulation.offset
        before = self.looked.get(host)
        self.looked[host] = (at, offset)
        if before is not None and abs(offset - before[1]) >= JUMP:
            self.simulation.count("clock jump seen")
            if self.paused_itself < before[0] and not self.still_paused:
                self.noticed.add(host)

    def came_late(self, call: Call | None) -> None:
        """A process hears what became of its call after it has given up on it."""
        place = self.by_token.get(call.token) if call is not None else None
        if call is not None and place is not None:
            self.late[place] = call.host

    def _overtaken(self, host: Host, name: str, args: tuple[Any, ...], error: Exception | None) -> None:
        """Who hears what became of its call when the run is no longer its own, keeps it as evidence."""
        if name != "move" or not isinstance(error, LeaseLost):
            return
        for update in args[1].intents:
            place = (args[0].id, update.number)
            intent = self.intents[place]
            # Under the claim with which it called; what it saw when it looked later is looked at again.
            own = self.called.get(place) == (args[0].epoch, host)
            if own and update.outcome in ("applied", "not_applied") and intent[J.OUTCOME] != update.outcome:
                self.late[place] = host


def _again(rows: dict[int, Any], read: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """The rows with these read anew; None is one that is gone."""
    rows = dict(rows)
    for id, row in read:
        if row is None:
            rows.pop(id, None)
        else:
            rows[id] = row
    return rows


def _about(args: tuple[Any, ...]) -> str:
    first = args[0] if args else ""
    if isinstance(first, Run):
        return f"run {first.id} epoch {first.epoch}"
    return str(first) if isinstance(first, (int, str)) else ""
