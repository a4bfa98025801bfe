"""A store with a driven clock, and short words for what the tests do with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from remediator.clock import DrivenClock
from remediator.contracts import Admission, Bad, Delivery, Held, Limit, Move, Opening, Parsed, Receipt, Store
from remediator.model import (
    HOUR,
    Alert,
    AlertId,
    AuditEvent,
    Blast,
    Budget,
    Instant,
    Intent,
    IntentKind,
    Millis,
    Mode,
    Outcome,
    Plan,
    Progress,
    Run,
    State,
    Status,
    Target,
)

START = Instant(1_790_000_000_000)
KIND = "lines"


class Lines:
    """A receiver whose bodies are JSON lists of alerts."""

    kind = KIND

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        alerts = msgspec.json.decode(body, type=list[Alert])
        return Parsed(alerts=tuple((one, digest(one)) for one in alerts))

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        return msgspec.json.decode(body, type=list[Alert])[position]


def digest(alert: Alert) -> int:
    """What an alert says, as a number: the same in every process."""
    text = msgspec.json.encode((alert.labels, alert.annotations, alert.value), order="sorted")
    return int.from_bytes(text[-8:].rjust(8, b"\0"), "big") ^ len(text)


def alert(name: str = "a", status: Status = Status.FIRING, at: int = START, **more: Any) -> Alert:
    return Alert(
        sender=more.pop("sender", "am"),
        fingerprint=name,
        status=status,
        labels={"alertname": name, **more.pop("labels", {})},
        annotations=more.pop("annotations", {}),
        starts_at=Instant(at),
        **more,
    )


def delivery(alerts: Sequence[Alert], now: Instant, **more: Any) -> Delivery:
    body = msgspec.json.encode(alerts)
    return Delivery(
        sender=more.pop("sender", "am"),
        kind=KIND,
        body=body,
        parsed=Parsed(alerts=tuple((one, digest(one)) for one in alerts), **more),
        revision="set-1",
        received_at=now,
    )


def opening(policy: str = "p", target: str | None = "db:orders", **more: Any) -> Opening:
    return Opening(
        policy=policy,
        policy_revision="set-1",
        target=target,
        mode=more.pop("mode", Mode.ENFORCE),
        state=more.pop("state", State.GUARD),
        next_at=more.pop("next_at", START),
        open_runs=more.pop("open_runs", 20),
        **more,
    )


def plan(key: str = "k:orders", name: str = "db:orders") -> Plan:
    return Plan(
        action="db.act",
        target=Target(name=name, key=key),
        before={"size": 1},
        after={"size": 2},
        blast=Blast(amount=1, whole=10, unit="rows"),
        params={"db": name},
    )


def limit(scope: str, count: int, window: int = HOUR) -> Limit:
    return Limit(scope=scope, budget=Budget(count=count, window=Millis(window)), source=f"test {scope}")


def nothing(alert: Alert, now: Instant) -> Sequence[Opening]:
    return ()


@dataclass
class World:
    store: Store
    clock: DrivenClock
    reopen: Callable[[], Any]
    openings: Callable[[Alert], Sequence[Opening]] = field(default=lambda alert: ())

    @property
    def now(self) -> Instant:
        return self.clock.now()

    def later(self, span: int) -> None:
        self.clock.set(Instant(self.clock.now() + span))

    async def deliver(self, *alerts: Alert, **more: Any) -> Receipt:
        return await self.store.accept(
            delivery(alerts, self.now, **more), lambda one, now: self.openings(one)
        )

    async def bad(self, *bad: Bad) -> Receipt:
        return await self.store.accept(delivery((), self.now, bad=bad), nothing)

    async def start(self, name: str = "a", policy: str = "p", target: str | None = None, **more: Any) -> Run:
        """Deliver an alert that opens a run, and claim it."""
        wanted = opening(policy, target or f"db:{name}", next_at=self.now, **more)
        receipt = await self.store.accept(
            delivery((alert(name, at=self.now),), self.now), lambda one, now: (wanted,)
        )
        return await self.claimed(receipt.runs[0])

    async def claimed(self, id: int) -> Run:
        for run in await self.store.claim("w", 1_000):
            if run.id == id:
                return run
        raise AssertionError(f"run {id} was not due")

    async def activate(self, hash: str = "set-1") -> None:
        from remediator.contracts import Revision

        await self.store.propose(Revision(hash=hash, files={"p.yaml": hash}), ())

    def admission(
        self,
        run: Run,
        number: int = 1,
        key: str | None = None,
        *limits: Limit,
        kind: IntentKind = IntentKind.APPLY,
        counted: bool = True,
        **more: Any,
    ) -> Admission:
        wanted = plan(key or f"k:{run.target}", run.target or "none")
        return Admission(
            intent=Intent(
                run=run.id,
                number=number,
                kind=kind,
                policy=run.policy,
                plan=wanted,
                token=f"token-{run.id}-{number}",
                nonce=f"nonce-{run.id}-{number}",
                rung=0,
                step=0,
                created_at=self.now,
                counted=counted,
            ),
            move=Move(
                state=State.ACTING if kind is IntentKind.APPLY else State.REVERTING,
                next_at=Instant(self.now + 30_000),
                progress=Progress(number=number),
                events=(AuditEvent(kind="run.admitted", run=run.id),),
            ),
            limits=limits,
            cooldown=more.pop("cooldown", Millis(0)),
            concurrent_policy=more.pop("concurrent_policy", 100),
            concurrent_global=more.pop("concurrent_global", 100),
            policy_set=more.pop("policy_set", "set-1"),
            need_firing=more.pop("need_firing", False),
            leases=more.pop("leases", ()),
            approval=more.pop("approval", None),
        )

    async def admit(self, run: Run, number: int = 1, *limits: Limit, **more: Any) -> Run | Held:
        return await self.store.admit(
            run, self.admission(run, number, more.pop("key", None), *limits, **more)
        )

    async def admitted(self, run: Run, number: int = 1, **more: Any) -> Run:
        answer = await self.admit(run, number, **more)
        assert isinstance(answer, Run), answer
        return answer

    async def held(self, run: Run, number: int = 1, *limits: Limit, **more: Any) -> Held:
        answer = await self.admit(run, number, *limits, **more)
        assert isinstance(answer, Held), answer
        return answer

    async def move(self, run: Run, state: State | None = None, **more: Any) -> Run:
        more.setdefault("next_at", None if "outcome" in more else self.now)
        return await self.store.move(
            run, Move(state=state or run.state, progress=more.pop("progress", run.progress), **more)
        )

    async def moved(self, run: Run, state: State, **more: Any) -> Run:
        """As `move`, and claimed again: whoever moves a run hands it back."""
        return await self.claimed((await self.move(run, state, **more)).id)

    async def end(self, run: Run, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> Run:
        return await self.move(run, outcome=outcome, **more)

    async def kinds(self, **search: Any) -> list[str]:
        records = await self.store.audit(oldest_first=True, limit=1_000, **search)
        return [record.event.kind for record in records]

    async def status(self, id: AlertId) -> Status:
        return (await self.store.episode(id)).alert.status
