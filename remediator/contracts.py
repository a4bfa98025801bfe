"""The contracts that the parts of remediator have with each other. No implementation here.

The engine knows only these. Actions, checks, receivers and notifiers are written against them
and do not know each other; `wiring` is the one place that names concrete classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from remediator.model import (
    Alert,
    AlertId,
    Approval,
    AuditEvent,
    AuditRecord,
    Budget,
    Control,
    ControlKind,
    Decision,
    Effect,
    Episode,
    Incident,
    IncidentId,
    IncidentProgress,
    Instant,
    Intent,
    IntentOutcome,
    Landed,
    Message,
    Millis,
    Mode,
    Origin,
    Outcome,
    Plan,
    Progress,
    Reading,
    Reason,
    Risk,
    Run,
    RunId,
    Severity,
    State,
    Struct,
)

# ---------------------------------------------------------------- time


class Clock(Protocol):
    """Where time comes from. Nothing else in the package asks the operating system."""

    def now(self) -> Instant: ...


# ---------------------------------------------------------------- actions and checks


class Params(BaseModel):
    """Base of every action's and check's parameters: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Selector:
    """Marks a parameter that may be filled from an alert's labels: it selects *which* thing.

    Args:
        pattern: RE2, matched against the whole value; anything else is refused.
    """

    pattern: str


@dataclass(frozen=True, slots=True)
class ConnectionOf:
    """Marks the parameter that names a connection of settings, and which kind it must be."""

    kind: str


@dataclass(frozen=True, slots=True)
class Permission:
    """What a connection's identity must be allowed to do.

    Args:
        system: `aws`, `gcp`, `kubernetes`, `postgres`, `http`, …
        grant: `autoscaling:SetDesiredCapacity`, `run.services.update`, `get deployments.apps`, SQL.
        why: one line for the reviewer.
    """

    system: str
    grant: str
    why: str


NEVER = Millis(0)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """How a repeated call is kept from acting twice.

    kind `token`: the provider deduplicates by token for `valid` milliseconds;
    `conditional`: the call carries a version and fails if the thing has changed;
    `probe`: observation tells whether it happened; `none`: nothing does.
    """

    kind: str
    valid: Millis = NEVER

    @property
    def reissuable(self) -> bool:
        """Whether a call proven not applied may be issued again with the same token."""
        return self.kind in ("token", "conditional")


C = TypeVar("C")
P = TypeVar("P", bound=Params)


class Context(Protocol):
    """What an action or check is given: connections by name, and the alert it is about."""

    @property
    def now(self) -> Instant: ...

    @property
    def episode(self) -> Episode | None:
        """The run's episode; None when a person tries an action out by hand."""

    def client(self, kind: type[C], connection: str) -> C:
        """The connection's client, made on first use.

        Raises:
            Refused: (UNKNOWN_CONNECTION) no such connection, or it is of another kind.
        """


class Observed(Struct, frozen=True, kw_only=True):
    """An action's view of its target: the present fields, with the provider's version of them.

    fields: JSON-able; only what the action declares. `target.key` is the provider's identity.
    """

    target: Any
    fields: dict[str, Any]
    version: str | None = None


class Nothing(Struct, frozen=True, kw_only=True):
    """A plan that there is nothing to do, and why."""

    why: str


class Settled(Struct, frozen=True, kw_only=True):
    """Whether the provider has finished the work that `apply` started.

    done False and failed "" means: still working. failed says why it will never finish.
    """

    done: bool
    failed: str = ""
    detail: dict[str, Any] = {}


