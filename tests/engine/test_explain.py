"""Why something did, or did not, happen: asked of the real store after the real engine has worked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import remediator
from remediator.engine.explain import Explanation, explain
from remediator.engine.headline import headline
from remediator.engine.timeline import KINDS
from remediator.errors import ConfigurationError, NotFound
from remediator.model import DAY, HOUR, MINUTE, SECOND, AlertId, AuditEvent, Instant, Millis
from remediator.policy.set import PolicySet, compile_set
from remediator.policy.vocabulary import Vocabulary
from tests.engine.world import POLICY, Rig, World

QUEUE = """
name: queue
mode: enforce
from: [am]
match: [alertname="QueueHigh"]
remedies:
  - action: world.resize
    with: {group: "${labels.group}", add: 2, max: 10}
"""

NARROW = """
name: narrow
mode: enforce
from: [am]
match:
  - alertname="QueueHigh"
  - env="prod"
  - queue=~"prod-.+"
remedies:
  - action: world.resize
    with: {group: gpu, add: 2, max: 10}
"""

OTHER = """
name: other
mode: enforce
from: [am]
match: [alertname="DiskFull"]
remedies:
  - action: world.resize
    with: {group: gpu, add: 2, max: 10}
"""


class Wide(Rig):
    """A rig whose settings know a second sender."""

    def compile(self, files: Any) -> PolicySet:
        return compile_set(files, Vocabulary(catalogue=self.known, senders=frozenset({"am", "gcp"})))


async def asked(rig: Rig, id: int = 1, policy: str | None = None) -> Explanation:
    return await explain(rig.store, rig.policies.revision, AlertId(id), policy=policy)


async def test_no_policy_matches_and_the_nearest_says_which_matcher_failed() -> None:
    async with Rig(NARROW, OTHER) as rig:
        await rig.fire(env="staging")
        said = await asked(rig)
    assert said.runs == ()
    assert said.headline == (
        "Nothing was done: none of 2 policies matches, "
        'the nearest is narrow: env="prod" does not hold: env="staging"'
    )
    first, second = said.near
    assert (first.policy, first.matcher, first.observed) == ("narrow", 'env="prod"', 'env="staging"')
    assert (first.held, first.of) == (1, 3)
    assert (second.policy, second.observed) == ("other", 'alertname="QueueHigh"')
    assert [line.kind for line in said.timeline] == ["alert.accepted"]


async def test_where_no_policy_is_near_the_headline_says_so() -> None:
    async with Rig(OTHER, OTHER.replace("name: other", "name: third")) as rig:
        await rig.fire()
        said = await asked(rig)
    assert "none of 2 policies matches, and none is near, for example other: " in said.headline


async def test_an_absent_label_is_called_absent() -> None:
    async with Rig(NARROW) as rig:
        await rig.fire(env="prod")
        said = await asked(rig)
    assert said.near[0].matcher == 'queue=~"prod-.+"'
    assert said.near[0].observed == "queue is absent"


async def test_a_sender_that_the_policy_does_not_listen_to_is_named() -> None:
    elsewhere = QUEUE.replace("from: [am]", "from: [gcp]")
    async with Wide(elsewhere) as rig:
        await rig.fire()
        said = await asked(rig)
    assert "the alert came from am, it listens to gcp" in said.headline


async def test_many_policies_are_counted_and_one_can_be_asked_for() -> None:
    others = [OTHER.replace("name: other", f"name: other-{n}") for n in range(9)]
    async with Rig(*others) as rig:
        await rig.fire()
        said = await asked(rig)
        one = await asked(rig, policy="other-7")
        with pytest.raises(ConfigurationError, match="other-77"):
            await asked(rig, policy="other-77")
    assert len(said.near) == 5
    assert said.further == 4
    assert [answer.policy for answer in one.near] == ["other-7"]
    assert one.headline.startswith("Nothing was done by policy other-7: ")


async def test_a_spent_budget_is_said_with_what_was_seen_and_allowed() -> None:
    policy = QUEUE + "limits: {cooldown: 0s, budget: [1 per 1h], per_target: [5 per 1h]}\ngive_up: 10m\n"
    async with Rig(policy) as rig:
        await rig.fire(group="gpu")
        await rig.until(1 * SECOND)
        await rig.fire(group="gpu", shard="2")
        await rig.until(2 * MINUTE)
        waiting = await asked(rig, 2)
        await rig.until(15 * MINUTE)
        refused = await asked(rig, 2)
    assert waiting.headline.startswith("Open: policy queue has not acted yet: it waits: budget: ")
    assert "allowed 1 per 1h" in waiting.headline
    assert "gives up at 2027-01-15T08:10:01.000Z" in waiting.headline
    assert refused.headline.startswith("Nothing was done: policy queue refused: gave_up: budget ")
    assert "allowed 1 per 1h" in refused.headline
    (run,) = refused.runs
    assert run.run["outcome"] == "refused"
    assert run.next == ""
    words = [line.text for line in refused.timeline]
    assert words[0] == "the alert arrived from am"
    assert any(text.startswith("waits: budget: ") for text in words)
    assert any(text.startswith("refused: gave_up: ") for text in words)


async def test_an_unknown_label_is_named() -> None:
    policy = QUEUE.replace("labels.group", "labels.pool")
    async with Rig(policy) as rig:
        await rig.fire()
        await rig.until(1 * SECOND)
        said = await asked(rig)
    assert said.headline.startswith("Nothing was done: policy queue refused: unknown_label: ")
    assert "pool" in said.headline


async def test_what_was_done_is_told_from_and_to() -> None:
    policy = QUEUE + "verify:\n  within: 5m\n  checks: [{check: world.level, is: '< 50'}]\n"
    world = World(heals={5: 10.0})
    async with Rig(policy, world=world) as rig:
        await rig.fire()
        await rig.until(10 * MINUTE)
        said = await asked(rig)
    assert said.headline.startswith("Done: policy queue acted on world:gpu and it healed")
    assert said.runs[0].intents[0]["plan"]["after"] == {"size": 5}
    assert any("world.resize size=3 → size=5" in line.text for line in said.timeline)
    assert [line.kind for line in said.timeline][-1] == "run.succeeded"


async def test_a_hold_says_when_it_ends() -> None:
    async with Rig(QUEUE + "for: 5m\n") as rig:
        await rig.fire()
        await rig.until(1 * MINUTE)
        said = await asked(rig)
    assert "it holds" in said.headline
    assert "2027-01-15T08:05:00.000Z (in 4m)" in said.headline


async def test_a_resolve_before_acting_is_said() -> None:
    async with Rig(QUEUE + "for: 5m\n") as rig:
        await rig.fire()
        await rig.until(1 * MINUTE)
        await rig.resolve()
        await rig.until(10 * MINUTE)
        said = await asked(rig)
    assert said.headline.startswith("Nothing was done: policy queue cancelled its run: alert_resolved")
    assert "news that it resolved came from am" in [line.text for line in said.timeline]


async def test_observe_mode_says_what_it_would_have_done() -> None:
    async with Rig(QUEUE.replace("mode: enforce", "mode: observe")) as rig:
        await rig.fire()
        await rig.until(1 * SECOND)
        said = await asked(rig)
    assert said.headline.startswith("Nothing was done: policy queue only observes: planned_only: would run ")
    assert "size=3 → size=5" in said.headline


async def test_an_attached_alert_shows_the_run_that_another_opened() -> None:
    async with Rig(QUEUE + "for: 5m\n") as rig:
        await rig.fire()
        await rig.fire(shard="2")
        said = await asked(rig, 2)
    (run,) = said.runs
    assert run.attached
    assert run.run["alert"] == 1


async def test_the_revision_of_then_is_asked_and_not_todays() -> None:
    async with Rig(OTHER) as rig:
        await rig.fire()
        await rig.load({"queue.yaml": QUEUE})
        said = await asked(rig)
    assert [answer.policy for answer in said.near] == ["other"]
    assert said.matched == ()


async def test_a_revision_that_can_no_longer_be_read_is_said() -> None:
    async def unreadable(revision: str) -> object:
        raise ConfigurationError("other.yaml:3:1: no sender is named 'am' in the settings")

    async with Rig(OTHER) as rig:
        await rig.fire()
        said = await explain(rig.store, unreadable, AlertId(1))  # type: ignore[arg-type]
    assert said.headline.startswith("Nothing was done, and why cannot be told: policy revision ")
    assert "no sender is named 'am'" in said.note


async def test_what_retention_has_deleted_is_not_called_undone() -> None:
    async with Rig(QUEUE) as r:
        await r.fire()
        await r.until(MINUTE)
        assert len(r.world.calls) == 1
        await r.resolve()
        r.clock.set(Instant(r.clock.now() + 40 * DAY))
        await r.store.prune({"run": Millis(35 * DAY)})
        assert await r.runs() == []
        said = await asked(r)
        assert said.headline.startswith("What was done is not kept any more: policy queue matched")
        assert "audit query --alert 1" in said.headline


async def test_an_alert_that_came_as_news_of_its_end_had_nothing_done() -> None:
    async with Rig(QUEUE) as r:
        await r.resolve()
        wanted = "Nothing was done: policy queue matches, but the alert had already ended when it came"
        assert (await asked(r)).headline == wanted


VERIFIED = (
    QUEUE
    + """
