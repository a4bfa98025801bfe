"""VERIFY: did it help? The checks must hold for a while. No data is not health."""

from __future__ import annotations

import msgspec

from remediator.engine.case import Case
from remediator.engine.judge import Judgement, together
from remediator.engine.ladder import verifying
from remediator.engine.look import look
from remediator.engine.step import End, Fail, Later, Step
from remediator.model import Instant, Outcome, Reason, State, Verdict, span


async def verify(case: Case) -> Step:
    """Look every `every` until it has been healthy for `stable_for`, or `within` has passed."""
    rules = case.policy.verify
    progress = case.progress
    begin, deadline = progress.verify_from, progress.verify_until
    if rules is None or begin is None or deadline is None:
        return verifying(case)
    if case.now < begin:
        return Later(State.VERIFY, begin, progress, observed="settling", allowed="verify.after")
    judgement = together(await look(case, rules.checks))
    if judgement.verdict is Verdict.HEALED:
        since = progress.stable_since or case.now
        if case.now - since >= rules.stable_for:
            return healed(case, judgement, since)
        next_at = Instant(min(since + rules.stable_for, case.now + rules.every))
        progress = msgspec.structs.replace(progress, stable_since=since)
        return Later(State.VERIFY, next_at, progress, observed=judgement.observed, allowed=judgement.allowed)
    progress = msgspec.structs.replace(progress, stable_since=None)
    if case.now < deadline:
        next_at = Instant(min(deadline, case.now + rules.every))
        return Later(State.VERIFY, next_at, progress, observed=judgement.observed, allowed=judgement.allowed)
    return not_healed(case, judgement)


def healed(case: Case, judgement: Judgement, since: Instant) -> End:
    event = case.event(
        "verify.healed",
        Reason.HEALED,
        judgement.observed,
        judgement.allowed,
        stable_for=span(case.now - since),
    )
    return End(Outcome.SUCCEEDED, Reason.HEALED, judgement.observed, judgement.allowed, events=(event,))


def not_healed(case: Case, judgement: Judgement) -> Step:
    """The deadline has come. Not known to be healthy: a person, and the effect stays. Known not to
    be: the ladder goes on."""
    if judgement.verdict is Verdict.UNKNOWN:
        event = case.event("verify.unknown", Reason.VERIFY_UNKNOWN, judgement.observed, judgement.allowed)
        return End(
            Outcome.ESCALATED,
            Reason.VERIFY_UNKNOWN,
            judgement.observed,
            judgement.allowed,
            note="no data is not health; what was done stays",
            events=(event,),
        )
    event = case.event("verify.failed", Reason.NOT_HEALED, judgement.observed, judgement.allowed)
    return Fail(
        Reason.NOT_HEALED,
        judgement.observed,
        judgement.allowed,
        note="did not heal",
        ladder=True,
        events=(event,),
    )