class Action(ABC, Generic[P]):
    """Changes one target in one bounded way. See docs/writing-an-action.md.

    Everything is synchronous and runs in a thread. An action decides nothing: no rate limit,
    approval, retry or mode inside it. It raises only the four kinds of `errors.ActionError`
    (clients already convert their SDK's errors).
    """

    name: ClassVar[str]
    """`system.verb_noun`, as in policies."""
    summary: ClassVar[str]
    """One line for the catalogue."""
    params: ClassVar[type[Params]]
    risk: ClassVar[Risk]
    irreversible: ClassVar[str | None] = None
    """Why it cannot be undone; None where `undo` goes back."""
    idempotency: ClassVar[Idempotency]
    landing_time: ClassVar[Millis]
    """How late a lost call can still take effect."""
    settle_time: ClassVar[Millis] = Millis(600_000)
    """How long `settled` may take to become true."""
    blast_unit: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    """The names `observe`, `before` and `after` use. Leases are kept per (target, field)."""
    permissions: ClassVar[tuple[Permission, ...]]
    example: ClassVar[Mapping[str, Any]]
    """One remedy as it stands in a policy: {"action": …, "with": {…}}. Tests load it."""

    @abstractmethod
    def target_name(self, params: P) -> str:
        """The target as people read it, from the parameters alone, e.g. `postgres:orders`."""

    @abstractmethod
    def observe(self, context: Context, params: P) -> Observed:
        """Read the present state and the provider's identity of the target. Changes nothing."""

    @abstractmethod
    def plan(self, observed: Observed, params: P, done: Sequence[Plan]) -> Plan | Nothing:
        """Pure: what to do from here, clamped to the bounds.

        Args:
            done: the plans of this same action that this run has already applied, oldest first
                (steps of a gradual change, chunks of a bulk change).
        """

    @abstractmethod
    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        """Do exactly this plan, conditionally where the provider can; return evidence.

        Only starts the work, or does one chunk of under 20 s.
        """

    @abstractmethod
    def settled(self, context: Context, plan: Plan) -> Settled:
        """Whether the provider has finished."""

    @abstractmethod
    def landed(self, observed: Observed, plan: Plan) -> Landed:
        """Pure: whether this observation shows that the plan was applied."""

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        """Pure: the plan that goes back to `plan.before` from here.

        Raises:
            Refused: (CHANGED_BY_PERSON) the field is no longer what the plan left.
            Refused: (IRREVERSIBLE) the action cannot go back.
        """
        from remediator.errors import Refused

        raise Refused(
            Reason.IRREVERSIBLE,
            f"{self.name} cannot be undone: {self.irreversible or 'it declares no way back'}",
        )


class Check(ABC, Generic[P]):
    """Reads one signal. Empty samples mean no data; a check never invents a value."""

    name: ClassVar[str]
    summary: ClassVar[str]
    params: ClassVar[type[Params]]
    unit: ClassVar[str]
    """The unit of the samples ("" for a plain number, "%", "s", "By"); `is:` is compared in it."""
    max_age: ClassVar[Millis] = Millis(300_000)
    """Samples older than this are stale, which is no data."""
    permissions: ClassVar[tuple[Permission, ...]]
    example: ClassVar[Mapping[str, Any]]
    """{"check": …, "with": {…}, "is": "…"}"""

    @abstractmethod
    def read(self, context: Context, params: P) -> Reading:
        """Ask the source once.

        Raises:
            ActionError: the source did not answer, which is no data.
        """


class Catalogue(Protocol):
    """The actions and checks found by scan."""

    def action(self, name: str) -> Action[Any] | None: ...
    def check(self, name: str) -> Check[Any] | None: ...
    def actions(self) -> Sequence[Action[Any]]: ...
    def checks(self) -> Sequence[Check[Any]]: ...


# ---------------------------------------------------------------- receivers and notifiers


class Bad(Struct, frozen=True, kw_only=True):
    """An alert, or a whole body, that could not be taken, kept so that nothing is lost silently."""

    field: str
    message: str
    body: bytes


class Parsed(Struct, frozen=True, kw_only=True):
    """What a receiver made of a body.

    alerts: the good ones, with a digest of what each says (a repeat has an equal digest).
    bad: the rest. truncated: how many the sender says it left out.
    test: a test notification; it is recorded and never acted on.
    """

    alerts: tuple[tuple[Alert, int], ...]
    bad: tuple[Bad, ...] = ()
    truncated: int = 0
    test: bool = False


class Receiver(Protocol):
    """Understands the bodies of one kind of sender."""

    kind: str

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        """Parse one body.

        Raises:
            PayloadError: the envelope cannot be read (400).
        """

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        """The alert at `position` of a body that `parse` has accepted before."""


class Notifier(Protocol):
    name: str

    async def send(self, message: Message) -> None:
        """Deliver one message, or raise."""


# ---------------------------------------------------------------- the store


