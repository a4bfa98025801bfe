"""The ladder: which remedy comes next, when to verify, and what to do when none helped. Pure."""

from __future__ import annotations

import msgspec

from remediator.engine.case import Case
from remediator.engine.step import NO_EXTRA, End, Extra, Fail, Go, Step
from remediator.model import AuditEvent, Instant, Outcome, Progress, Reason, State

Events = tuple[AuditEvent, ...]


def next_remedy(case: Case, why: str, events: Events = ()) -> Step:
    """Leave this rung untaken, say so, and go to the next; after the last, stop."""
    rung = case.progress.rung
    events = (*events, case.event("remedy.skipped", observed=why, rung=rung))
    if rung + 1 < len(case.policy.remedies):
        return Go(State.GUARD, _fresh(case.progress, rung=rung + 1), events)
    if case.progress.applied:  # an earlier rung acted, and its verify said that it did not heal
        return Fail(
            Reason.NOT_HEALED,
            observed=case.progress.failure_note or why,
            allowed="a remedy that heals",
            note="no further remedy applies",
            events=events,
        )
    return End(Outcome.NOTHING_TO_DO, Reason.NOTHING_TO_DO, why, "something to do", events=events)


def nothing_here(case: Case, why: str) -> Step:
    """This action's plan is that there is nothing to do."""
    event = case.event("action.nothing_to_do", Reason.NOTHING_TO_DO, why, action=case.use.action)
    if case.progress.step + 1 < len(case.remedy.actions):
        return Go(State.GUARD, _fresh(case.progress, step=case.progress.step + 1), (event,))
    if any(case.intent(number).rung == case.progress.rung for number in case.progress.applied):
        return verifying(case, (event,))
    return next_remedy(case, why, (event,))


def action_finished(case: Case, more: bool, events: Events = (), extra: Extra = NO_EXTRA) -> Step:
    """The action has settled: its next chunk, the rung's next action, or verification."""
    if more:
        return Go(State.GUARD, _fresh(case.progress), events, extra)
    if case.progress.step + 1 < len(case.remedy.actions):
        return Go(State.GUARD, _fresh(case.progress, step=case.progress.step + 1), events, extra)
    return verifying(case, events, extra)


def verifying(case: Case, events: Events = (), extra: Extra = NO_EXTRA) -> Step:
    """Start verification; a policy that declares none ends here, and says that nobody looked."""
    verify = case.policy.verify
    if verify is None:
        return End(
            Outcome.SUCCEEDED,
            Reason.UNVERIFIED,
            observed="the action went through",
            allowed="`verify:` checks; the policy has none",
            events=events,
            extra=extra,
        )
    progress = msgspec.structs.replace(
        case.progress,
        settle_until=None,
        waiting_since=None,
        attempts=0,
        verify_from=Instant(case.now + verify.after),
        verify_until=Instant(case.now + max(verify.within, verify.after)),
        stable_since=None,
    )
    return Go(State.VERIFY, progress, events, extra)


def rung_broken(case: Case, fail: Fail) -> Step:
    """An action failed, or was applied and never settled: its rung is over. Whether the next one may be
    tried is for verify to say, which is asked at once: a problem that is gone needs no stronger remedy."""
    if case.policy.verify is None or case.progress.rung + 1 >= len(case.policy.remedies):
        return fail
    progress = msgspec.structs.replace(
        _fresh(case.progress), verify_from=case.now, verify_until=case.now, failure=fail.reason
    )
    return Go(State.VERIFY, progress, fail.events, fail.extra)


def failed(case: Case, fail: Fail) -> Step:
    """The next rung if there may be one; else go back, or leave it, and call a person."""
    progress = msgspec.structs.replace(
        case.progress, failure=fail.reason, failure_note=f"{fail.note}: {fail.observed}"
    )
    if fail.ladder and progress.rung + 1 < len(case.policy.remedies):
        return Go(State.GUARD, _fresh(progress, rung=progress.rung + 1), fail.events, fail.extra)
    if case.policy.on_failure == "revert" and progress.applied:
        todo = tuple(reversed(progress.applied))
        return Go(State.REVERTING, _fresh(progress, todo=todo), fail.events, fail.extra)
    return End(
        Outcome.ESCALATED,
        fail.reason,
        fail.observed,
        fail.allowed,
        note=fail.note,
        events=fail.events,
        extra=fail.extra,
    )


def _fresh(progress: Progress, **changes: object) -> Progress:
    """The progress with no wait behind it, and with these changes."""
    if "rung" in changes:
        changes.setdefault("step", 0)
    return msgspec.structs.replace(
        progress, waiting_since=None, attempts=0, settle_until=None, stable_since=None, **changes
    )
