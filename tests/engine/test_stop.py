"""The daemon stops, at whatever moment it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from remediator.engine.task import Task, ended
from remediator.settings import Policies, Settings, StoreSettings
from remediator.wiring import build

POLICY = """
name: quiet
match: [alertname="Quiet"]
remedies:
  - action: kubernetes.scale
    with: {connection: cluster, namespace: a, deployment: a, add: 1, max: 2}
"""


async def test_it_stops_at_any_moment_after_its_start(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "quiet.yaml").write_text(POLICY)
    settings = Settings(
        store=StoreSettings(url=f"sqlite:///{tmp_path}/r.db"),  # type: ignore[arg-type]
        policies=Policies(dir=tmp_path / "policies"),
        connections={"cluster": {"kind": "kubernetes", "context": "none"}},  # type: ignore[dict-item]
    )
    for moment in range(20):
        daemon = build(settings)
        await daemon.start()
        await asyncio.sleep(moment * 0.002)
        async with asyncio.timeout(10):
            await daemon.stop()
        assert daemon.ready()[0] is False


async def test_a_task_that_will_not_end_is_left() -> None:
    enough = False

    async def stubborn() -> None:
        while not enough:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    task = Task("stubborn")
    task.running = asyncio.create_task(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await ended([task], times=2)
    assert not task.running.done()
    enough = True
    await ended([task])
    assert task.running.done()
