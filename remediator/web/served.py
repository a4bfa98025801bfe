"""What the web needs of the daemon. `engine.daemon.Daemon` is it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from remediator.contracts import Catalogue, Claimant, Match, Receiver, Store
from remediator.live.flood import Flood
from remediator.live.hub import Hub
from remediator.model import (
    AlertId,
    Approval,
    Control,
    Decision,
    Effect,
    Incident,
    IncidentId,
    Instant,
    Millis,
    Run,
    RunId,
)
from remediator.settings import Role, Settings


class ServedPolicies(Protocol):
    """The active policies."""

    fault: str
    """Why the directory's present content was not taken; "" when it was."""

    @property
    def current(self) -> Any:
        """The active PolicySet, or None."""

    @property
    def hash(self) -> str: ...
    def matching(self) -> Match:
        """What matches by the set of `hash`, whenever it is asked."""

    async def reload(self) -> bool:
        """Look at the directory now; whether anything changed."""


class Served(Protocol):
    """The daemon as the web sees it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store(self) -> Store: ...
    @property
    def receivers(self) -> Mapping[str, Receiver]: ...
    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def flood(self) -> Flood: ...
    @property
    def hub(self) -> Hub: ...
    @property
    def policies(self) -> ServedPolicies: ...

    def wake(self, within: float = 0) -> None:
        """Runs may be due within so many seconds."""

    @property
    def claimant(self) -> Claimant | None:
        """Who begins at once with what a delivery opens."""

    def take(self, runs: Sequence[Run]) -> None:
        """Begin with what was claimed along with a delivery."""

    def ready(self) -> tuple[bool, str]:
        """Whether alerts can be taken, and if not, why."""

    async def start_run(
        self,
        policy: str,
        labels: Mapping[str, str],
        reason: str,
        actor: str,
        key: str = "",
        anyway: bool = False,
    ) -> Run: ...
    async def cancel_run(self, id: RunId, reason: str, actor: str) -> Run: ...
    async def decide(
        self,
        run: RunId,
        decision: Decision,
        comment: str,
        actor: str,
        role: Role,
        approval: int | None = None,
    ) -> Approval: ...
    async def pause(self, scope: str, reason: str, actor: str, until: Instant | None) -> Control: ...
    async def resume(self, scope: str, reason: str, actor: str) -> bool: ...
    async def restore(self, policy: str, reason: str, actor: str) -> bool: ...
    async def clear_target(self, target: str, reason: str, actor: str) -> bool: ...
    async def renew_effect(self, id: int, longer: Millis, reason: str, actor: str) -> Effect: ...
    async def return_effect(self, id: int, reason: str, actor: str) -> Run: ...
    async def acknowledge(self, id: IncidentId, comment: str, actor: str) -> Incident: ...
    async def resolve_incident(self, id: IncidentId, comment: str, actor: str) -> Incident: ...
    async def explain(self, id: AlertId, policy: str | None = None) -> Any: ...
