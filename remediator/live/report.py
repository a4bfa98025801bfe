"""Says in the audit log that bodies were refused: once when it begins, then once a minute."""

from __future__ import annotations

from remediator.contracts import Store
from remediator.live.flood import Flood
from remediator.model import MINUTE, AuditEvent, Instant

_BETWEEN = MINUTE


class FloodReport:
    """One turn of it. A flood must not become a flood of audit events."""

    def __init__(self, store: Store, flood: Flood) -> None:
        self._store = store
        self._flood = flood
        self._said: dict[str, Instant] = {}

    async def __call__(self) -> None:
        refused = {name: one for name, one in self._flood.windows.items() if one.refused}
        if not refused:
            return
        now = await self._store.now()
        for sender, window in refused.items():
            said = self._said.get(sender)
            if said is not None and now - said < _BETWEEN:
                continue
            count = window.refused
            await self._store.record(
                (
                    AuditEvent(
                        kind="sender.flooded",
                        actor=f"sender:{sender}",
                        reason="flood",
                        observed=f"{count} bodies of {sender} beyond its limit, answered 503",
                        allowed=f"{window.limit} (senders.{sender}.limit)",
                        data={"sender": sender, "refused": count},
                    ),
                )
            )
            window.refused -= count
            self._said[sender] = now