verify: {within: 2m, checks: [{check: world.level, with: {}, is: "< 50"}]}
on_failure: revert
"""
)


@pytest.mark.parametrize(
    ("world", "headline", "why"),
    [
        ({"faults": ["lost-before"]}, "Not known whether it was done: ", "action_unknown: "),
        (
            {"faults": ["", "lost-before"]},
            "Not known whether its last call took effect: ",
            "after it had acted on world:gpu: action_unknown: ",
        ),
        ({"levels": {"queue": None}}, "Done, and not known whether it healed: ", "verify_unknown: "),
        ({"faults": ["", "deny"]}, "Done, and not verified: ", "access denied"),
    ],
)
async def test_the_headline_of_what_went_wrong_says_no_more_than_is_known(
    world: dict[str, Any], headline: str, why: str
) -> None:
    async with Rig(VERIFIED, world=World(**world)) as r:
        await r.fire()
        await r.until(HOUR)
        said = (await asked(r)).headline
        assert said.startswith(headline), said
        assert why in said


async def test_a_lease_that_was_left_to_a_person_is_in_the_headline_of_the_run_that_lent_it() -> None:
    lends = QUEUE.replace("max: 10}", "max: 10}\n    expires: 10m")
    async with Rig(lends) as r:
        await r.fire()
        await r.until(HOUR)
        said = (await asked(r)).headline
        assert said.startswith("Done: policy queue acted on world:gpu"), said
        assert "Not put back: the lease of policy queue on world:gpu has ended: lease_still_needed" in said


async def test_of_very_many_events_the_beginning_and_the_end_are_told() -> None:
    async with Rig(POLICY + "for: 5m\n") as r:
        run = (await r.fire()).runs[0]
        await r.until(SECOND)
        await r.store.record([AuditEvent(kind="run.waiting", run=run, observed=str(n)) for n in range(999)])
        await r.until(2 * SECOND)
        await r.resolve()
        await r.worker.drain()
        said = await asked(r)
        texts = [line.text for line in said.timeline]
        assert "opened run 1" in texts[1]
        assert any(text.startswith("cancelled: alert_resolved") for text in texts)
        assert len(texts) < 600
        (gap,) = [line for line in said.timeline if not line.kind]
        assert "remediator audit query --run 1" in gap.text
        place = said.timeline.index(gap)
        assert said.timeline[place - 1].text.startswith("waits")
        assert said.timeline[place + 1].text.startswith("waits")


async def test_a_value_that_is_missing_or_wrong_is_named() -> None:
    for labels, wanted in (
        ({"group": ""}, "unknown_label: labels.group is empty, allowed an alert with labels.group"),
        ({"group": "../etc"}, "invalid_parameter: group = ../etc, allowed "),
    ):
        async with Rig(QUEUE) as r:
            await r.fire(**labels)
            await r.until(MINUTE)
            assert wanted in (await asked(r)).headline


async def test_why_a_person_cancelled_is_told() -> None:
    async with Rig(POLICY + "for: 5m\n") as r:
        run = (await r.fire()).runs[0]
        event = AuditEvent(kind="run.cancelled", actor="alice", data={"reason": "moving the queue"})
        await r.store.cancel(run, event)
        assert "cancelled by alice: moving the queue" in (await asked(r)).headline


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/remediator.db"
    async with Rig(NARROW, url=url) as rig:
        await rig.fire(env="staging")
        before = await asked(rig)
    async with Rig(NARROW, url=url) as rig:
        after = await asked(rig)
    assert after.headline == before.headline
    assert after.near == before.near


async def test_nothing_internal_gets_out() -> None:
    async with Rig(QUEUE) as rig:
        await rig.fire()
        await rig.until(1 * MINUTE)
        said = msgspec.json.encode(await asked(rig)).decode()
    assert '"token"' not in said
    assert '"nonce"' not in said


async def test_no_such_alert() -> None:
    async with Rig(QUEUE) as rig:
        with pytest.raises(NotFound):
            await asked(rig, 99)


async def test_the_end_of_a_lease_is_told_as_what_it_is() -> None:
    async with Rig(POLICY + "    expires: 2h\n", world=World(unsettled=2)) as r:
        (alert,) = (await r.fire()).alerts
        await r.until(HOUR)
        await r.resolve()
        r.world.unsettled = 2
        await r.until(2 * HOUR)
        said = (await explain(r.store, r.policies.revision, alert)).headline
        assert said.startswith("Open: the lease of policy queue on world:gpu has ended; it puts back")
        await r.until(3 * HOUR)
        back = (await r.runs())[-1]
        assert headline(back) == "Put back: the lease of policy queue on world:gpu has ended"


async def test_a_lease_that_stays_says_that_it_was_not_put_back() -> None:
    async with Rig(POLICY + "    expires: 2h\n") as r:
        await r.fire()
        await r.until(HOUR)
        await r.resolve()
        r.world.sizes["gpu"] = 8
        await r.until(3 * HOUR)
        said = headline((await r.runs())[-1])
        assert said.startswith(
            "Not put back: the lease of policy queue on world:gpu has ended: changed_by_person"
        )


def test_every_kind_that_is_written_is_known_by_name() -> None:
    """Whoever asks the log for a kind that is not known is told that it may be mistyped."""
    package = Path(remediator.__file__).parent
    written = {
        kind
        for file in package.rglob("*.py")
        for kind in re.findall(r'\bkind="([a-z_]+\.[a-z_]+)"', file.read_text(encoding="utf-8"))
    }
    assert "alert.rejected" in written
    assert written - KINDS == set()
