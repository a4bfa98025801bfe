"""What must hold when an intent is written or decided: brakes, bounds, budgets, licences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulation.oracle_ledger import (
    APPROVED,
    BREAKER,
    FIRING,
    LICENCE,
    REISSUED,
    J,
    Ledger,
    R,
)
from tests.simulation.policies import MOST, WINDOW, Rules, Spec

if TYPE_CHECKING:
    pass


class Admissions(Ledger):
    """Asks of each intent."""

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
            self._licence(intent, plan, run, controls, intents, what)
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
        intents: dict[Any, Any],
        what: str,
    ) -> None:
        """What needs a person's yes has one, for just this: the same target, the same way, once, and no
        more of it than was shown."""
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
        place = (intent[J.RUN], intent[J.RUNG], intent[J.STEP])
        amount = plan["blast"]["amount"]
        for other in intents.values():
            if other[J.KIND] != "apply" or other[J.OUTCOME] == "not_applied":
                continue
            if (other[J.RUN], other[J.RUNG], other[J.STEP]) == place:
                amount += json.loads(other[J.PLAN])["blast"]["amount"]
        found = False
        for text, decided_at, expires_at, rung, step in db.execute(APPROVED, (run[R.ID],)):
            approved = json.loads(text)
            same = approved["target"]["key"] == intent[J.KEY] and approved["action"] == plan["action"]
            if (
                not same
                or (rung, step) != place[1:]
                or decided_at >= expires_at
                or not _one_way(approved, plan)
            ):
                continue
            if amount <= approved["blast"]["amount"]:
                self.simulation.count("approved")
                return
            found = True
        if found:
            self.fail("an approval is used once, and for no more than was shown", f"{what}: {amount}")
        else:
            self.fail("what needs approval is approved, in time and for this plan", f"{what}: {amount}")

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


def _one_way(approved: dict[str, Any], plan: dict[str, Any]) -> bool:
    """Whether every field goes up where up was approved, and down where down was."""
    return all(
        (plan["after"][field] > value) == (approved["after"][field] > approved["before"][field])
        for field, value in plan["before"].items()
    )
