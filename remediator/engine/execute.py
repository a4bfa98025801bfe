"""The one door to the outside world: every call of an action or a check goes through here.

It alone interprets what they raise. Reading may fail as Temporary or Permanent; a mutation whose
answer is not certain becomes Ambiguous, whatever the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from remediator import metrics
from remediator.contracts import Action, Check, Context, Observed, Params, Settled
from remediator.engine.threads import Calls, Late
from remediator.errors import ActionError, Ambiguous, Permanent, Refused, Temporary
from remediator.model import Episode, Instant, Plan, Reading, Reason

T = TypeVar("T")
log = structlog.get_logger()


class Contexts(Protocol):
    """Makes the context that one call is given."""

    def __call__(self, now: Instant, episode: Episode | None) -> Context: ...


@dataclass(frozen=True, slots=True)
class Execute:
    """Performs calls in threads, within their deadlines.

    Args:
        read_timeout: seconds for a check or an observation.
        apply_timeout: seconds for a mutation; what takes longer is Ambiguous.
        passed: seconds since any beginning; goes on while the process stands still.
    """

    contexts: Contexts
    threads: Calls
    read_timeout: float = 10.0
    apply_timeout: float = 30.0
    passed: Callable[[], float] = time.monotonic

    async def read(self, check: Check[Any], params: Params, now: Instant, episode: Episode) -> Reading:
        """Ask a check once.

        Raises:
            ActionError: it did not answer, which is no data.
        """
        context = self.contexts(now, episode)
        started = time.monotonic()
        outcome = "failed"
        try:
            reading = await self._read(check.name, lambda: check.read(context, params), check.local)
            outcome = "answered" if reading.samples else "no_data"
            return reading
        finally:
            metrics.CHECK_SECONDS.labels(check.name, outcome).observe(time.monotonic() - started)

    async def observe(
        self, action: Action[Any], params: Params, now: Instant, episode: Episode | None
    ) -> Observed:
        """Read a target's present state.

        Raises:
            ActionError: it could not be read.
        """
        context = self.contexts(now, episode)
        return await self._read(action.name, lambda: action.observe(context, params))

    async def settled(
        self, action: Action[Any], plan: Plan, now: Instant, episode: Episode | None
    ) -> Settled:
        """Whether the provider has finished.

        Raises:
            ActionError: it could not be asked.
        """
        context = self.contexts(now, episode)
        return await self._read(action.name, lambda: action.settled(context, plan))

    async def apply(
        self,
        action: Action[Any],
        plan: Plan,
        token: str,
        now: Instant,
        episode: Episode | None,
        late: Late,
        begin_by: float,
    ) -> dict[str, Any]:
        """Do a plan, once. The only place that calls `apply`.

        Args:
            late: told of an outcome that comes after the deadline.
            begin_by: on `passed`; a process that was stopped until after it calls no more.

        Raises:
            Temporary, Permanent, Refused: provably not applied.
            Ambiguous: it may have been.
        """
        context = self.contexts(now, episode)
        started = time.monotonic()
        outcome = "ambiguous"
        try:
            evidence = await self.threads.call(
                lambda: _in_time(action, context, plan, token, begin_by - self.passed()),
                self.apply_timeout,
                late,
            )
            outcome = "applied"
            return evidence
        except TimeoutError:
            raise Ambiguous(
                f"{action.name} on {plan.target.name} did not answer within {self.apply_timeout:g}s"
            ) from None
        except Ambiguous:
            raise
        except ActionError:
            outcome = "not_applied"
            raise
        except Exception as error:
            log.exception("action.bug", action=action.name, target=plan.target.name)
            raise Ambiguous(
                f"{action.name} on {plan.target.name} broke off with {type(error).__name__}"
            ) from error
        finally:
            metrics.ACTION_SECONDS.labels(action.name, outcome).observe(time.monotonic() - started)

    async def _read(self, name: str, work: Callable[[], T], local: bool = False) -> T:
        try:
            return work() if local else await self.threads.call(work, self.read_timeout)
        except TimeoutError:
            raise Temporary(f"{name} did not answer within {self.read_timeout:g}s") from None
        except Ambiguous as error:  # a read changes nothing, so it is only not answered
            raise Temporary(str(error)) from error
        except ActionError:
            raise
        except Exception as error:
            log.exception("read.bug", name=name)
            raise Permanent(f"{name} broke off with {type(error).__name__}: a fault in its code") from error


def _in_time(action: Action[Any], context: Context, plan: Plan, token: str, left: float) -> dict[str, Any]:
    """left: seconds for which the permission may still be used."""
    if left < 0:
        raise Temporary(
            f"{action.name} on {plan.target.name} was not called: this process stood still, and the "
            f"permission to call was {-left:.0f}s too old"
        )
    return action.apply(context, plan, token)


def pure(name: str, work: Callable[[], T]) -> T:
    """Call an action's pure part (`plan`, `landed`, `undo`) here, where its faults are interpreted.

    Raises:
        ActionError: what it raised; a fault in its code is Refused, for nothing was done.
    """
    try:
        return work()
    except ActionError:
        raise
    except Exception as error:
        log.exception("action.bug", action=name)
        raise Refused(
            Reason.INVALID_PARAMETER, f"{name} could not plan: {type(error).__name__} (a fault in its code)"
        ) from error
