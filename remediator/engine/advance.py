"""Takes one run as far as it can go now, and writes it. The graph of states is the table below."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import structlog

from remediator import metrics
from remediator.contracts import Held, IntentUpdate, Move
from remediator.engine.case import Case
from remediator.engine.ladder import failed
from remediator.engine.moves import ended, later, patient, waiting
from remediator.engine.states.acting import act, keep_late, left_acting
from remediator.engine.states.admit import LEASE, admit, held
from remediator.engine.states.approval import approval
from remediator.engine.states.guard import guard
from remediator.engine.states.hold import hold
from remediator.engine.states.reverting import reverting
from remediator.engine.states.settling import settling
from remediator.engine.states.unknown import braked, quarantine, unknown
from remediator.engine.states.verify import verify
from remediator.engine.step import NO_EXTRA, Admit, End, Extra, Fail, Go, Later, Reissue, Step, Wait
from remediator.errors import ActionError, Braked, LeaseLost, Refused, StoreError, StoreUnavailable
from remediator.model import (
    AuditEvent,
    Instant,
    Intent,
    IntentKind,
    IntentOutcome,
    Outcome,
    Reason,
    Run,
    State,
)

log = structlog.get_logger()

Handler = Callable[[Case], Awaitable[Step]]


HANDLERS: dict[State, Handler] = {
    State.HOLD: hold,
    State.GUARD: guard,
    State.APPROVAL: approval,
    State.ACTING: left_acting,
    State.SETTLING: settling,
    State.UNKNOWN: unknown,
    State.VERIFY: verify,
    State.REVERTING: reverting,
}

_FARTHEST = 200
"""Steps in one advance; a ladder has far fewer, so more is a fault that must not spin."""

ASKING = 20.0
"""Seconds that one advance may ask the outside world before it acts. Well under the lease: a run whose
checks took longer would be claimed again meanwhile, each time anew, and would never come to an end."""

_FAULTS = 5
"""Faults of the daemon itself that one run survives; at the next a person is called."""


async def advance(case: Case, asking: float = ASKING) -> Run:
    """Step until the run waits, ends, or has acted; commit; return the run as stored. One with another
    epoch than it had was claimed anew: it goes on.

    Args:
        asking: seconds that the outside world may take to answer before the run acts.

    Raises:
        LeaseLost: another worker holds the run now; nothing was written.
        StoreUnavailable: the store did not answer.
    """
    events: tuple[AuditEvent, ...] = ()
    extra = NO_EXTRA
    acted = False
    until = asyncio.get_running_loop().time() + asking
    for _ in range(_FARTHEST):
        step = resolve(case, await _ask(case, until))
        asked = case.tools.execute.passed()
        if isinstance(step, Admit):
            answer = await admit(case, step, events, extra)
            if not isinstance(answer, Held):
                run, intent = answer
                events, extra = (), NO_EXTRA
                case = replace(case, run=run, intents=(*case.intents, intent))
                case, step = await _call(case, intent, asked)
                acted = True
            else:
                step = resolve(case, held(case, answer))
        elif isinstance(step, Reissue):
            try:
                case = await _reissue(case, step, events, extra)
            except Braked as error:  # set since it was looked at
                step = resolve(case, braked(case, step.intent, error))
            else:
                events, extra = (), NO_EXTRA
                case, step = await _call(case, step.intent, asked)
                acted = True
        if isinstance(step, Go) and acted:
            # What the outside world answered is written before anything else is asked of it.
            step = Later(step.state, case.now, step.progress, step.events, extra=step.extra)
        if isinstance(step, Go):
            events, extra = (*events, *step.events), extra + step.extra
            case = case.at(step.state, step.progress)
            continue
        return await _commit(case, step, events, extra, keep=acted)
    raise RuntimeError(f"run {case.run.id} went round {_FARTHEST} times in state {case.run.state}")


def resolve(case: Case, step: Step) -> Step:
    """Apply patience to a wait, the ladder to a failure; a refusal after an action is a failure, and
    one on the way back is a person's business: going back has no ladder."""
    if isinstance(step, Wait):
        step = patient(case, step)
    if isinstance(step, Fail):
        return failed(case, step)
    if not (isinstance(step, End) and step.outcome is Outcome.REFUSED):
        return step
    if case.run.state is State.REVERTING:
        return replace(step, outcome=Outcome.ESCALATED, note=step.note or "could not go back")
    if not case.progress.applied:
        return step
    fail = Fail(
        step.reason or Reason.BOUND_EXCEEDED,
        step.observed,
        step.allowed,
        note=step.note or "refused to go on",
        events=step.events,
        extra=step.extra,
    )
    return failed(case, fail)


async def _ask(case: Case, until: float) -> Step:
    """The state's handler; what it could not do is a refusal or a wait, never a crash.

    Args:
        until: the event loop's time at which it must have answered.
    """
    try:
        async with asyncio.timeout_at(until):
            return await HANDLERS[case.run.state](case)
    except TimeoutError:
        seen = "checks and observations together took too long"
        return Wait(Reason.CHECK_UNANSWERED, seen, f"answers within {ASKING:g}s")
    except Refused as error:
        if case.pending is not None:  # a call whose outcome is not known never just ends
            return quarantine(case, case.pending, str(error))
        return End(
            Outcome.REFUSED, error.reason, error.observed or str(error), error.allowed, note=str(error)
        )
    except ActionError as error:
        return Wait(Reason.CHECK_UNANSWERED, str(error), "an answer")


