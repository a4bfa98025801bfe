"""Who hears of what: audiences and their notifiers, as the settings say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from remediator.model import Severity

Occasion = Literal["declared", "updated", "resolved"]
ON_CALL, CUSTOMERS = "on-call", "customers"


@dataclass(frozen=True, slots=True)
class Heard:
    """The notifiers for one text each: the one for ourselves, and the one for customers."""

    internal: tuple[str, ...]
    customers: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.internal or self.customers)


@dataclass(frozen=True, slots=True)
class Routing:
    """Args:
    audiences: audience → its notifiers.
    routes: occasion → audience → the least grave severity of which it hears.
    notifiers: all there are.
    """

    audiences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    routes: Mapping[str, Mapping[str, Severity]] = field(default_factory=dict)
    notifiers: tuple[str, ...] = ()

    def heard(self, occasion: Occasion, severity: Severity, called: Iterable[str] = ()) -> Heard:
        """Who hears of this.

        Args:
            called: those whom a chain calls now, or has called: they are on call.
        """
        names: list[str] = list(called) if self._hears(occasion, ON_CALL, severity) else []
        for audience, members in self.audiences.items():
            if self._hears(occasion, audience, severity):
                names += members
        return self.split(names)

    def split(self, names: Iterable[str]) -> Heard:
        """The same notifiers, each once, by the text that they get. A notifier of the customers' gets
        theirs, whoever names it."""
        once = [name for name in dict.fromkeys(names) if name in self.notifiers]
        outside = self.audiences.get(CUSTOMERS, ())
        return Heard(
            internal=tuple(name for name in once if name not in outside),
            customers=tuple(name for name in once if name in outside),
        )

    @property
    def ourselves(self) -> tuple[str, ...]:
        """Every notifier but the customers'."""
        return self.split(self.notifiers).internal

    def _hears(self, occasion: Occasion, audience: str, severity: Severity) -> bool:
        least = self.routes.get(occasion, {}).get(audience)
        return least is not None and severity.rank <= least.rank
