"""One sentence about a run: what it did or why it did not, and what comes next. Pure."""

from __future__ import annotations

from remediator.engine.shapes import time
from remediator.engine.timeline import because
from remediator.model import Instant, Millis, Origin, Outcome, Reason, Run, State, span

_NOT_DONE = {
    Outcome.OBSERVED: "only observes",
    Outcome.REFUSED: "refused",
    Outcome.CANCELLED: "cancelled its run",
    Outcome.NOTHING_TO_DO: "found nothing to do",
    Outcome.ESCALATED: "handed it to a person",
}


_ESCALATED: dict[Reason | None, str] = {
    Reason.NOT_HEALED: "Done, but not healed",
    Reason.VERIFY_UNKNOWN: "Done, and not known whether it healed",
}


def headline(run: Run, next: str = "") -> str:
    """`Nothing was done: policy X refused: budget: 4 in 1h, allowed 4 per 1h`

    Args:
        next: what `following` says of an open run.
    """
    why = because(run.reason, run.observed, run.allowed)
    if run.origin is Origin.LEASE:
        return _lease(run, next, why)
    if run.open:
        acted = f"acted on {run.target}; now it" if run.progress.applied else "has not acted yet: it"
        return f"Open: policy {run.policy} {acted} {next}"
    if run.reason is Reason.ACTION_UNKNOWN:
        before = f", after it had acted on {run.target}" if run.progress.applied else ""
        called = "its last call took effect" if before else "it was done"
        return f"Not known whether {called}: policy {run.policy} handed it to a person{before}{why}"
    if not run.progress.applied:
        done = _NOT_DONE.get(run.outcome, str(run.outcome)) if run.outcome else ""
        return f"Nothing was done: policy {run.policy} {done}{why}"
    acted = f"policy {run.policy} acted on {run.target}"
    if run.outcome is Outcome.SUCCEEDED:
        healed = "and nobody verified it" if run.reason is Reason.UNVERIFIED else "and it healed"
        return f"Done: {acted} {healed}{because(None, run.observed, run.allowed, 'wanted')}"
    if run.outcome is Outcome.REVERTED:
        return f"Undone: {acted} and put it back{why}"
    return f"{_ESCALATED.get(run.reason, 'Done, and not verified')}: {acted} and handed it to a person{why}"


def _lease(run: Run, next: str, why: str) -> str:
    """A run of this origin puts back; that it applied nothing says nothing."""
    if run.open:
        return f"Open: the lease of policy {run.policy} on {run.target} has ended; it {next}"
    if run.outcome is Outcome.REVERTED:
        return f"Put back: the lease of policy {run.policy} on {run.target} has ended"
    return f"Not put back: the lease of policy {run.policy} on {run.target} has ended{why}"


def following(run: Run, now: Instant, give_up: Millis | None) -> str:
    """What an open run does next, as the end of a sentence that starts with `it`; "" when it has ended.

    Args:
        give_up: how long its policy lets it wait; None where the policy cannot be read.
    """
    if not run.open:
        return ""
    progress, again = run.progress, _at(run.next_at, now)
    since = progress.waiting_since
    if run.reason is not None and since is not None:
        until = f", gives up at {time(Instant(since + give_up))}" if give_up is not None else ""
        return f"waits{because(run.reason, run.observed, run.allowed)}; tries again {again}{until}"
    if run.state is State.APPROVAL:
        by = f", until {time(run.next_at)} at most" if run.next_at is not None else ""
        return f"waits for a person to approve it{because(None, run.observed, run.allowed)}{by}"
    if run.state is State.HOLD:
        return f"holds until the alert has fired long enough; asks the guards {again}"
    if run.state is State.SETTLING:
        return f"waits for the provider to finish; asks again {again}{_until(progress.settle_until)}"
    if run.state is State.VERIFY:
        well = f", healthy since {time(progress.stable_since)}" if progress.stable_since else ""
        return f"verifies the effect{well}; looks {again}{_until(progress.verify_until)}"
    if run.state is State.UNKNOWN:
        return f"does not know whether its call took effect; observes the target {again}"
    if run.state is State.REVERTING:
        return f"puts back what it did; goes on {again}"
    if run.state is State.ACTING:
        return f"is calling the action; should that call be cut short, it is looked into {again}"
    return f"is in {run.state}; goes on {again}"


def _at(at: Instant | None, now: Instant) -> str:
    if at is None or at <= now:
        return "now"
    return f"at {time(at)} (in {span((at - now + 999) // 1000 * 1000)})"


def _until(at: Instant | None) -> str:
    return f", until {time(at)} at most" if at is not None else ""
