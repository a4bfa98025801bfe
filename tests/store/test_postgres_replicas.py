"""Two stores on one PostgreSQL database: what one must not do beside the other."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from remediator.clock import DrivenClock, SystemClock
from remediator.contracts import Declaration, Held, NewEffect
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.watch import Incidents
from remediator.engine.policies import Policies
from remediator.errors import Conflict
from remediator.model import (
    HOUR,
    MINUTE,
    SECOND,
    Alert,
    AuditEvent,
    Control,
    ControlKind,
    Instant,
    Message,
    Millis,
    Outcome,
    Reason,
    Run,
    Severity,
    State,
    Status,
)
from remediator.notify.audience import Routing
from remediator.notify.outbox import Drain
from remediator.policy.set import compile_set
from remediator.policy.vocabulary import Vocabulary
from remediator.store import open_store
from tests.engine.world import Known
from tests.engine.world import World as Outside
from tests.notify.test_outbox import Pager
from tests.store.world import START, Lines, World, alert, limit, opening, plan


async def replica(database: str, clock: DrivenClock) -> World:
    async def reopen() -> None:
        raise NotImplementedError

    world = World(open_store(database, clock, receivers={"lines": Lines()}), clock, reopen)
    await world.store.open()
    return world


@pytest_asyncio.fixture
async def pair(database: str) -> AsyncIterator[tuple[World, World]]:
    """Two replicas with one clock."""
    clock = DrivenClock(START)
    one, two = await replica(database, clock), await replica(database, clock)
    await one.activate()
    yield one, two
    await one.store.close()
    await two.store.close()


_BLOCKED = "SELECT 1 FROM pg_locks WHERE NOT granted"
Pair = tuple[World, World]


async def test_both_receive_the_same_alerts_at_once(pair: Pair) -> None:
    """As the peers of one Alertmanager deliver them."""
    for world in pair:
        world.openings = lambda one: (opening(target=one.fingerprint, open_runs=1_000),)
    payloads = [[alert(f"a{payload}-{number}") for number in range(5)] for payload in range(20)]
    receipts = await asyncio.gather(
        *(world.deliver(*payload) for payload in payloads for world in (*pair, *pair))
    )
    assert sum(receipt.accepted for receipt in receipts) == 100
    assert sum(receipt.repeated for receipt in receipts) == 300
    for world in pair:
        assert len(await world.store.find_episodes(limit=500)) == 100
        assert len(await world.store.find_runs(limit=500)) == 100
    assert (await pair[0].kinds()).count("alert.accepted") == 100


async def test_episodes_stay_whole_in_a_storm_of_changes(pair: Pair) -> None:
    chance = random.Random(7)
    names = ["a", "b", "c"]

    def some() -> Alert:
        status = chance.choice([Status.FIRING, Status.FIRING, Status.RESOLVED])
        return alert(chance.choice(names), status, annotations={"n": str(chance.randrange(3))})

    for _ in range(8):
        pair[0].later(10 * MINUTE)
        await asyncio.gather(*(world.deliver(some(), some()) for world in pair for _ in range(4)))
    for name in names:
        mine = [one for one in await pair[0].store.find_episodes(limit=500) if one.alert.fingerprint == name]
        assert len([one for one in mine if one.resolved_at is None]) <= 1
        assert len({one.alert.starts_at for one in mine}) == len(mine)
        for one in mine:  # each change of an alert knows the one before
            kinds = await pair[0].kinds(alert=one.id)
            assert kinds[0] in ("alert.accepted", "alert.resolved")
            assert all(kind != "alert.accepted" for kind in kinds[1:])


async def test_the_limit_of_open_runs_holds_over_both(pair: Pair) -> None:
    for world in pair:
        world.openings = lambda one: (opening(target=one.fingerprint, open_runs=5),)
    names = [f"a{number}" for number in range(20)]
    await asyncio.gather(
        *(
            world.deliver(alert(name, sender=f"s{which}"), sender=f"s{which}")
            for which, world in enumerate(pair)
            for name in names
        )
    )
    assert len(await pair[0].store.find_runs(open=True, limit=100)) == 5


async def test_one_target_has_one_open_run_whoever_receives(pair: Pair) -> None:
    for world in pair:
        world.openings = lambda one: (opening(target="db:orders"),)
    receipts = await asyncio.gather(
        *(
            world.deliver(alert(f"{which}-{number}", sender=f"s{which}"), sender=f"s{which}")
            for which, world in enumerate(pair)
            for number in range(10)
        )
    )
    assert len({run for receipt in receipts for run in receipt.runs}) == 1
    [run] = await pair[0].store.find_runs()
    assert len(await pair[1].store.episodes(run.id)) == 20


async def runs(pair: Pair, count: int, policy: str = "p") -> list[Run]:
    pair[0].openings = lambda one: (opening(policy, target=one.fingerprint, open_runs=1_000),)
    await pair[0].deliver(*(alert(f"{policy}{number}") for number in range(count)))
    return list(await pair[0].store.claim("one", count))


async def test_an_episode_is_not_attached_to_a_run_that_is_just_ending(database: str, pair: Pair) -> None:
    """Nobody would look at it: its alert would be forgotten."""
    first, second = pair
    for world in pair:
        world.openings = lambda one: (opening(target="db:orders"),)
    ending = (await first.deliver(alert("a"))).runs[0]
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("UPDATE run SET outcome = 'succeeded', next_at = NULL WHERE id = %s", (ending,))
        coming = asyncio.create_task(second.deliver(alert("b")))
        while not coming.done() and not await (await other.execute(_BLOCKED)).fetchone():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await other.commit()
    opened = (await coming).runs[0]
    assert opened != ending
    assert [run.id for run in await first.store.find_runs(open=True)] == [opened]
    assert [one.alert.fingerprint for one in await first.store.episodes(ending)] == ["a"]


async def test_bodies_and_runs_never_wait_for_each_other_in_a_circle(database: str) -> None:
    """One joins and wakes many runs of two policies, while the other moves them all."""
    clock, before = DrivenClock(START), deadlocks(database)
    one, two = await replica(database, clock), await replica(database, clock)
    await one.activate()
    names = [f"t{number}" for number in range(30)]
    for world in (one, two):
        world.openings = lambda one: [
            opening(policy, one.fingerprint.partition("-")[0], open_runs=1_000) for policy in "pq"
        ]
    await one.deliver(*(alert(f"{name}-0") for name in names))
    moving, chance = list(await one.store.claim("one", 1_000)), random.Random(1)

    async def come(turn: int) -> None:
        joining, ended = chance.sample(names, 15), chance.sample(names, 10)
        await two.deliver(
            *(alert(f"{name}-{turn}", sender="x") for name in joining),
            *(alert(f"{name}-{turn - 1}", Status.RESOLVED, sender="x") for name in ended),
            sender="x",
        )

    for turn in range(1, 25):
        chance.shuffle(moving)
        await asyncio.gather(come(turn), *(one.move(run, State.GUARD) for run in moving))
        moving = list(await one.store.claim("one", 1_000))
    assert len(moving) == 60
    await one.store.close()
    await two.store.close()
    assert deadlocks(database) == before


async def test_runs_that_wait_for_different_things_are_woken_in_one_order(database: str, pair: Pair) -> None:
    """Whoever moves several of them at the same time locks them in the order of their ids."""
    low, high = await runs(pair, 2)
    later = Instant(pair[0].now + HOUR)
    await pair[0].move(low, reason=Reason.STORM, next_at=later)
    await pair[0].move(high, reason=Reason.PAUSED, next_at=later)
    own = "SELECT 1 FROM run WHERE id = %s FOR UPDATE NOWAIT"
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute(own, (low.id,))
        waking = asyncio.create_task(pair[1].store.wake_held((Reason.PAUSED, Reason.STORM)))
        while not await (await other.execute(_BLOCKED)).fetchone():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await other.execute(own, (high.id,))
        await other.commit()
    await waking
    assert {run.id for run in await pair[0].store.claim("one", 9)} == {low.id, high.id}


def deadlocks(database: str) -> int:
    """How many the server has broken. A connection tells of its own at its end at the latest."""
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(database, autocommit=True) as connection:
        end = time.monotonic() + 5
        while connection.execute(others).fetchone() and time.monotonic() < end:
            time.sleep(0.05)
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        return 0 if row is None else int(row[0])


async def test_no_run_is_claimed_by_two(pair: Pair) -> None:
    pair[0].openings = lambda one: (opening(target=one.fingerprint, open_runs=1_000),)
    await pair[0].deliver(*(alert(f"a{number}") for number in range(60)))
    found = await asyncio.gather(
        *(world.store.claim(f"w{number}", 7) for number in range(8) for world in pair)
    )
    claimed = [run.id for some in found for run in some]
    assert len(claimed) == len(set(claimed)) == 60


@pytest.mark.parametrize("scope", ["global", "policy", "target"])
async def test_no_budget_is_passed_by_both_together(pair: Pair, scope: str) -> None:
    claimed = await runs(pair, 20)
    answers = await asyncio.gather(
        *(
            pair[number % 2].admit(run, 1, limit(scope, 3), key="k" if scope == "target" else None)
            for number, run in enumerate(claimed)
        )
    )
    admitted = [answer for answer in answers if isinstance(answer, Run)]
    if scope == "target":  # its lock is with the first
        assert len(admitted) == 1
    else:
        assert len(admitted) == 3
        assert {one.reason for one in answers if isinstance(one, Held)} == {Reason.BUDGET}


async def test_no_target_is_held_by_two_and_no_concurrency_passed(pair: Pair) -> None:
    claimed = await runs(pair, 24)
    answers = await asyncio.gather(
        *(
            pair[number % 2].admit(run, 1, key=f"k{number % 8}", concurrent_global=5)
            for number, run in enumerate(claimed)
        )
    )
    admitted = [answer for answer in answers if isinstance(answer, Run)]
    assert len(admitted) == 5
    locks = await pair[1].store.locks()
    assert sorted(locks.values()) == sorted(run.id for run in admitted)


async def test_nothing_is_admitted_after_a_pause_was_answered(pair: Pair) -> None:
    claimed = await runs(pair, 20)
    done: list[Run | Held] = []

    async def act(run: Run) -> None:
        done.append(await pair[1].admit(run))

    acting = [asyncio.create_task(act(run)) for run in claimed]
    await asyncio.sleep(0.02)
    pause = Control(kind=ControlKind.PAUSE, scope="", reason="drill", actor="alice", since=START)
    await pair[0].store.set_control(pause, AuditEvent(kind="control.paused", actor="alice"))
    before = {run.id for run in await pair[0].store.find_runs(limit=100) if run.state is State.ACTING}
    await asyncio.gather(*acting)
    assert {one.id for one in done if isinstance(one, Run)} == before
    assert {one.reason for one in done if isinstance(one, Held)} <= {Reason.PAUSED}
    assert [one.reason for one in await pair[1].store.controls()] == ["drill"]


async def test_a_run_is_cancelled_or_admitted_but_not_both(pair: Pair) -> None:
    from remediator.errors import Conflict, LeaseLost

    claimed = await runs(pair, 12)

    async def cancel(run: Run) -> str:
        try:
            await pair[0].store.cancel(run.id, AuditEvent(kind="run.cancelled", actor="alice", run=run.id))
        except Conflict:
            return "too late"
        return "cancelled"

    async def act(run: Run) -> str:
        try:
            return type(await pair[1].admit(run)).__name__
        except LeaseLost:
            return "lost"

    for run in claimed:
        ends = await asyncio.gather(cancel(run), act(run))
        assert ends in (["cancelled", "lost"], ["too late", "Run"])
        assert len(await pair[0].store.intents(run.id)) == (1 if ends[1] == "Run" else 0)


async def test_a_lease_that_ran_out_opens_one_run_for_both(pair: Pair) -> None:
    [run] = await runs(pair, 1)
    run = await pair[0].admitted(run, key="k")
    lease = NewEffect(field="size", prior=1, current=2, plan=plan("k"), expires_at=Instant(START + HOUR))
    await pair[0].end(await pair[0].moved(run, State.VERIFY, effects=(lease,)), Outcome.SUCCEEDED)
    pair[0].later(HOUR)
    found = await asyncio.gather(*(world.store.claim("w", 5) for _ in range(4) for world in pair))
    assert len([run for some in found for run in some]) == 1


async def lent(pair: Pair) -> int:
    """The id of a lease that ends in an hour."""
    [run] = await runs(pair, 1)
    run = await pair[0].admitted(run, key="k")
    lease = NewEffect(field="size", prior=1, current=2, plan=plan("k"), expires_at=Instant(START + HOUR))
    await pair[0].end(await pair[0].moved(run, State.VERIFY, effects=(lease,)), Outcome.SUCCEEDED)
    [effect] = await pair[0].store.effects()
    return effect.id


async def test_a_lease_is_recalled_once(pair: Pair) -> None:
    id = await lent(pair)

    async def recall(world: World) -> str:
        try:
            await world.store.recall_effect(id, AuditEvent(kind="effect.recalled", actor="alice"))
        except Conflict:
            return "returned already"
        return "recalled"

    answers = await asyncio.gather(*(recall(world) for _ in range(4) for world in pair))
    assert sorted(answers) == ["recalled"] + ["returned already"] * 7
    assert len(await pair[0].store.claim("w", 5)) == 1


async def test_a_lease_is_renewed_or_returned_never_both(pair: Pair) -> None:
    """One replica renews in the very moment in which the other finds it run out."""
    id = await lent(pair)
    for hour in range(1, 12):
        pair[0].later(HOUR)

        async def renew(until: Instant) -> bool:
            try:
                await pair[0].store.renew_effect(id, until, AuditEvent(kind="effect.renewed", actor="alice"))
            except Conflict:
                return False
            return True

        until = Instant(START + (hour + 1) * HOUR)
        opened, renewed = await asyncio.gather(pair[1].store.claim("w", 5), renew(until))
        effect = await pair[0].store.effect(id)
        assert renewed == (not opened) == (effect.return_run is None) == (effect.expires_at == until)
        for run in opened:  # as the engine extends: for another hour, and the next may race again
            await pair[1].end(run, Outcome.NOTHING_TO_DO, effect_extend=(id, until))


async def test_a_message_is_sent_by_one_until_that_one_falls_silent(pair: Pair) -> None:
    [run] = await runs(pair, 1)
    told = Message(chain="on-call", severity=Severity.P2, subject="s", body="b")
    await pair[0].move(run, messages=(told,), next_at=Instant(START + HOUR))
    [message] = await pair[0].store.due_messages(10)
    assert await pair[1].store.due_messages(10) == []
    assert [one.id for one in await pair[0].store.due_messages(10)] == [message.id]
    pair[0].later(61 * SECOND)
    assert [one.id for one in await pair[1].store.due_messages(10)] == [message.id]
    await pair[1].store.message_sent(message.id, AuditEvent(kind="message.sent"))
    assert await pair[0].store.due_messages(10) == []


async def test_a_closing_replica_hands_over_what_it_has(database: str, pair: Pair) -> None:
    third = await replica(database, pair[0].clock)
    third.openings = lambda one: (opening(target=one.fingerprint),)
    await third.deliver(alert("a"))
    [run] = await third.store.claim("three", 5)
    assert await pair[1].store.claim("two", 5) == []
    await third.store.close()
    assert [one.id for one in await pair[1].store.claim("two", 5)] == [run.id]


# ---------------------------------------------------------------- sealing and retention


async def test_two_sealers_make_one_chain(pair: Pair) -> None:
    async def write(world: World) -> None:
        for number in range(15):
            await world.store.record((AuditEvent(kind="audit.read", actor=str(number)),) * 3)

    async def seal(world: World) -> None:
        for _ in range(10):
            await world.store.seal()

    await asyncio.gather(*(work(world) for work in (write, seal) for world in pair))
    head = await pair[0].store.seal()
    report = await pair[1].store.verify(head)
    assert (report.sealed, report.unsealed, report.whole) == (90, 0, True)


async def test_a_number_that_is_committed_late_is_sealed_all_the_same(database: str, pair: Pair) -> None:
    """Ids are not in the order of commits: the sealer waits for whoever has a lower one."""
    with psycopg.connect(database) as slow:
        [id] = slow.execute("SELECT remediator_ids('audit', 1)").fetchone() or ()
        await pair[0].store.record((AuditEvent(kind="audit.read", actor="later id"),))
        sealing = asyncio.create_task(pair[1].store.seal())
        await asyncio.sleep(0.2)
        assert not sealing.done()
        body = b'{"id":%d,"at":1,"event":{"kind":"audit.read"},"source":"audit_event"}' % id
        slow.execute(
            "INSERT INTO audit_event (id, at, kind, body) VALUES (%s, 1, 'audit.read', %s)", (id, body)
        )
        slow.commit()
        head = await sealing
    report = await pair[0].store.verify(head)
    assert (report.sealed, report.unsealed, report.whole) == (2, 0, True)


async def test_both_prune_at_once(pair: Pair) -> None:
    for number in range(30):
        await pair[0].deliver(alert(f"a{number}"), alert(f"a{number}", Status.RESOLVED))
        await pair[1].store.record((AuditEvent(kind="audit.read"),))
    await pair[0].store.seal()
    pair[0].later(HOUR)
    keep = dict.fromkeys(("alert", "alert_event", "audit_event"), Millis(MINUTE))
    counts = await asyncio.gather(*(world.store.prune(keep) for world in pair))
    assert sum(count.get("alert", 0) for count in counts) == 30
    assert sum(count.get("audit_event", 0) for count in counts) == 30
    head = await pair[1].store.seal()
    assert (await pair[0].store.verify(head)).whole


# ---------------------------------------------------------------- what is shared


async def test_what_one_has_seen_the_other_knows_soon(pair: Pair) -> None:
    receipt = await pair[0].deliver(alert("a"))
    pair[0].later(MINUTE)
    assert (await pair[0].deliver(alert("a"))).repeated == 1
    for _ in range(60):
        episode = await pair[1].store.episode(receipt.alerts[0])
        if episode.seen_at is not None:
            break
        await asyncio.sleep(0.1)
    assert episode.seen_at == START + MINUTE


async def test_time_is_the_databases(database: str) -> None:
    store = open_store(database, SystemClock(), receivers={"lines": Lines()})
    await store.open()
    with psycopg.connect(database) as connection:
        [before] = connection.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000").fetchone() or ()
        said = await store.now()
        await store.record((AuditEvent(kind="audit.read"),))
        [after] = connection.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000").fetchone() or ()
    [record] = await store.audit()
    assert before - 50 <= said <= after + 50
    assert before - 1 <= record.at <= after + 1
    await store.close()


async def test_a_heartbeat_keeps_what_is_worked_on(database: str) -> None:
    from remediator.store.limits import Limits

    limits = Limits(lease=Millis(1_500))
    stores = [open_store(database, SystemClock(), receivers={"lines": Lines()}, limits=limits) for _ in "ab"]
    for store in stores:
        await store.open()
    now = await stores[0].now()
    from tests.store.world import delivery

    await stores[0].accept(delivery((alert("a", at=now),), now), lambda one, at: (opening(next_at=at),))
    [run] = await stores[0].claim("one", 1)
    await asyncio.sleep(3)
    assert await stores[1].claim("two", 1) == []
    assert (await stores[0].run(run.id)).epoch == run.epoch
    for store in stores:
        await store.close()


async def test_a_replica_stopped_in_the_middle_of_intake_holds_nobody_up_for_long(
    database: str, pair: Pair
) -> None:
    """As SIGSTOP does: its session holds the sender's lock in a transaction that stands still."""
    from remediator.errors import StoreUnavailable
    from remediator.store.limits import Limits
    from remediator.store.postgres.link import Link

    stopped = Link(database, Limits(), None, seconds=2)
    stopped.tx.begin()
    stopped.tx.lock("intake:am")
    with pytest.raises(StoreUnavailable):
        await pair[0].deliver(alert("a"))
    for _ in range(40):
        try:
            receipt = await pair[1].deliver(alert("a"))
            break
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    assert receipt.accepted + receipt.repeated == 1
    stopped.close()


