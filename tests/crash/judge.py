"""The invariants: what must never have happened, looked for in the witness's record and in the store.

Each is a function that returns what it found, one line each; all of them must find nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from tests.crash.ledger import Ledger
from tests.crash.load import CLOSED, CONCURRENT, FICKLE, GLOBAL, HOT, RULES, Problem

Row = dict[str, Any]
_SLACK = 1_000
"""Milliseconds from the permission to the call's arrival that are still "at once"."""


@dataclass
class Case:
    """Everything there is to look at."""

    accepted: Sequence[Problem]
    record: Sequence[Row]
    ledger: Ledger
    closed: tuple[int, int] | None = None
    """From when to when (milliseconds) a window was closed."""

    @cached_property
    def calls(self) -> dict[int, Row]:
        """The witness's calls by number: arrival, end (landed, refused or lost) and whether it landed."""
        calls: dict[int, Row] = {}
        for line in self.record:
            if line["what"] == "arrived":
                end = line["at"] if line["duplicate"] else None
                calls[line["number"]] = {**line, "landed": False, "end": end}
            else:
                call = calls[line["number"]]
                call["end"], call["landed"] = line["at"], line["what"] == "landed"
        return calls

    @cached_property
    def by_token(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for call in self.calls.values():
            found[call["token"]].append(call)
        return found

    def permitted(self, token: str) -> int:
        """When the first call of a token counts: at its arrival, or at its permission if it came late."""
        created = int(self.ledger.of_token[token]["created_at"])
        arrived = min(call["at"] for call in self.by_token[token])
        return round(arrived) if arrived - created <= _SLACK else created


def lost_alerts(case: Case) -> Iterable[str]:
    """Every accepted (fingerprint, startsAt) is a row."""
    kept = {(row["fingerprint"], _sent(row)) for row in case.ledger.alerts}
    for problem in case.accepted:
        if (problem.fingerprint, problem.started) not in kept:
            yield f"{problem.fingerprint} of {problem.started} was accepted and is not there"


def forgotten_alerts(case: Case) -> Iterable[str]:
    """Each that matches has a run of its policy, or is attached to one; each run ended or says why not."""
    ids = {(row["fingerprint"], _sent(row)): row["id"] for row in case.ledger.alerts}
    runs = case.ledger.runs
    of_alert: dict[int, set[str]] = defaultdict(set)
    for run, alert in case.ledger.attached:
        if runs[run]["origin"] != "lease":
            of_alert[alert].add(runs[run]["policy"])
    for problem in case.accepted:
        alert = ids.get((problem.fingerprint, problem.started))
        wanted = problem.kind in RULES and problem.kind != FICKLE  # which is not always there
        if alert is not None and wanted and problem.kind not in of_alert[alert]:
            yield f"alert {alert} matches {problem.kind} and has no run of it"
    for id, run in runs.items():
        if run["outcome"] is None and run["reason"] is None:
            yield f"run {id} of {run['policy']} is {run['state']} and says no reason"


def issued_twice(case: Case) -> Iterable[str]:
    """A token arrives once; again only where the daemon says so, for a kind of call that may be."""
    again: Counter[tuple[int, int]] = Counter()
    for event in case.ledger.events_of("action.reconciled"):
        again[event["run"], event["data"]["number"]] += "issued again" in (event["observed"] or "")
    for token, calls in case.by_token.items():
        intent = case.ledger.of_token.get(token)
        allowed = 1 + (again[intent["run"], intent["number"]] if intent else 0)
        if calls[0]["kind"] not in ("token", "conditional"):
            allowed = 1
        if len(calls) > allowed:
            yield f"{_named(calls[0])} was issued {len(calls)} times"


def applied_twice(case: Case) -> Iterable[str]:
    """No token takes effect twice, whatever its kind."""
    for calls in case.by_token.values():
        landed = sum(call["landed"] for call in calls)
        if landed > 1:
            yield f"{_named(calls[0])} took effect {landed} times"


def without_permission(case: Case) -> Iterable[str]:
    """Every call has an intent, written before it arrived."""
    for token, calls in case.by_token.items():
        intent = case.ledger.of_token.get(token)
        if intent is None:
            yield f"call on {calls[0]['name']} has no intent, token {token[:8]}"
        elif intent["created_at"] > calls[0]["at"] + 50:
            yield f"call on {calls[0]['name']} arrived before its intent, token {token[:8]}"


def told_wrongly(case: Case) -> Iterable[str]:
    """What the store says of a call is what became of it."""
    for intent in case.ledger.intents:
        calls = case.by_token.get(intent["token"], [])
        landed = any(call["landed"] for call in calls)
        where = f"run {intent['run']}, intent {intent['number']}"
        if intent["outcome"] == "not_applied" and landed:
            yield f"{where} is said not to be applied, and was"
        if intent["outcome"] == "applied" and not landed:
            yield f"{where} is said to be applied, and was not"


def decided_twice(case: Case) -> Iterable[str]:
    """Once an outcome is certain nothing is written over it, and once it is in doubt only a look ends the
    doubt: what comes late is evidence."""
    state: dict[tuple[int, int], str] = {}
    kinds = ("action.applied", "action.reverted", "action.unknown", "action.reconciled")
    for event in case.ledger.events_of(*kinds):
        intent = event["run"], event["data"]["number"]
        before, kind = state.get(intent, ""), event["kind"]
        if before in ("action.applied", "action.reverted") or (
            before == "action.unknown" and kind != "action.reconciled"
        ):
            yield f"run {intent[0]}, intent {intent[1]} was written as {before}, and then as {kind}"
        state[intent] = kind


def two_at_once(case: Case) -> Iterable[str]:
    """On one target calls do not overlap, and what one run does is not interleaved with another's."""
    of_target: dict[str, list[Row]] = defaultdict(list)
    for call in case.calls.values():
        of_target[call["name"]].append(call)
    for name, calls in of_target.items():
        calls.sort(key=lambda call: call["at"])
        flying: list[Row] = []
        order: list[int] = []
        for call in calls:
            for other in flying:
                if other["token"] != call["token"] and (other["end"] is None or other["end"] > call["at"]):
                    yield f"two calls at once on {name}: tokens {other['token'][:8]} and {call['token'][:8]}"
            flying.append(call)
            intent = case.ledger.of_token.get(call["token"])
            run = intent["run"] if intent else -1
            if not order or order[-1] != run:
                if run in order:
                    yield f"runs {order[-1]} and {run} act on {name} in turn"
                order.append(run)


def locks_overlap(case: Case) -> Iterable[str]:
    """From its first admission to its end a run holds its target, under quarantine until it is cleared."""
    held: dict[str, int] = {}
    ended = {
        f"run.{o}" for o in ("succeeded", "nothing_to_do", "reverted", "refused", "cancelled", "escalated")
    }
    frozen: set[str] = set()
    for event in sorted(case.ledger.events, key=lambda event: (event["at"], event["id"])):
        target, run = event["target"], event["run"]
        if event["kind"] == "run.admitted":
            holder = held.setdefault(target, run)
            if holder != run and case.ledger.runs[holder]["updated_at"] > event["at"] + _SLACK:
                yield f"run {run} was admitted to {target} while run {holder} held it"
            held[target] = run
            if target in frozen:
                yield f"run {run} was admitted to {target}, which is quarantined"
        elif event["kind"] == "target.quarantined":
            frozen.add(target)
        elif event["kind"] == "target.cleared":
            frozen.discard(target)
            held.pop(target, None)
        elif event["kind"] in ended and held.get(target) == run and target not in frozen:
            del held[target]


def over_budget(case: Case) -> Iterable[str]:
    """No sliding window holds more actions than its budget, by the store's intents and by the calls that
    the witness saw. A window of calls is a second shorter, which is what a call may take to arrive."""
    counted = [row for row in case.ledger.intents if row["counted"] and row["outcome"] != "not_applied"]
    seen = [row for row in counted if row["token"] in case.by_token]
    permitted = [(row["created_at"], row) for row in counted]
    arrived = sorted(((case.permitted(row["token"]), row) for row in seen), key=lambda pair: pair[0])
    for what, times, slack in (("intents", permitted, 0), ("calls", arrived, _SLACK)):
        yield from _windows(f"{what} in all", times, GLOBAL, slack, lambda row: "")
        for rules in RULES.values():
            own = [pair for pair in times if pair[1]["policy"] == rules.name]
            yield from _windows(f"{what} of {rules.name}", own, rules.budget, slack, lambda row: "")
        yield from _windows(
            f"{what} on a hot target",
            [pair for pair in times if pair[1]["target_key"].startswith("works/hot")],
            HOT,
            slack,
            lambda row: row["target_key"],
        )
        for rules in RULES.values():
            yield from _windows(
                f"{what} on one target, under {rules.name}",
                times,
                rules.per_target,
                slack,
                lambda row: row["target_key"],
                rules.name,
            )


def _windows(
    what: str,
    times: Sequence[tuple[int, Row]],
    budget: tuple[int, int],
    slack: int,
    group: Callable[[Row], str],
    only: str | None = None,
) -> Iterable[str]:
    """Args: only: windows are looked at where an action of this policy was permitted; None for any."""
    count, seconds = budget
    groups: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for pair in times:
        groups[group(pair[1])].append(pair)
    for name, pairs in groups.items():
        for position, (at, row) in enumerate(pairs):
            if row["kind"] != "apply" or (only is not None and row["policy"] != only):
                continue  # going back counts, and is never held up
            inside = sum(other > at - seconds * 1000 + slack for other, _ in pairs[: position + 1])
            if inside > count:
                yield f"{inside} {what} {name} within {seconds}s at {at}, allowed {count}"


def cooldown_broken(case: Case) -> Iterable[str]:
    """After an action on a target, no other run acts on it until the policy's cooldown is over."""
    of_target: dict[str, list[Row]] = defaultdict(list)
    for row in case.ledger.intents:
        if row["outcome"] != "not_applied":
            of_target[row["target_key"]].append(row)
    for key, rows in of_target.items():
        for position, row in enumerate(rows):
            rest = RULES[row["policy"]].cooldown * 1000
            if row["kind"] != "apply" or not rest:
                continue
            for other in rows[:position]:
                if other["run"] == row["run"]:
                    continue
                if row["created_at"] - other["created_at"] < rest:
                    yield f"run {row['run']} acted on {key} too soon after run {other['run']}"
                if row["token"] in case.by_token and other["token"] in case.by_token:
                    gap = case.permitted(row["token"]) - case.permitted(other["token"])
                    if gap < rest - _SLACK:
                        yield f"run {row['run']} called {key} {gap} ms after run {other['run']}"


def too_many_at_once(case: Case) -> Iterable[str]:
    """Between its first call and its last, a run counts; never more of them than the bounds say. Going back
    is never held up, so only what was permitted forwards is looked at."""
    spans: dict[int, list[float]] = {}
    for token, calls in case.by_token.items():
        intent = case.ledger.of_token.get(token)
        if intent is None:
            continue
        span = spans.setdefault(intent["run"], [intent["created_at"], 0])
        span[0] = min(span[0], intent["created_at"])
        ends = [
            call["end"]
            for call in calls
            if call["end"] is not None and call["at"] - intent["created_at"] < 5000
        ]
        span[1] = max([span[1], *ends])
    first: dict[int, Row] = {}
    for row in case.ledger.intents:
        first.setdefault(row["run"], row)
    for run, row in first.items():
        if run not in spans or row["kind"] != "apply":
            continue
        at = row["created_at"]
        beside = [other for other, (begin, end) in spans.items() if begin <= at < end and other != run]
        own = [other for other in beside if case.ledger.runs[other]["policy"] == row["policy"]]
        if len(beside) >= CONCURRENT:
            yield f"run {run} acted beside {len(beside)} others, allowed {CONCURRENT} in all"
        if len(own) >= RULES[row["policy"]].concurrent:
            yield f"run {run} acted beside {len(own)} others of {row['policy']}"


def acted_while_paused(case: Case) -> Iterable[str]:
    """From the moment in which a pause is written until its end nothing is permitted, not even going back."""
    lifted = case.ledger.events_of("control.resumed")
    for pause in case.ledger.events_of("control.paused"):
        scope = pause["data"].get("scope", "")
        until = pause["data"].get("until") or float("inf")
        ends = [one["at"] for one in lifted if one["data"]["scope"] == scope and one["at"] >= pause["at"]]
        until = min([until, *ends])
        for intent in case.ledger.intents:
            names = ("", f"policy:{intent['policy']}", f"target:{intent['target']}")
            if scope in names and pause["at"] < intent["created_at"] < until:
                yield f"run {intent['run']} was admitted {intent['created_at'] - pause['at']} ms into a pause"


def unapproved(case: Case) -> Iterable[str]:
    """What asks a person has its yes, given in time, for this very action; and it is used once."""
    used: Counter[tuple[int, int, int]] = Counter()
    for intent in case.ledger.intents:
        if RULES[intent["policy"]].mode != "approve" or intent["kind"] != "apply":
            continue
        place = (intent["run"], intent["rung"], intent["step"])
        used[place] += intent["outcome"] != "not_applied"
        yes = [
            one
            for one in case.ledger.approvals
            if one["decision"] == "approved"
            and (one["run"], one["data"]["rung"], one["data"]["step"]) == place
            and one["decided_at"] < one["expires_at"]
            and one["decided_at"] <= intent["created_at"]
            and one["plan"]["target"]["key"] == intent["target_key"]
            and one["plan"]["blast"]["amount"] >= intent["plan"]["blast"]["amount"]
        ]
        if not yes:
            yield f"run {intent['run']} was admitted and nobody has approved it"
    for (run, _, _), count in used.items():
        if count > 1:
            yield f"run {run} acted {count} times on one approval"
    said = Counter(event["data"]["approval"] for event in case.ledger.events_of("approval.approved"))
    for id, count in said.items():
        if count > 1:
            yield f"approval {id} was given {count} times"


def started_in_a_window(case: Case) -> Iterable[str]:
    """Nothing starts on those targets while their window is closed."""
    if case.closed is None:
        return
    for intent in case.ledger.intents:
        starts = intent["kind"] == "apply" and intent["counted"]
        closed = case.closed[0] <= intent["created_at"] < case.closed[1]
        if starts and closed and fnmatchcase(intent["target"], CLOSED):
            yield f"run {intent['run']} was admitted to {intent['target']} in its window"


def started_in_a_storm(case: Case) -> Iterable[str]:
    """From the second after a storm was noticed until its hold is over nothing starts for that sender."""
    for storm in case.ledger.events_of("storm.tripped"):
        until = datetime.fromisoformat(storm["data"]["until"]).timestamp() * 1000
        for intent in case.ledger.intents:
            starts = intent["kind"] == "apply" and intent["counted"]
            if starts and storm["at"] + _SLACK < intent["created_at"] < until:
                yield f"run {intent['run']} was admitted {intent['created_at'] - storm['at']} ms into a storm"


def unlicensed(case: Case) -> Iterable[str]:
    """No run begins to act when its policy has been gone or demoted for a second."""
    changes = [(event["at"], event["observed"]) for event in case.ledger.events_of("policy.loaded")]
    begun: set[int] = set()
    for intent in case.ledger.intents:
        if intent["policy"] != FICKLE or intent["kind"] != "apply" or intent["run"] in begun:
            continue
        begun.add(intent["run"])
        at = intent["created_at"]
        before = [hash for when, hash in changes if when <= at - _SLACK][-1:]
        active = {*before, *(hash for when, hash in changes if at - _SLACK < when <= at)}
        texts = [case.ledger.revisions.get(hash, {}).get(f"{FICKLE}.yaml", "") for hash in active]
        if not any("mode: enforce" in text for text in texts):
            yield f"run {intent['run']} was admitted under {sorted(active)}, which do not let it act"


def observed_acted(case: Case) -> Iterable[str]:
    """Mode observe calls nobody."""
    for intent in case.ledger.intents:
        if RULES[intent["policy"]].mode == "observe":
            yield f"run {intent['run']} of {intent['policy']} has an intent"


def unexplained(case: Case) -> Iterable[str]:
    """A run's end is its last word, with a reason, what was seen and what was allowed; each of its intents
    has its admission, and an ending or a doubt."""
    words: dict[int, list[Row]] = defaultdict(list)
    for event in case.ledger.events:
        if event["run"] is not None:
            words[event["run"]].append(event)
    own_words = ("run.", "action.", "verify.", "remedy.")
    for id, run in case.ledger.runs.items():
        if run["outcome"] is None:
            continue
        said = [event["kind"] for event in words[id]]
        ends = [kind for kind in said if kind == f"run.{run['outcome']}"]
        told = [kind for kind in said if kind.startswith(own_words) and kind != "action.late"]
        if len(ends) != 1 or told[-1] != ends[0]:
            yield f"run {id} ended {run['outcome']}, and its story ends {told[-3:]}"
        if not (run["reason"] and run["observed"] and run["allowed"]):
            yield f"run {id} ended {run['outcome']} and does not say why"
        numbers = [e["data"]["number"] for e in words[id] if e["kind"] == "run.admitted"]
        own = [intent["number"] for intent in case.ledger.intents if intent["run"] == id]
        if sorted(numbers) != sorted(own):
            yield f"run {id} has intents {own} and admissions {numbers}"


def left_behind(case: Case) -> Iterable[str]:
    """No lock without an open run or a quarantine, no call said to be under way, no lease for ever."""
    runs = case.ledger.runs
    for lock in case.ledger.locks:
        if (
            runs[lock["run"]]["outcome"] is not None
            and f"target:{lock['target_key']}" not in case.ledger.quarantined
        ):
            yield f"{lock['target_key']} is still held by run {lock['run']}, which has ended"
    for intent in case.ledger.intents:
        if intent["outcome"] == "pending" and runs[intent["run"]]["outcome"] not in (None, "escalated"):
            yield f"run {intent['run']} ended {runs[intent['run']]['outcome']} with a call under way"
    for effect in case.ledger.effects:
        back = effect["return_run"]
        if effect["returned_at"] is None and back is not None and runs[back]["outcome"] is not None:
            yield f"lease {effect['id']} is open, and run {back}, which was to return it, has ended"


INVARIANTS: dict[str, Callable[[Case], Iterable[str]]] = {
    "accepted alerts lost": lost_alerts,
    "alerts that match and were forgotten": forgotten_alerts,
    "actions issued twice": issued_twice,
    "actions applied twice": applied_twice,
    "calls without an intent": without_permission,
    "outcomes told wrongly": told_wrongly,
    "outcomes written twice": decided_twice,
    "two actions at once on one target": two_at_once,
    "target locks that overlap": locks_overlap,
    "budgets exceeded": over_budget,
    "cooldowns broken": cooldown_broken,
    "runs beyond concurrency": too_many_at_once,
    "actions during a pause": acted_while_paused,
    "actions without approval, or twice on one": unapproved,
    "actions that start in a window": started_in_a_window,
    "actions that start in a storm": started_in_a_storm,
    "actions of a policy gone or demoted": unlicensed,
    "actions of mode observe": observed_acted,
    "runs not explained": unexplained,
    "locks, calls or leases left behind": left_behind,
}


def _sent(alert: Row) -> int:
    """The startsAt that was sent: one that lay in the store's future was stored as the time of receipt."""
    sent = alert["sent_starts_at"]
    return int(alert["starts_at"] if sent is None else sent)


def _named(call: Row) -> str:
    return f"the {call['kind']} call on {call['name']} with token {call['token'][:8]}"


def judge(case: Case) -> dict[str, list[str]]:
    """Every invariant, and what was found against it."""
    return {name: list(look(case)) for name, look in INVARIANTS.items()}