class Opening(Struct, frozen=True, kw_only=True):
    """A run to be opened for a new episode: what matching found, not yet a row.

    target None means that it could not be named (the first advance refuses and says why).
    open_runs: the policy's limit of open runs; beyond it the run is stored refused.
    started: who started it by hand and why; the store fills in the alert, the run and its target.
    """

    policy: str
    policy_revision: str
    target: str | None
    mode: Mode
    state: State
    next_at: Instant
    open_runs: int
    origin: Origin = Origin.ALERT
    started: AuditEvent | None = None


Match = Callable[[Alert, Instant], Sequence[Opening]]
"""(alert, time of receipt) → the runs to open. Pure and fast; called for new episodes only."""


class Delivery(Struct, frozen=True, kw_only=True):
    """One authenticated body on its way into the store. `revision` is the active policy set's."""

    sender: str
    kind: str
    body: bytes
    parsed: Parsed
    revision: str
    received_at: Instant


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of a delivery, after its commit.

    refused: the policies that had as many open runs as they may, once for each run refused.
    """

    accepted: int = 0
    repeated: int = 0
    resolved: int = 0
    updated: int = 0
    runs: tuple[RunId, ...] = ()
    alerts: tuple[AlertId, ...] = ()
    refused: tuple[str, ...] = ()


class IntentUpdate(Struct, frozen=True, kw_only=True):
    number: int
    outcome: IntentOutcome
    evidence: dict[str, Any] = {}


class NewEffect(Struct, frozen=True, kw_only=True):
    """A lease to open. An open one on the same (target key, field) hands down its prior value."""

    field: str
    prior: Any
    current: Any
    plan: Plan
    expires_at: Instant


class Breaker(Struct, frozen=True, kw_only=True):
    """What opens if the last `ineffective` runs of the run's policy all ended without healing: the brake,
    with its audit event and messages. Counted in the transaction that ends the run."""

    ineffective: int
    control: Control
    event: AuditEvent
    messages: tuple[Message, ...] = ()


class Declaration(Struct, frozen=True, kw_only=True):
    """That a run needs an incident: one of its target that is open, or a new one.

    target: as people read it. target_key: the provider's identity where it is known.
    calling: the run ends and calls a person. Without it the incident is only opened ahead, and not
        again if the run has had one.
    by_person: only a person can say when this is over.
    """

    target: str
    target_key: str
    severity: Severity
    chain: str
    policy: str
    calling: bool = True
    by_person: bool = False


class IncidentChange(Struct, frozen=True, kw_only=True):
    """One transaction on an incident, made only if nobody has changed it since it was read.

    runs: that join it. acknowledged_by: a person has it now. resolved: it is over.
    """

    progress: IncidentProgress
    next_at: Instant | None
    severity: Severity | None = None
    acknowledged_by: str | None = None
    resolved: bool = False
    runs: tuple[RunId, ...] = ()
    events: tuple[AuditEvent, ...] = ()
    messages: tuple[Message, ...] = ()


class Move(Struct, frozen=True, kw_only=True):
    """One transaction on a run: what changes, with its audit events and messages.

    state, next_at, progress: always given; an outcome ends the run (next_at is then None).
    An outcome also frees the run's target locks, unless a quarantine is in `controls`.
    effect_done: leases that end, each with what became of it.
    """

    state: State
    next_at: Instant | None
    progress: Progress
    outcome: Outcome | None = None
    reason: Reason | None = None
    observed: str = ""
    allowed: str = ""
    events: tuple[AuditEvent, ...] = ()
    messages: tuple[Message, ...] = ()
    intents: tuple[IntentUpdate, ...] = ()
    effects: tuple[NewEffect, ...] = ()
    effect_done: tuple[tuple[int, str], ...] = ()
    effect_extend: tuple[int, Instant] | None = None
    controls: tuple[Control, ...] = ()
    ask: Approval | None = None
    """A question to people, under a number of `Store.approval_number`; the run waits for its answer."""
    breaker: Breaker | None = None
    incident: Declaration | None = None


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


class Revision(Struct, frozen=True, kw_only=True):
    """A policy set as stored: hash of its files, the files' texts by name, where it came from."""

    hash: str
    files: dict[str, str]
    git: str = ""
    loaded_at: Instant = Instant(0)


