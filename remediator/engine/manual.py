"""Runs that people start: the alert that stands for one, and how the store reads it back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from remediator import metrics
from remediator.contracts import Catalogue, Delivery, Parsed, Store
from remediator.engine.openings import opening
from remediator.engine.policies import Policies
from remediator.errors import Conflict, NotFound, StoreUnavailable
from remediator.model import (
    MANUAL,
    Alert,
    AuditEvent,
    Instant,
    Origin,
    Outcome,
    Reason,
    Run,
    Status,
)
from remediator.policy.compiled import MatchResult

_BATCH = 100
"""Alerts that are ended at one turn."""


class Manual:
    """Reads back the alerts of runs that people started. A contracts.Receiver, for the store only."""

    kind = MANUAL

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        return Parsed(alerts=((self.alert(sender, body, 0, now), 0),))

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        return msgspec.json.decode(body, type=Alert)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for.

    labels: what the alert would have carried.
    key: whatever is asked for again with the same key by the same person, for the same policy and labels,
        is the same run. It is the identity of its episode.
    anyway: also with labels that the policy would not match.
    """

    policy: str
    labels: Mapping[str, str]
    reason: str
    actor: str
    key: str = ""
    anyway: bool = False

    @property
    def fingerprint(self) -> str:
        """Of what is asked for with this key."""
        said = msgspec.json.encode((self.key, self.actor, self.policy, sorted(self.labels.items())))
        return hashlib.sha256(said).hexdigest()[:32]


async def start(
    store: Store, policies: Policies, catalogue: Catalogue, wish: Wish, nonce: Callable[[], str]
) -> Run:
    """Open a run of a policy by hand; it then passes all the same guards.

    Args:
        nonce: marks what has no key.

    Raises:
        NotFound: no such policy in the active set, or what was started with the key is not kept any more.
        Conflict: the policy would not match such an alert; `wish.anyway` lets it through.
        StoreUnavailable: nobody knows whether it was started; ask again with the same key.
    """
    active = policies.current
    found = active.policies.get(wish.policy) if active is not None else None
    if active is None or found is None:
        known = ", ".join(sorted(active.policies)) if active is not None else "none is loaded"
        raise NotFound(f"no policy is named {wish.policy!r}; there are: {known}")
    labels = {
        "alertname": f"manual:{wish.policy}",
        "severity": str(found.severity),
        **active.implied(wish.policy),
        **wish.labels,
    }
    unmatched = active.unmatched(wish.policy, labels)
    if unmatched and not wish.anyway:
        raise Conflict(_refusal(wish, unmatched))
    now = await store.now()
    alert = Alert(
        sender=MANUAL,
        fingerprint=wish.fingerprint if wish.key else nonce()[:16],
        status=Status.FIRING,
        labels=labels,
        annotations={"reason": wish.reason, "actor": wish.actor},
        starts_at=now,
    )
    started = AuditEvent(
        kind="run.started",
        actor=wish.actor,
        policy=wish.policy,
        data={
            "reason": wish.reason,
            "labels": dict(wish.labels),
            **({"unmatched": [one.matcher for one in unmatched]} if unmatched else {}),
        },
    )
    wanted = msgspec.structs.replace(
        opening(active, catalogue, found, alert, now, Origin.HAND), started=started
    )
    delivery = Delivery(
        sender=MANUAL,
        kind=MANUAL,
        body=msgspec.json.encode(alert),
        parsed=Parsed(alerts=((alert, 0),)),
        revision=active.hash,
        received_at=now,
        key=wish.fingerprint if wish.key else "",
    )
    try:
        receipt = await store.accept(delivery, lambda _alert, _now: (wanted,))
        for refused in receipt.refused:
            metrics.ended(refused, Outcome.REFUSED, Reason.OPEN_RUNS)
        (episode,) = receipt.alerts
        runs = await store.find_runs(alert=episode)
    except StoreUnavailable as error:
        do = "ask again with the same key" if wish.key else "look at the policy's runs before you repeat it"
        raise StoreUnavailable(f"{error}; the run may have been started all the same: {do}") from error
    if not runs:
        raise NotFound("the run that was started with this key is not kept any more; use another key")
    return runs[-1]


def _refusal(wish: Wish, unmatched: Sequence[MatchResult]) -> str:
    seen = "; ".join(f"{one.matcher} does not hold: {one.observed}" for one in unmatched)
    return (
        f"policy {wish.policy} would not match an alert with these labels: {seen}. Give the labels of the "
        "alert that this run stands for (--set LABEL=VALUE), or start it all the same (--anyway)"
    )


class Endings:
    """Ends the alerts that stand for what people started, once every run about them has ended."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self) -> None:
        for episode in await self._store.started(_BATCH):
            now = await self._store.now()
            # Not resolved: that would say that all is well.
            alert = msgspec.structs.replace(episode.alert, status=Status.CLOSED, ends_at=now)
            await self._store.accept(
                Delivery(
                    sender=MANUAL,
                    kind=MANUAL,
                    body=msgspec.json.encode(alert),
                    parsed=Parsed(alerts=((alert, 0),)),
                    revision=await self._store.active_revision() or "",
                    received_at=now,
                ),
                lambda _alert, _now: (),
            )
