"""The end of a lease (`expires:`): the prior value goes back, unless it is still needed or a
person has changed it since."""

from __future__ import annotations

import msgspec

from remediator.contracts import Nothing
from remediator.engine.case import Case
from remediator.engine.execute import pure
from remediator.engine.lease import length
from remediator.engine.step import Admit, End, Extra, Step, Wait
from remediator.errors import ActionError, Refused
from remediator.model import Effect, Instant, IntentKind, Origin, Outcome, Plan, Reason, span


async def returning(case: Case) -> Step:
    """Return, extend once while the alert still fires, or leave it to a person."""
    effect = await _effect(case)
    if effect.returned_at is not None:
        seen = f"effect {effect.id} is over: {effect.outcome}"
        return End(Outcome.NOTHING_TO_DO, Reason.LEASE_CLOSED, seen, "an open lease")
    lender = await case.tools.store.run(effect.run)
    # What a person started by hand has no sender that could ever say that it is over; and what a person
    # wants back is not needed any more.
    needed = lender.origin is not Origin.HAND and not effect.recalled_by
    if needed and any(episode.firing for episode in case.episodes):
        return still_firing(case, effect)
    action = case.action(effect.plan.action)
    lent = await _lent_with(case, effect)
    borrowed = msgspec.structs.replace(
        effect.plan,
        before={**effect.plan.before, **{one.field: one.prior for one in lent}},
        after={**effect.plan.after, **{one.field: one.current for one in lent}},
    )
    try:
        params = pure(action.name, lambda: action.params.model_validate(effect.plan.params))
        observed = await case.tools.execute.observe(action, params, case.now, case.episode)
        plan: Plan | Nothing = pure(action.name, lambda: action.undo(observed, borrowed))
    except Refused as error:
        return End(
            Outcome.NOTHING_TO_DO,
            error.reason,
            observed=str(error),
            allowed=f"{effect.field} = {effect.current}, as the lease left it",
            note="left alone",
            extra=_done(lent, str(error.reason)),
        )
    except ActionError as error:
        return Wait(Reason.CHECK_UNANSWERED, str(error), f"{action.name} can observe its target")
    if isinstance(plan, Nothing):
        return End(
            Outcome.NOTHING_TO_DO,
            Reason.NOTHING_TO_DO,
            observed=plan.why,
            allowed="something to return",
            extra=_done(lent, "nothing to return"),
        )
    progress = msgspec.structs.replace(case.progress, number=case.progress.number + 1)
    return Admit(
        plan,
        IntentKind.RETURN,
        counted=True,
        progress=progress,
        purpose=_purpose(case, effect),
        leases=tuple(one.id for one in lent),
    )


def _purpose(case: Case, effect: Effect) -> str:
    """What a person recalls may have been tried before in vain, by another run: a provider that
    deduplicates must not take this for that."""
    return f"return:{effect.id}:{case.run.id}" if effect.recalled_by else f"return:{effect.id}"


def still_firing(case: Case, effect: Effect) -> End:
    """Extended once; after that a person decides."""
    lent_for = length(case.policy, effect)
    observed = "the alert still fires"
    if effect.extended:
        return End(
            Outcome.ESCALATED,
            Reason.LEASE_STILL_NEEDED,
            observed=f"{observed} after one extension of {span(lent_for)}",
            allowed="resolved before the lease ends",
            note=f"{effect.field} of {effect.target.name} stays {effect.current}, was {effect.prior}; "
            f"put it back: remediator effects return {effect.id} --comment …",
        )
    return End(
        Outcome.NOTHING_TO_DO,
        Reason.LEASE_EXTENDED,
        observed=observed,
        allowed=f"extended once by {span(lent_for)}",
        extra=Extra(effect_extend=(effect.id, Instant(case.now + lent_for))),
    )


async def returned(case: Case) -> End:
    """The prior value is back."""
    effect = await _effect(case)
    return End(
        Outcome.REVERTED,
        Reason.RETURNED_BY_PERSON if effect.recalled_by else Reason.LEASE_EXPIRED,
        observed="the prior value is back",
        allowed=f"{effect.recalled_by} wanted it back" if effect.recalled_by else "a lease ends",
        extra=_done(await _lent_with(case, effect), "returned"),
    )


async def _lent_with(case: Case, effect: Effect) -> tuple[Effect, ...]:
    """The lease, and those on the other fields of its plan: one call lent them and one takes them back."""
    found = await case.tools.store.effects(open=True)
    same = (one for one in found if one.run == effect.run and one.plan == effect.plan)
    return (effect, *(one for one in same if one.id != effect.id))


def _done(lent: tuple[Effect, ...], became: str) -> Extra:
    return Extra(effect_done=tuple((one.id, became) for one in lent))


async def _effect(case: Case) -> Effect:
    number = case.progress.effect
    if number is None:
        raise Refused(Reason.INVALID_PARAMETER, f"run {case.run.id} returns no lease: a fault in its row")
    return await case.tools.store.effect(number)
