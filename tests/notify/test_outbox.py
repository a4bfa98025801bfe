"""The outbox on the real store and a driven clock, with notifiers that really fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.contracts import Notifier, Outgoing, Store
from remediator.errors import NotificationError, StoreUnavailable
from remediator.model import DAY, HOUR, MINUTE, SECOND, IncidentId, Instant, Message, Millis, Severity
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
    assert event.data["notifiers"] == ["primary"]


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
        assert (await kinds(rig)).count("message.abandoned") == 1
        assert [one for one in await _all_due(rig) if one.notifier == "primary"] == []
    assert primary.tried < 30


async def _all_due(rig: Rig) -> list[Outgoing]:
    rig.clock.set(Instant(rig.clock.now() + DAY))
    return list(await rig.store.due_messages(100))


# ---------------------------------------------------------------- each notifier by itself


async def post(rig: Rig, count: int, *, chain: str = "both", subject: str = "n") -> None:
    await rig.store.record(
        (),
        [
            Message(chain=chain, severity=Severity.P3, subject=f"{subject}{number}", body="b")
            for number in range(count)
        ],
    )


BOTH = {"both": ["dead", "well"]}


async def test_fifty_messages_do_not_hammer_a_dead_notifier_and_the_other_has_them_all() -> None:
    dead, well = Pager("dead", refuse=10_000), Pager("well")
    async with Rig() as rig:
        await post(rig, 50)
        out = drain(rig, dead, well, chains=BOTH)
        for _ in range(30):
            await out.once()
        assert len(well.sent) == 50
        first = dead.tried
        assert first <= 4  # what was under way before it was known to be dead
        start = rig.clock.now()
        while rig.clock.now() < start + HOUR:
            rig.clock.set(Instant(rig.clock.now() + SECOND))
            await out.once()
        # 5, 5, 10, 20 … seconds, then every ten minutes: one message each time
        assert dead.tried - first <= 16
        assert well.tried == 50 + 1  # and one about the dead one
        dead.refuse = 0
        for _ in range(30 * 60):
            rig.clock.set(Instant(rig.clock.now() + SECOND))
            await out.once()
        assert len(dead.sent) == 50
        assert len({one.subject for one in dead.sent}) == 50
        assert len([one for one in well.sent if one.subject.startswith("n")]) == 50


async def test_a_restart_does_not_forget_who_fails() -> None:
    dead = Pager("dead", refuse=10_000)
    async with Rig() as rig:
        await post(rig, 1, chain="dead")
        await drain(rig, dead).once()
        rig.clock.set(Instant(rig.clock.now() + 4 * SECOND))
        await post(rig, 5, chain="dead", subject="later")
        await drain(rig, dead).once()
        assert dead.tried == 1
        rig.clock.set(Instant(rig.clock.now() + SECOND))
        await drain(rig, dead).once()
        assert dead.tried == 2


@dataclass
class Picky(Pager):
    """A notifier that never takes one message."""

    async def send(self, message: Message) -> None:
        self.tried += 1
        if message.subject == "poison0":
            raise NotificationError("notifier picky: HTTP 400")
        self.sent.append(message)


class LosesAnswers:
    """A store that commits the next call of a name, and loses the answer."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._name:
            return real

        async def lost(*given: Any) -> Any:
            self._name = ""
            await real(*given)
            raise StoreUnavailable("the store did not answer in time; try again")

        return lost


@pytest.mark.parametrize("call", ["spread_message", "message_sent", "message_failed"])
async def test_an_answer_of_the_store_that_is_lost_costs_nobody_the_message(call: str) -> None:
    primary, secondary = Pager("primary", refuse=int(call == "message_failed")), Pager("secondary")
    async with Rig() as rig:
        store = cast(Store, LosesAnswers(rig.store, call))
        await post(rig, 1)
        named = {"both": ["primary", "secondary"]}
        out = Drain(
            store, {"primary": primary, "secondary": secondary}, lambda chain: named[chain], idle=Millis(1)
        )
        for _ in range(10):
            await out.once()
            rig.clock.set(Instant(rig.clock.now() + 10 * SECOND))
        assert (await kinds(rig)).count("message.sent") == 2
    assert (len(primary.sent), len(secondary.sent)) == (1, 1)


