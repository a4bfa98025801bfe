"""The guards, one function each. See `pipeline` for their order."""

from __future__ import annotations

from collections.abc import Collection

from remediator.contracts import Flapping
from remediator.engine import storm
from remediator.engine.bounds import bounds
from remediator.engine.case import Case
from remediator.engine.judge import Judgement, together
from remediator.engine.ladder import next_remedy
from remediator.engine.look import look
from remediator.engine.mode import LICENCE, effective_mode
from remediator.engine.step import End, Step, Wait
from remediator.engine.windows import closed, first_names
from remediator.model import MINUTE, Control, ControlKind, Millis, Mode, Outcome, Reason, span

STALE_AFTER = Millis(15 * MINUTE)


async def policy_still_in_force(case: Case) -> Step | None:
    """A policy that was deleted, renamed or demoted stops its runs that have not acted yet."""
    if case.admitted:
        return None
    active = case.active.policies.get(case.run.policy)
    if active is None:
        return End(
            Outcome.CANCELLED,
            Reason.POLICY_REMOVED,
            observed=f"policy {case.run.policy} is not in the active set {case.active.hash[:12]}",
            allowed="a policy of that name",
        )
    if LICENCE[active.mode] < LICENCE[case.run.mode]:
        return End(
            Outcome.CANCELLED,
            Reason.POLICY_DEMOTED,
            observed=f"mode {active.mode} now",
            allowed=f"mode {case.run.mode}, as when the run was opened",
        )
    return None


async def alert_still_firing(case: Case) -> Step | None:
    """A resolve before the first action cancels; after it, it is evidence only."""
    if case.admitted or case.by_hand or any(episode.firing for episode in case.episodes):
        return None
    return End(
        Outcome.CANCELLED,
        Reason.ALERT_RESOLVED,
        observed=f"alert is {case.episode.alert.status}",
        allowed="firing",
    )


async def alert_not_stale(case: Case) -> Step | None:
    """After a long absence, act only on an alert that is known to be alive.

    If the hold ended more than 15 minutes ago and no delivery has come since this process started,
    the alert may long be over: live checks decide, or the next delivery does.
    """
    if case.admitted or case.by_hand or case.policy.when:
        return None
    if any(episode.seen_at is not None for episode in case.episodes):
        return None
    over = case.now - (case.episode.alert.starts_at + case.policy.for_)
    if over <= STALE_AFTER:
        return None
    return Wait(
        Reason.STALE_ALERT,
        observed=f"hold ended {span(over)} ago, not delivered since the daemon started",
        allowed=f"at most {span(STALE_AFTER)} ago, or delivered again",
    )


async def not_paused(case: Case) -> Step | None:
    """A pause of the daemon, of this policy or of this target. Observing goes on."""
    return None if effective_mode(case) is Mode.OBSERVE else paused(case)


def paused(case: Case, names: Collection[str] = ()) -> Wait | None:
    """The wait that a pause asks for, whatever the mode.

    Args:
        names: further ones of the target.
    """
    targets = {f"target:{name}" for name in (case.run.target, case.run.target_key, *names)}
    scopes = {"", f"policy:{case.run.policy}", *targets}
    for control in case.controls:
        if control.kind is ControlKind.PAUSE and control.scope in scopes:
            what = control.scope or "the daemon"
            return Wait(
                Reason.PAUSED,
                observed=f"{what} is paused by {control.actor}: {control.reason}",
                allowed="not paused",
                until=control.until,
            )
    return None


async def windows_allow(case: Case) -> Step | None:
    """No action starts within a window of effect `wait`, or outside of every `only_during` one."""
    if effective_mode(case, first_names(case)) is Mode.OBSERVE:
        return None
    return closed(case, first_names(case))


async def no_storm(case: Case) -> Step | None:
    """Not while the alert's sender sends more new alerts than one by one can be right for. An action that
    has begun is finished."""
    rule = case.active.limits.storm
    if case.done_here or effective_mode(case) is Mode.OBSERVE:
        return None
    sender = case.episode.alert.sender
    scope = f"sender:{sender}"
    control: Control | None = next(
        (one for one in case.controls if one.kind is ControlKind.STORM and one.scope == scope), None
    )
    control = control or await storm.held(case.tools.store, rule, sender, case.now)
    if control is None:
        return None
    return Wait(
        Reason.STORM,
        observed=control.reason,
        allowed=f"fewer than {rule.new_alerts} within {span(rule.within)}, for {span(rule.hold)}",
        until=control.until,
    )


async def not_flapping(case: Case) -> Step | None:
    """What is healed again and again is not healed: a person is called instead."""
    if case.admitted or effective_mode(case) is Mode.OBSERVE:
        return None
    bound = flapping(case)
    count = await case.tools.store.healed(case.run, bound)
    if count < bound.budget.count:
        return None
    return End(
        Outcome.REFUSED,
        Reason.FLAPPING,
        observed=f"healed {count} times within {span(bound.budget.window)}, and it is back",
        allowed=f"limits.flapping {bound.budget}",
    )


def flapping(case: Case) -> Flapping:
    """How often this run's policy may heal its target, or its alert."""
    alert = case.episode.alert
    return Flapping(budget=bounds(case).flapping, sender=alert.sender, fingerprint=alert.fingerprint)


async def not_quarantined(case: Case) -> Step | None:
    """A target on which a call's outcome is unknown is left to people."""
    names = {f"target:{case.run.target}", f"target:{case.run.target_key}"}
    for control in case.controls:
        if control.kind is ControlKind.QUARANTINE and control.scope in names:
            return End(
                Outcome.REFUSED,
                Reason.QUARANTINED,
                observed=f"{control.scope} is quarantined: {control.reason}",
                allowed="a target that is not; a person clears it",
            )
    return None


async def conditions_hold(case: Case) -> Step | None:
    """The policy's live checks (`when:`), right before each remedy."""
    if case.done_here or not case.policy.when:
        return None
    return not_yet(together(await look(case, case.policy.when)))


async def remedy_condition_holds(case: Case) -> Step | None:
    """The remedy's own `when:`. One that is false means that this rung is not taken."""
    if case.done_here or case.progress.step or not case.remedy.when:
        return None
    judgement = together(await look(case, case.remedy.when))
    if judgement.holds is not False:
        return not_yet(judgement)
    return next_remedy(case, f"its condition is false: {judgement.observed}, wanted {judgement.allowed}")


def not_yet(judgement: Judgement) -> Wait | None:
    """The wait that a condition asks for, or None where it holds."""
    if judgement.holds is True:
        return None
    reason = Reason.CHECK_FALSE if judgement.holds is False else Reason.CHECK_UNANSWERED
    return Wait(reason, judgement.observed, judgement.allowed)