async def test_three_replicas_tell_each_step_and_send_each_message_once(database: str) -> None:
    """Every replica looks after incidents and drains the outbox, all at the same time."""
    clock = DrivenClock(START)
    worlds = [await replica(database, clock) for _ in range(3)]
    pager = Pager("primary")
    try:
        rigs = [await teller(world, pager) for world in worlds]
        for number in range(6):
            run = await worlds[0].start(f"a{number}", policy=f"p{number}")
            declaration = Declaration(
                target=f"db:{number}",
                target_key=f"k:{number}",
                severity=Severity.P3,
                chain="on-call",
                policy="p",
            )
            await worlds[0].move(run, run.state, outcome=Outcome.REFUSED, incident=declaration)
        for minutes in (0, 15, 30, 31):
            clock.set(Instant(START + minutes * MINUTE))
            for _ in range(3):
                await asyncio.gather(*(incidents.once() for incidents, _ in rigs))
                await asyncio.gather(*(drain.once() for _, drain in rigs))
    finally:
        for world in worlds:
            await world.store.close()
    told = Counter(message.subject for message in pager.sent)
    declared = {subject: count for subject, count in told.items() if "DECLARED" in subject}
    assert declared == {f"INCIDENT DECLARED - P3: db:{number}": 1 for number in range(6)}
    # the step after 15 minutes, and the status updates after 15 (to nobody else) and 30 minutes
    assert {subject: told[subject] for subject in told if "ESCALATED" in subject} == {
        f"INCIDENT ESCALATED - P3: db:{number}": 1 for number in range(6)
    }
    assert {subject: told[subject] for subject in told if "STATUS UPDATE" in subject} == {
        f"STATUS UPDATE - 30m - P3: db:{number}": 1 for number in range(6)
    }


async def teller(world: World, pager: Pager) -> tuple[Incidents, Drain]:
    """What a replica has to tell people."""
    known = Known(Outside())
    words = Vocabulary(
        catalogue=known, connections={}, senders=frozenset(), notifiers=frozenset({pager.name})
    )
    policies = Policies(world.store, known, lambda files: compile_set(files, words), None)
    await policies._propose({"escalation.yaml": CHAIN})
    routing = Routing({}, {"updated": {"on-call": Severity.P4}}, (pager.name,))
    incidents = Incidents(world.store, policies, Telling(routing))
    return incidents, Drain(world.store, {pager.name: pager}, lambda chain: ())


CHAIN = "chains: {on-call: [{after: 0m, notify: [primary]}, {after: 15m, notify: [primary]}]}\n"