class NotifierState(Struct, frozen=True, kw_only=True):
    """A notifier that has failed at least once. failing_since: None while it is well. told_at: when
    people were told that it fails."""

    name: str
    failing_since: Instant | None
    retry_at: Instant | None
    told_at: Instant | None
    error: str


class Facts(Struct, frozen=True, kw_only=True):
    """What there is to know about a run, as it was at one moment.

    episodes: its own first, then those attached to it. intents: oldest first; empty where the run has had
    none. controls: the brakes that are on.
    """

    episodes: tuple[Episode, ...]
    intents: tuple[Intent, ...]
    controls: tuple[Control, ...]
    now: Instant


class Outgoing(Struct, frozen=True, kw_only=True):
    """A message of the outbox that is due. notifier: the one it is for; None while nobody has said."""

    id: int
    at: Instant
    attempts: int
    message: Message
    notifier: str | None = None


class SealReport(Struct, frozen=True, kw_only=True):
    """What `audit verify` found. ids are `source:id`."""

    sealed: int
    unsealed: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    broken: tuple[int, ...]
    head: str
    head_found: bool = True

    @property
    def whole(self) -> bool:
        return not (self.missing or self.changed or self.broken) and self.head_found


class Health(Struct, frozen=True, kw_only=True):
    """Numbers about the store for /metrics and /readyz."""

    open_runs: int
    oldest_due_at: Instant | None
    outbox_oldest_at: Instant | None
    unsealed_oldest_at: Instant | None


class Hint(StrEnum):
    """What may have happened in another process that shares the store."""

    DUE = "due"
    """A run may be due."""
    POLICIES = "policies"
    """Another policy set may be active."""


