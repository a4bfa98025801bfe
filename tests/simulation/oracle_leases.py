"""What must hold of leases on effects: one for each field, and the oldest prior value comes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulation.oracle_ledger import (
    J,
    Ledger,
)

if TYPE_CHECKING:
    pass


class Leases(Ledger):
    """Asks of each lease."""

    def _lease(self, was: tuple[Any, ...] | None, effect: tuple[Any, ...]) -> None:
        id, run, key, field, prior, _current, returned_at, outcome = effect
        place = (key, field)
        if was is None:
            self.simulation.count("lease")
            others = [
                one for one in self.effects.values() if one[2:4] == place and one[6] is None and one[0] != id
            ]
            if others:
                self.fail("one lease per target and field", f"{key}.{field}: {id} and {others[0][0]}")
            inherited = self.oldest.get(place)
            if inherited is not None:
                if prior != inherited:
                    self.fail(
                        "a lease keeps the oldest prior value", f"{key}.{field}: {prior}, not {inherited}"
                    )
                self.simulation.count("lease inherited")
            else:
                own = [
                    json.loads(one[J.PLAN])["before"].get(field)
                    for one in self.intents.values()
                    if one[J.RUN] == run and one[J.KEY] == key and one[J.KIND] == "apply"
                ]
                if json.loads(prior) not in own:
                    self.fail(
                        "a lease keeps the oldest prior value", f"{key}.{field}: {prior} was never seen"
                    )
                self.oldest[place] = prior
        elif was[6] is None and returned_at is not None:
            self.simulation.count(f"lease {outcome.split(':')[0]}")
            if outcome == "returned":
                self._went_back(effect)
            newer = [one for one in self.effects.values() if one[2:4] == place and one[6] is None]
            if not newer:
                self.oldest.pop(place, None)
        elif was[4] != prior:
            self.fail("a lease keeps the oldest prior value", f"{key}.{field}: {was[4]} became {prior}")

    def _went_back(self, effect: tuple[Any, ...]) -> None:
        id, _, key, field, prior, _, _, _ = effect
        back = [
            json.loads(one[J.PLAN])["after"].get(field)
            for one in self.intents.values()
            if one[J.KEY] == key and one[J.KIND] == "return" and one[J.OUTCOME] == "applied"
        ]
        if json.loads(prior) not in back[-1:]:
            self.fail(
                "a lease keeps the oldest prior value",
                f"lease {id}: {prior} was to come back, {back[-1:]} did",
            )