async def _call(case: Case, intent: Intent, asked: float) -> tuple[Case, Step]:
    """The case as the call left it, and what comes next. A run that waits from here on counts by what its
    row says: the clock may have jumped under the call, and the row with it."""
    step = await act(case, intent, asked)
    if isinstance(step, Wait):
        with contextlib.suppress(StoreError):  # else as it was: the outcome comes first
            row, now = await case.tools.store.run(case.run.id), await case.tools.store.now()
            case = replace(case, now=now, run=msgspec.structs.replace(case.run, progress=row.progress))
    return case, resolve(case, step)


async def _reissue(case: Case, step: Reissue, events: tuple[AuditEvent, ...], extra: Extra) -> Case:
    intent = step.intent
    state = State.ACTING if intent.kind is IntentKind.APPLY else State.REVERTING
    run = await case.tools.store.move(
        case.run,
        Move(
            state=state,
            next_at=Instant(case.now + LEASE),
            progress=case.progress,
            events=(*events, *step.events),
            intents=(
                *extra.intents,
                IntentUpdate(number=intent.number, outcome=IntentOutcome.PENDING),
            ),
        ),
    )
    return replace(case, run=run)


async def _commit(case: Case, step: Step, events: tuple[AuditEvent, ...], extra: Extra, keep: bool) -> Run:
    """Write the step.

    keep: an outcome of the outside world is in it. It is not let go of while the store is away:
        it is written as soon as the store is back, if the run still is ours. A store that will not
        come back to this process keeps nothing: the next one finds the intent, and looks.
    """
    match step:
        case Later():
            move = later(case, step, events, extra)
            # The call went through, and what comes next waits for nothing but its record.
            move = msgspec.structs.replace(move, goes_on=keep and step.reason is None)
        case Wait():
            move = waiting(case, step, events, extra)
        case End():
            move = ended(case, step, events, extra)
        case _:
            raise TypeError(f"run {case.run.id}: {type(step).__name__} cannot be written")
    lost = False
    while True:
        try:
            return await write(case, move)
        except LeaseLost:
            if lost and await _stands(case, move):
                # It may be another worker's by now: whoever reads this must not take it for its own.
                run = await case.tools.store.run(case.run.id)
                return msgspec.structs.replace(run, epoch=case.run.epoch)
            if keep:
                await _as_evidence(case, move)
            raise
        except StoreUnavailable as error:
            if not keep or case.tools.store.fatal is not None:
                raise
            lost = True
            log.warning("outcome.kept", run=case.run.id, error=str(error))
            await asyncio.sleep(1)


async def write(case: Case, move: Move) -> Run:
    """Apply the move; count and log an ending.

    Raises:
        LeaseLost: another worker holds the run now; nothing was written.
        StoreUnavailable: the store did not answer.
    """
    run = await case.tools.store.move(case.run, move)
    if run.outcome is not None:
        metrics.ended(run.policy, run.outcome, run.reason)
        log.info(
            "run.ended",
            run=run.id,
            policy=run.policy,
            target=run.target,
            outcome=run.outcome,
            reason=run.reason,
            observed=run.observed,
        )
    return run


async def _stands(case: Case, move: Move) -> bool:
    """Whether what the call came to was written, although the answer to that was lost."""
    try:
        known = {one.number: one for one in await case.tools.store.intents(case.run.id)}
    except StoreError:
        return False
    found = [(known.get(update.number), update) for update in move.intents]
    return bool(found) and all(
        one is not None and one.outcome is update.outcome and one.evidence == update.evidence
        for one, update in found
    )


async def _as_evidence(case: Case, move: Move) -> None:
    """The run is another worker's by now: what the call came to is kept, and changes no state."""
    for update in move.intents:
        await keep_late(case, update.number, f"it was {update.outcome}")


def fault(case: Case, error: Exception) -> Move:
    """What becomes of a run in which the engine itself broke off: tried again a few times in the state
    in which it stands, then a person. The target of a call in doubt is quarantined."""
    seen = f"{type(error).__name__}: {error}"
    pending = case.pending
    if case.progress.faults >= _FAULTS:
        if pending is not None:
            return ended(case, quarantine(case, pending, f"a fault in the daemon: {seen}"), (), NO_EXTRA)
        end = End(
            Outcome.ESCALATED,
            Reason.ACTION_FAILED,
            seen,
            "the engine can go on",
            note="a fault in the daemon",
        )
        return ended(case, end, (), NO_EXTRA)
    progress = msgspec.structs.replace(case.progress, faults=case.progress.faults + 1)
    again = Instant(case.now + LEASE)
    step = Later(case.run.state, again, progress, observed=seen, allowed="no fault in the daemon")
    return later(case, step, (), NO_EXTRA)