class Store(Protocol):
    """The durable truth. Every method that writes is one transaction and returns after commit.

    Raises (all methods):
        StoreUnavailable: nothing was written as far as is known; fail closed.
    """

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    def hints(self, told: Callable[[Hint], None]) -> None:
        """Call `told`, in the event loop, when another process may have changed something. It only saves
        waiting for the next look: a hint may come for nothing, twice, late or never. A store that has one
        process gives none. To be asked before `open`."""

    @property
    def fatal(self) -> Exception | None:
        """Why this store will answer nothing more until the process starts anew (a sync that failed:
        nobody knows what the disk holds); None if all is well."""

    @property
    def unwritable(self) -> Exception | None:
        """Why a write did not go through (a full disk, a server that is away), until a probe of some size
        has: a disk that has no room for an alert still has some for a claim."""

    async def probe(self, size: int = 0) -> None:
        """Write something that means nothing, durably, to learn whether that is possible.

        Args:
            size: bytes. One of 0 only looks; one of more that goes through also ends `unwritable`.
        """

    async def now(self) -> Instant:
        """The store's clock, which decides everything that depends on time."""

    # -- intake
    async def accept(self, delivery: Delivery, match: Match) -> Receipt:
        """Take a delivery: new episodes with their runs, changes, and the raw body.

        A body that changes nothing is not written again.
        """

    async def reject(
        self, sender: str, status: int, bad: Sequence[Bad], events: Sequence[AuditEvent]
    ) -> None:
        """Keep what could not be taken (bounded in number and size)."""

    async def episode(self, id: AlertId) -> Episode: ...

    async def episodes(self, run: RunId) -> Sequence[Episode]:
        """The run's own episode first, then those attached to it."""

    async def find_episodes(
        self, *, firing: bool | None = None, before: AlertId | None = None, limit: int = 100
    ) -> Sequence[Episode]:
        """Newest first."""

    # -- runs
    async def claim(self, worker: str, limit: int) -> Sequence[Run]:
        """Take due runs for this worker: epoch + 1 and a lease. Also turns leases (effects) that
        ran out into runs of origin LEASE."""

    async def release(self, runs: Sequence[Run]) -> None:
        """Hand claimed runs back unchanged, so that they are due at once (graceful shutdown)."""

    async def facts(self, runs: Sequence[Run]) -> Mapping[RunId, Facts]:
        """What an advance of each of these runs looks at, in one read."""

    async def next_due(self) -> Instant | None: ...

    async def move(self, run: Run, move: Move) -> Run:
        """Apply a move if the run's epoch still is this one and it is not handed back yet.

        Raises:
            LeaseLost: it is not, or it is; nothing was written.
            Braked: it makes an intent pending again, and a pause or a quarantine is on.
        """

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        """The ADMIT transaction: epoch, brakes, counters, lock, intent, state, audit."""

    async def evidence(self, run: RunId, number: int, events: Sequence[AuditEvent]) -> None:
        """Keep a zombie's late outcome. Changes no state."""

    async def run(self, id: RunId) -> Run: ...

    async def find_runs(
        self,
        *,
        open: bool | None = None,
        policy: str | None = None,
        alert: AlertId | None = None,
        before: RunId | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Newest first. By alert: also the runs the alert is attached to."""

    async def intents(self, run: RunId) -> Sequence[Intent]: ...

    async def shadow_count(self, policy: str, since: Instant) -> int:
        """How many runs of the policy ended `observed` since then: the shadow budget."""

    async def cancel(self, run: RunId, event: AuditEvent) -> Run:
        """End a run that has not been admitted.

        Raises:
            NotFound: no such run.
            Conflict: it has ended, or acts already.
        """

    async def wake(self, run: RunId) -> None:
        """Make an open run due now."""

    async def wake_held(self, reasons: Sequence[Reason]) -> None:
        """Make every open run due now that waits for one of these reasons."""

    # -- approvals
    async def approval_number(self) -> int:
        """A number for a question that is about to be asked: its link is made before it is stored."""

    async def approval(self, id: int) -> Approval: ...

    async def approvals(
        self, *, run: RunId | None = None, open: bool | None = None, limit: int = 100
    ) -> Sequence[Approval]:
        """Newest first."""

    async def decide(self, id: int, decision: Decision, event: AuditEvent) -> Approval:
        """Approve or reject, once, for good; the run is due at once and taken from whoever looks at it.

        Args:
            event: whose actor decides; its `observed` is the comment. The store fills in the rest.

        Raises:
            NotFound: there is no such approval.
            Conflict: it is decided, has expired by the store's clock, or its run does not wait for it.
        """

    # -- policies
    async def propose(
        self, revision: Revision, events: Sequence[AuditEvent], replica: str | None = None
    ) -> None:
        """Make this policy set the active one. Args: replica: whose directory it is from; see `looked`."""

    async def looked(self, replica: str) -> str | None:
        """The hash of what a replica's directory held when it last looked; None if it never did."""

    async def look(self, replica: str, hash: str) -> None:
        """Remember what a replica's directory holds."""

    async def active_revision(self) -> str | None: ...

    async def revision(self, hash: str) -> Revision: ...

    # -- brakes, leases
    async def controls(self) -> Sequence[Control]:
        """The brakes that are on now; expired ones are left out."""

    async def set_control(
        self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()
    ) -> Control:
        """Set a brake; returns the one that stands. A pause takes nothing from one of the same scope that
        lasts longer: that stays, and the event says so (`stays`, else `replaced`)."""

    async def trip(self, control: Control, event: AuditEvent, messages: Sequence[Message] = ()) -> bool:
        """Set a brake that the daemon finds itself; returns whether that is news. If it is on already, it
        only lasts longer: nothing is recorded and nobody is told again."""

    async def arrivals(self, after: Instant, sender: str | None = None) -> Sequence[Arrivals]:
        """New episodes since then, by sender and second; of one sender or of all."""

    async def healed(self, run: Run, flapping: Flapping) -> int:
        """How many runs of this run's policy ended well within the budget's window on this run's target,
        or about this very alert."""

    async def jumped(
        self, by: Millis, control: Control, event: AuditEvent, messages: Sequence[Message] = ()
    ) -> None:
        """`set_control`, and every timer that is still to come is moved by so much: the clock of this
        store jumps right after. Only for a store whose clock is its owner's."""

    async def clear_control(self, kind: ControlKind, scope: str, event: AuditEvent) -> bool: ...

    async def effects(self, *, open: bool = True) -> Sequence[Effect]: ...

    async def effect(self, id: int) -> Effect: ...

    async def renew_effect(self, id: int, until: Instant, event: AuditEvent) -> Effect:
        """Put the end of a lease off, for all that one call lent.

        Raises:
            NotFound, Conflict: there is none, or it is over, is being returned, or ends later already.
        """

    async def recall_effect(self, id: int, event: AuditEvent) -> Run:
        """Open the run that returns a lease now.

        Raises:
            NotFound, Conflict: there is none, or it is over, or is being returned.
        """

    async def names(self, target_key: str) -> Sequence[str]:
        """The names under which runs have acted on this target lately."""

    async def locks(self) -> Mapping[str, RunId]:
        """Target key → the run that holds it."""

    # -- incidents
    async def incident(self, id: IncidentId) -> Incident: ...

    async def find_incidents(
        self,
        *,
        open: bool | None = None,
        run: RunId | None = None,
        alert: AlertId | None = None,
        before: IncidentId | None = None,
        limit: int = 100,
    ) -> Sequence[Incident]:
        """Newest first. By alert: those of its runs."""

    async def incident_runs(self, id: IncidentId) -> Sequence[Run]:
        """The runs of an incident, oldest first."""

    async def due_incidents(self, limit: int) -> Sequence[Incident]:
        """Open incidents on which something is to be said by now, the longest due first."""

    async def settled_incidents(self, after: IncidentId, limit: int) -> Sequence[Incident]:
        """Open incidents behind this id of which no run is open, no alert fires, and whose target is
        not quarantined."""

    async def joining_runs(self, limit: int) -> Sequence[tuple[IncidentId, Run]]:
        """Runs, open or lately ended, on the target of an open incident that they are not yet part of."""

    async def next_incident_at(self) -> Instant | None:
        """When something is to be said next."""

    async def change_incident(self, incident: Incident, change: IncidentChange) -> Incident | None:
        """Apply a change; None if it was changed since it was read, and nothing was written."""

    # -- outbox
    async def due_messages(self, limit: int) -> Sequence[Outgoing]: ...

    async def spread_message(self, id: int, notifiers: Sequence[str]) -> bool:
        """Address a message to these notifiers, a row each; False if it is addressed already."""

    async def message_sent(self, id: int, event: AuditEvent) -> NotifierState | None:
        """Record that a message went out; how its notifier stands now.

        Raises:
            NotFound: there is no unsent message of that id.
        """

    async def message_failed(self, id: int, retry_at: Instant, error: str) -> NotifierState | None:
        """Record a failed try; its notifier is tried less and less often, by whichever message.

        Raises:
            NotFound: there is no unsent message of that id.
        """

    async def abandon_messages(self, notifier: str, before: Instant, event: AuditEvent) -> int:
        """Give up what this notifier has not taken since then; returns how many messages."""

    async def notifiers(self) -> Sequence[NotifierState]:
        """Those that have failed once, by name."""

    async def tell_notifier(
        self, name: str, failing: bool, event: AuditEvent, messages: Sequence[Message]
    ) -> bool:
        """Say once that a notifier fails, or is well again; False if that was said, or is not so."""

    # -- audit
    async def record(self, events: Sequence[AuditEvent], messages: Sequence[Message] = ()) -> None:
        """Append events, and post what people are to be told with them."""

    async def once(
        self, key: str, keep: Instant, events: Sequence[AuditEvent], messages: Sequence[Message] = ()
    ) -> bool:
        """As `record`, unless something was recorded under this key: then False, and nothing is written.

        Args:
            keep: until when the key must be remembered.
        """

    async def said(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys `once` has recorded something under."""

    async def audit(
        self,
        *,
        alert: AlertId | None = None,
        run: RunId | None = None,
        policy: str | None = None,
        target: str | None = None,
        kind: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        before: int | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Sequence[AuditRecord]:
        """Audit events and deliveries (as alert.accepted, alert.resolved …) in one order."""

    async def seal(self) -> str:
        """Seal what is committed and not sealed; returns the chain's head ("" when empty)."""

    async def verify(self, head: str | None = None) -> SealReport: ...

    # -- upkeep
    async def prune(self, keep: Mapping[str, Millis]) -> Mapping[str, int]:
        """Delete rows of each table older than its retention; returns how many."""

    async def health(self) -> Health: ...
