"""What must hold when a run opens, moves or ends, and how long locks stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator.model import Run
from tests.simulation.loop import Host
from tests.simulation.oracle_ledger import (
    FIRING,
    FORWARD,
    IN_DOUBT,
    J,
    Ledger,
    R,
)
from tests.simulation.policies import KEYS

if TYPE_CHECKING:
    pass


class Runs(Ledger):
    """Asks of each run."""

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
        db = self._db
        if (
            run[R.REASON] == "alert_resolved"
            and db is not None
            and db.execute(FIRING, (run[R.ID],)).fetchone()
        ):
            self.fail("an accepted alert is never lost", f"{what}, and another alert that joined it fires")
        own = [intent for intent in self.intents.values() if intent[J.RUN] == run[R.ID]]
        # What was provably not applied before a window or a breaker took the licence changed nothing.
        if run[R.OUTCOME] == "observed" and any(one[J.OUTCOME] != "not_applied" for one in own):
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
