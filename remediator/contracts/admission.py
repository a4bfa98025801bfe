"""What ADMIT checks again in its transaction, and what it answers."""

from __future__ import annotations

from remediator.contracts.move import Move
from remediator.model import Budget, Instant, Intent, Millis, Mode, Reason, Struct


class Limit(Struct, frozen=True, kw_only=True):
    """A budget with what it counts: every intent, those of a policy, or those of a target."""

    scope: str
    """`global`, `policy` or `target`: also the order in which the counters are locked."""
    budget: Budget
    source: str
    """Where it stands: `policy limits.budget`, `limits.yaml global`, `built-in`, …"""


class Slot(Struct, frozen=True, kw_only=True):
    """The stretch of time in which the windows let an action start, as the guards saw it: ADMIT compares
    it with its own clock. Waiting for a lock can take an action across its edge.

    since, until: None where it has no end that is near. then: which window's edge `until` is.
    """

    since: Instant | None = None
    until: Instant | None = None
    then: str = ""


ALWAYS = Slot()


class Arrivals(Struct, frozen=True, kw_only=True):
    """How many new episodes a sender brought in the second that began at `at`."""

    sender: str
    at: Instant
    count: int


class Surge(Struct, frozen=True, kw_only=True):
    """The bound on new episodes of one sender: fewer than `new_alerts` within `within` milliseconds."""

    sender: str
    new_alerts: int
    within: Millis


class Flapping(Struct, frozen=True, kw_only=True):
    """The bound on how often a policy may heal one target, or one alert."""

    budget: Budget
    sender: str
    fingerprint: str


class Admission(Struct, frozen=True, kw_only=True):
    """Everything ADMIT must re-check and write in its one transaction.

    limits, cooldown and concurrency apply to what `counted` says; a revert or return obeys pause
    and quarantine only, yet counts.
    policy_set: the revision the guards were evaluated with; if it is no longer active, the answer
    is Held(POLICIES_CHANGED) and the worker looks again.
    leases: the effects that a return puts back; each must still be open and this run's, else the
    answer is Held(LEASE_CLOSED).
    slot: when windows let it start. mode: the one under which the guards were asked; a breaker that
    demotes to less holds, unless the run has acted (`begun`).
    storm, flapping: further bounds of what starts; None where there is none.
    """

    intent: Intent
    move: Move
    limits: tuple[Limit, ...]
    cooldown: Millis
    concurrent_policy: int
    concurrent_global: int
    policy_set: str
    need_firing: bool
    leases: tuple[int, ...] = ()
    slot: Slot = ALWAYS
    mode: Mode = Mode.ENFORCE
    begun: bool = False
    approval: int | None = None
    """The approval that this action rests on. A run in mode approve is not admitted without one."""
    storm: Surge | None = None
    flapping: Flapping | None = None


class Held(Struct, frozen=True, kw_only=True):
    """Why ADMIT did not admit. `until`: when it is worth trying again, where that is known."""

    reason: Reason
    observed: str
    allowed: str
    until: Instant | None = None
