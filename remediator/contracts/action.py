"""What an action is, and what it declares beside its code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from remediator.model import Episode, Instant, Landed, Millis, Plan, Reason, Risk, Struct


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
