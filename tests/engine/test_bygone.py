"""A window that is over is refused when it is proposed, and takes no policies away that are in force."""

from __future__ import annotations

import pytest

from remediator.errors import ConfigurationError
from remediator.model import DAY, Instant
from tests.engine.world import POLICY, START, Rig

GONE = 'windows:\n  - name: gone\n    effect: wait\n    time_intervals:\n      - years: ["2020:2025"]\n'
ENDING = GONE.replace("2025", "2027")  # the clock starts in January 2027


async def test_a_window_that_is_over_is_refused_with_its_place() -> None:
    async with Rig() as rig:
        with pytest.raises(
            ConfigurationError, match=r"windows.yaml:4:5: the window 'gone' never occurs again"
        ):
            await rig.load({"queue.yaml": POLICY, "windows.yaml": GONE})
        assert "policy.rejected" in await rig.story()
        assert rig.policies.usable


async def test_a_set_in_force_stays_so_when_its_window_has_passed() -> None:
    files = {"queue.yaml": POLICY, "windows.yaml": ENDING}
    async with Rig() as rig:
        await rig.load(files)
        active = rig.policies.hash
        rig.clock.set(Instant(START + 400 * DAY))
        rig.policies._seen = None  # as after a restart
        await rig.load(files)
        assert await rig.policies.reload() is False
        assert (rig.policies.hash, rig.policies.usable) == (active, True)
        with pytest.raises(ConfigurationError, match="'gone' never occurs again"):
            await rig.load({**files, "queue.yaml": POLICY + "owner: them\n"})
