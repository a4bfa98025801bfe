"""Everything one advance of a run may look at: the run, its policy, its alerts, the time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from remediator.contracts import Action, Catalogue, Params, Store
from remediator.engine.execute import Execute
from remediator.engine.link import Links
from remediator.errors import Refused
from remediator.model import (
    AuditEvent,
    Control,
    Episode,
    Instant,
    Intent,
    IntentOutcome,
    Origin,
    Progress,
    Reason,
    Run,
    State,
)
from remediator.policy.schema import ActionUse, Policy, Remedy
from remediator.policy.set import PolicySet
from remediator.policy.template import render
from remediator.settings import Approvals


@dataclass(frozen=True, slots=True)
class Rules:
    """How people are asked: who may say yes, and the link they are sent."""

    rules: Approvals = field(default_factory=Approvals)
    links: Links = field(default_factory=Links)


def nonce() -> str:
    """A text that nobody has used before and nobody can guess."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the engine works with.

    nonce: where each intent's mark comes from, by which it is found again if ADMIT's answer is lost.
    """

    store: Store
    catalogue: Catalogue
    execute: Execute
    approvals: Rules = field(default_factory=Rules)
    nonce: Callable[[], str] = nonce


@dataclass(frozen=True, slots=True)
class Case:
    """One run under the engine's eyes. Frozen: a step makes a new one.

    active: the policy set that is in force now. controls: the brakes that are on; ADMIT asks again.
    rendered: (rung, step) → the parameters of that action for this alert; the same for all steps of one
        advance, so that they are rendered once.
    """

    run: Run
    policy: Policy
    active: PolicySet
    episodes: tuple[Episode, ...]
    intents: tuple[Intent, ...]
    controls: tuple[Control, ...]
    now: Instant
    tools: Tools
    rendered: dict[tuple[int, int], Params] = field(default_factory=dict, repr=False, compare=False)

    @property
    def episode(self) -> Episode:
        return self.episodes[0]

    @property
    def progress(self) -> Progress:
        return self.run.progress

    @property
    def admitted(self) -> bool:
        """Whether this run has changed anything: from there on a resolve is evidence only.

        An intent that was provably not applied changed nothing.
        """
        return bool(self.progress.applied)

    @property
    def remedy(self) -> Remedy:
        return self.policy.remedies[self.progress.rung]

    @property
    def use(self) -> ActionUse:
        """The action being worked on."""
        return self.remedy.actions[self.progress.step]

    @property
    def done_here(self) -> tuple[Intent, ...]:
        """The intents of this very action that went through: its steps or chunks so far."""
        place = (self.progress.rung, self.progress.step)
        return tuple(
            intent
            for intent in self.intents
            if (intent.rung, intent.step) == place and intent.number in self.progress.applied
        )

    @property
    def by_hand(self) -> bool:
        return self.run.origin is Origin.HAND

    def intent(self, number: int) -> Intent:
        return next(intent for intent in self.intents if intent.number == number)

    @property
    def pending(self) -> Intent | None:
        """The intent whose outcome is not known, if there is one."""
        open_ = (IntentOutcome.PENDING, IntentOutcome.UNKNOWN)
        return next((intent for intent in reversed(self.intents) if intent.outcome in open_), None)

    def action(self, name: str) -> Action[Any]:
        """The catalogue's action.

        Raises:
            Refused: this version of the daemon has none of that name.
        """
        found = self.tools.catalogue.action(name)
        if found is None:
            raise Refused(Reason.INVALID_PARAMETER, f"no action is named {name!r} in this version")
        return found

    def params(self, action: Action[Any]) -> Params:
        """The parameters of `action`, the one being worked on.

        Raises:
            Refused: the alert does not give what they need.
        """
        place = (self.progress.rung, self.progress.step)
        if place not in self.rendered:
            self.rendered[place] = render(self.use.with_, action.params, self.episode.alert)
        return self.rendered[place]

    def at(self, state: State, progress: Progress) -> Case:
        """The same case, further on."""
        return replace(self, run=msgspec.structs.replace(self.run, state=state, progress=progress))

    def event(
        self,
        kind: str,
        reason: Reason | None = None,
        observed: str = "",
        allowed: str = "",
        **data: Any,
    ) -> AuditEvent:
        """An audit event about this run."""
        return AuditEvent(
            kind=kind,
            alert=self.run.alert,
            run=self.run.id,
            policy=self.run.policy,
            target=self.run.target,
            reason=reason,
            observed=observed or None,
            allowed=allowed or None,
            data=data,
        )
