"""The outbox on the real store and a driven clock, with notifiers that really fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from remediator.contracts import Notifier
from remediator.errors import NotificationError
from remediator.model import DAY, HOUR, MINUTE, SECOND, Instant, Message, Millis, Severity
from remediator.notify.outbox import Drain, backoff
from tests.engine.world import Rig

REFUSED = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
escalate: on-call
remedies:
  - action: world.resize
    with: {group: "${labels.absent}", add: 2, max: 10}
"""
CHAINS = """
chains:
  on-call:
    - {after: 0m, notify: [primary]}
"""


@dataclass
class Pager:
    """A notifier that keeps what it was sent, refuses the first `refuse`, or never answers."""

    name: str
    refuse: int = 0
    hangs: bool = False
    sent: list[Message] = field(default_factory=list)
    tried: int = 0

    async def send(self, message: Message) -> None:
        self.tried += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuse > 0:
            self.refuse -= 1
            raise NotificationError(f"notifier {self.name}: not delivered: HTTP 503")
        self.sent.append(message)


class Broken(Pager):
    """A notifier with a mistake in its own code."""

    async def send(self, message: Message) -> None:
        self.tried += 1
        raise KeyError("title")


async def refused(rig: Rig) -> None:
    """A message to the chain on-call, about a run."""
    await rig.load({"queue.yaml": REFUSED, "escalation.yaml": CHAINS})
    await rig.fire()
    await rig.worker.drain()
    run = await rig.run()
    call = Message(
        chain="on-call",
        severity=Severity.P3,
        subject="approve it?",
        body="size=3 → size=5",
        run=run.id,
        alert=run.alert,
    )
    await rig.store.record((), (call,))


def drain(rig: Rig, *pagers: Notifier, chains: Mapping[str, Sequence[str]] | None = None) -> Drain:
    told = {"on-call": ["primary"]} if chains is None else chains
    return Drain(rig.store, {pager.name: pager for pager in pagers}, lambda chain: told.get(chain, ()))


async def kinds(rig: Rig) -> list[str]:
    return [kind for kind in await rig.story() if kind.startswith("message.")]


async def test_an_escalation_reaches_the_chain_and_is_recorded() -> None:
    primary = Pager("primary")
    async with Rig() as rig:
        await refused(rig)
        assert await drain(rig, primary).once() == 1
        assert await drain(rig, primary).once() == 0
        (event,) = [one.event for one in await rig.events() if one.event.kind == "message.sent"]
    (message,) = primary.sent
    assert message.subject == "approve it?"
    assert event.run == 1
    assert event.data["notifiers"] == ["log", "primary"]


async def test_a_refusal_is_tried_again_after_the_back_off_and_not_before() -> None:
    primary = Pager("primary", refuse=2)
    async with Rig() as rig:
        await refused(rig)
        out = drain(rig, primary)
        start = rig.clock.now()
        for seconds, tried in ((0, 1), (4.9, 1), (5, 2), (14.9, 2), (15, 3), (60, 3)):
            rig.clock.set(Instant(start + int(seconds * SECOND)))
            await out.once()
            assert primary.tried == tried, seconds
        assert await kinds(rig) == ["message.sent"]
    assert len(primary.sent) == 1


async def test_only_those_who_have_not_got_it_are_tried_again() -> None:
    primary, secondary = Pager("primary", refuse=1), Pager("secondary")
    async with Rig() as rig:
        await refused(rig)
        out = drain(rig, primary, secondary, chains={"on-call": ["primary", "secondary"]})
        await out.once()
        rig.clock.set(Instant(rig.clock.now() + 10 * SECOND))
        await out.once()
    assert len(primary.sent) == 1
    assert secondary.tried == 1


async def test_a_notifier_that_hangs_holds_up_nobody_else() -> None:
    hung, well = Pager("hung", hangs=True), Pager("well")
    chains = {"on-call": ["hung"], "team": ["well"]}
    async with Rig() as rig:
        call = Message(chain="on-call", severity=Severity.P3, subject="s", body="b")
        await rig.store.record((), (call, msgspec.structs.replace(call, chain="team")))
        out = Drain(
            rig.store,
            {"hung": hung, "well": well},
            lambda chain: chains[chain],
            idle=Millis(10),
            grace=Millis(10),
        )
        running = asyncio.create_task(out.run())
        async with asyncio.timeout(5):
            while "message.sent" not in await rig.story():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(well.sent) == 1
    assert hung.tried == 1


async def test_a_mistake_in_a_notifier_is_a_failure_like_any_other() -> None:
    async with Rig() as rig:
        await refused(rig)
        out = drain(rig, Broken("primary"))
        await out.once()
        (waiting,) = await _all_due(rig)
    assert waiting.attempts == 1


async def test_an_unknown_chain_tells_everyone() -> None:
    primary, secondary = Pager("primary"), Pager("secondary")
    async with Rig() as rig:
        await refused(rig)
        await drain(rig, primary, secondary, chains={}).once()
    assert len(primary.sent) == len(secondary.sent) == 1


async def test_a_chain_may_name_a_notifier() -> None:
    called, other = Pager("on-call"), Pager("other")
    async with Rig() as rig:
        await refused(rig)
        await drain(rig, called, other, chains={}).once()
    assert len(called.sent) == 1
    assert other.sent == []


async def test_without_notifiers_the_log_has_it() -> None:
    async with Rig() as rig:
        await refused(rig)
        await drain(rig).once()
        assert await kinds(rig) == ["message.sent"]


async def test_a_message_nobody_takes_is_recorded_as_abandoned() -> None:
    primary = Pager("primary", refuse=10_000)
    async with Rig() as rig:
        await refused(rig)
        out = drain(rig, primary)
        start = rig.clock.now()
        for hours in range(30):
            rig.clock.set(Instant(start + hours * HOUR))
            await out.once()
        assert await kinds(rig) == ["message.abandoned"]
        assert await _all_due(rig) == []
    assert primary.tried < 30


async def _all_due(rig: Rig) -> list[object]:
    rig.clock.set(Instant(rig.clock.now() + DAY))
    return list(await rig.store.due_messages(100))


@given(st.integers(0, 10_000))
def test_back_off_grows_and_stays_within_an_hour(attempts: int) -> None:
    assert 5 * SECOND <= backoff(attempts) <= backoff(attempts + 1) <= HOUR


def test_back_off_starts_small() -> None:
    assert [backoff(n) for n in (1, 2, 3)] == [5 * SECOND, 10 * SECOND, 20 * SECOND]
    assert backoff(100) == 60 * MINUTE
