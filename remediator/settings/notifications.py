"""Who hears of incidents, of what, and when. The text under a field is its documentation."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from remediator.model import HOUR, MINUTE, Millis, Severity
from remediator.settings.sections import Positive
from remediator.settings.values import Duration, Line, Section, refuse_unknown


class Audiences(Section):
    """Who hears of incidents besides the people that a chain calls, as names of `notifiers`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    everyone: tuple[str, ...] = ()
    """The whole team or company."""
    on_call: tuple[str, ...] = Field(default=(), alias="on-call")
    """Those who repair; also paged directly when the store is gone."""
    stakeholders: tuple[str, ...] = ()
    """Those who must know and do not repair."""
    customers: tuple[str, ...] = ()
    """Outside: a status page. A notifier named here gets the text for customers only, whoever names it:
    no label, no host, no query, no name of a target."""

    def named(self) -> dict[str, tuple[str, ...]]:
        """The notifiers of each audience, by the audience's name in settings."""
        fields = type(self).model_fields.items()
        return {field.alias or name: getattr(self, name) for name, field in fields}


def _routes(routes: dict[str, Severity]) -> dict[str, Severity]:
    known = [field.alias or name for name, field in Audiences.model_fields.items()]
    refuse_unknown(routes, known)
    return routes


Routes = Annotated[dict[str, Severity], AfterValidator(_routes)]
"""Audience → the least grave severity of which it hears."""


class Notifications(Section):
    """What people are told of incidents, and when. Who is called is in escalation.yaml."""

    status_every: Annotated[Duration, Field(ge=MINUTE)] = Millis(15 * MINUTE)
    """A status update this often while an incident is open, as the runbooks have it."""
    declared: Routes = {
        "on-call": Severity.P4,
        "stakeholders": Severity.P3,
        "customers": Severity.P2,
        "everyone": Severity.P1,
    }
    """Which audiences hear that an incident is declared, from which severity; one that is left out never."""
    updated: Routes = {
        "on-call": Severity.P4,
        "stakeholders": Severity.P2,
        "customers": Severity.P2,
    }
    """The same for status updates. Whoever a chain has called is on call here."""
    resolved: Routes = {
        "on-call": Severity.P4,
        "stakeholders": Severity.P3,
        "customers": Severity.P2,
        "everyone": Severity.P1,
    }
    """The same for the end of an incident."""
    channel: Line = Field(default="", max_length=500)
    """Where people meet about an incident; {id} becomes its number. Without one: unknown."""
    war_room: Line = Field(default="", max_length=500)
    """The call they join; {id} becomes the incident's number. Without one: unknown."""
    public_names: dict[str, str] = {}
    """Target, or a pattern such as `postgres:*` → what customers know it as; else: one of our services."""
    failing_after: Positive = Millis(10 * MINUTE)
    """A notifier that delivers nothing for this long is itself a matter for the others."""
    page_without_store: Positive = Millis(5 * MINUTE)
    """When the store has been out of reach for this long, the daemon pages directly, without the outbox."""
    page_again: Positive = HOUR
    """And again this often, until it is back."""
