"""The policies that a restarted daemon finds: the store's, the directory's, and settings that moved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.engine.policies import Policies
from remediator.errors import ConfigurationError
from remediator.model import Mode
from tests.engine.world import POLICY, Rig


async def test_an_active_set_that_settings_no_longer_allow_gives_way_to_the_directory(tmp_path: Path) -> None:
    """A connection or an action was renamed in the settings and in the files at once."""
    async with Rig(POLICY) as r:
        old = r.policies.hash
        r.known._actions["world.grow"] = r.known._actions.pop("world.resize")
        (tmp_path / "queue.yaml").write_text(POLICY.replace("world.resize", "world.grow"))
        restarted = Policies(r.store, r.known, r.compile, tmp_path)
        await restarted.start()
        assert restarted.hash not in ("", old)
        assert restarted.fault == ""
        assert restarted.current is not None
        assert restarted.current.policies["queue"].mode is Mode.ENFORCE
        assert await r.store.active_revision() == restarted.hash


async def test_a_directory_that_cannot_be_used_either_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    async with Rig(POLICY) as r:
        old = r.policies.hash
        del r.known._actions["world.resize"]
        (tmp_path / "queue.yaml").write_text(POLICY.replace("world.resize", "world.unheard_of"))
        restarted = Policies(r.store, r.known, r.compile, tmp_path)
        with pytest.raises(ConfigurationError, match="unheard_of"):
            await restarted.start()
        assert await r.store.active_revision() == old