async def test_a_message_that_is_never_taken_holds_up_none_behind_it() -> None:
    picky = Picky("picky")
    async with Rig() as rig:
        await post(rig, 1, chain="picky", subject="poison")
        out = drain(rig, picky)
        await out.once()
        await post(rig, 3, chain="picky")
        for _ in range(10):
            rig.clock.set(Instant(rig.clock.now() + SECOND))
            await out.once()
    assert [one.subject for one in picky.sent] == ["n0", "n1", "n2"]


async def test_what_is_said_of_an_incident_comes_in_order_after_a_long_outage() -> None:
    dead, well = Pager("dead", refuse=9), Pager("well")
    subjects = ["declared", "update", "resolved"]
    async with Rig() as rig:
        said = [
            Message(chain="both", severity=Severity.P2, subject=subject, body="b", incident=IncidentId(1))
            for subject in subjects
        ]
        await rig.store.record((), said)
        out = drain(rig, dead, well, chains=BOTH)
        for _ in range(40 * 12):
            await out.once()
            rig.clock.set(Instant(rig.clock.now() + 5 * SECOND))
    for pager in (dead, well):
        assert [one.subject for one in pager.sent if one.subject in subjects] == subjects
    assert dead.refuse == 0


async def test_a_notifier_that_fails_for_ten_minutes_is_told_to_the_others_and_so_is_its_return() -> None:
    dead, well = Pager("dead", refuse=10_000), Pager("well")
    async with Rig() as rig:
        await post(rig, 1)
        out = drain(rig, dead, well, chains=BOTH)
        start = rig.clock.now()
        while rig.clock.now() < start + 40 * MINUTE:
            await out.once()
            rig.clock.set(Instant(rig.clock.now() + 5 * SECOND))
            if rig.clock.now() - start < 10 * MINUTE:
                assert len(well.sent) == 1
        assert [one.subject for one in well.sent] == ["n0", "NOTIFIER FAILING: dead"]
        assert "HTTP 503" in well.sent[1].body
        assert [one.name for one in await rig.store.notifiers() if one.told_at is not None] == ["dead"]
        dead.refuse = 0
        for _ in range(200):
            await out.once()
            rig.clock.set(Instant(rig.clock.now() + 5 * SECOND))
        assert [one.subject for one in well.sent][2:] == ["NOTIFIER RECOVERED: dead"]
        story = [kind for kind in await rig.story() if kind.startswith("notifier.")]
        assert story == ["notifier.failing", "notifier.recovered"]


async def test_a_notifier_of_customers_never_gets_what_is_ours() -> None:
    primary, page = Pager("primary"), Pager("page")
    async with Rig() as rig:
        await post(rig, 1, chain="gone")
        await post(rig, 1, chain="page", subject="m")
        named = {"both": ["primary", "page"]}
        await post(rig, 1, subject="b")
        out = Drain(
            rig.store,
            {"primary": primary, "page": page},
            lambda chain: named.get(chain, ()),
            outside=("page",),
        )
        await out.once()
    assert page.tried == 0
    assert sorted(one.subject for one in primary.sent) == ["b0", "m0", "n0"]


async def test_a_message_for_a_notifier_that_is_gone_is_given_up_and_said() -> None:
    async with Rig() as rig:
        await post(rig, 1, chain="old")
        old = Pager("old", refuse=1)
        await drain(rig, old).once()
        rig.clock.set(Instant(rig.clock.now() + MINUTE))
        await drain(rig, Pager("new")).once()
        (given_up,) = [one.event for one in await rig.events() if one.event.kind == "message.abandoned"]
        assert given_up.observed == "no notifier is named old in the settings any more"


async def test_actions_go_on_while_every_notifier_hangs() -> None:
    hung = Pager("primary", hangs=True)
    async with Rig() as rig:
        out = Drain(rig.store, {"primary": hung}, lambda chain: ("primary",), idle=Millis(5), grace=Millis(5))
        running = asyncio.create_task(out.run())
        await post(rig, 30, chain="on-call")
        async with asyncio.timeout(10):
            while hung.tried < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await rig.fire()
            await rig.worker.drain()
        assert rig.world.sizes["gpu"] == 5
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@given(st.integers(0, 10_000))
def test_back_off_grows_and_stays_within_ten_minutes(attempts: int) -> None:
    assert 5 * SECOND <= backoff(attempts) <= backoff(attempts + 1) <= 10 * MINUTE


def test_back_off_starts_small() -> None:
    assert [backoff(n) for n in (1, 2, 3)] == [5 * SECOND, 10 * SECOND, 20 * SECOND]
    assert backoff(100) == 10 * MINUTE
