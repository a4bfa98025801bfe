"""kill -9 at every fail-point of the store: what was answered is there, and nothing is half there."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.clock import SystemClock
from remediator.model import Outcome, RunId, State
from remediator.store import open_store
from tests.store.world import Lines

ROOT = Path(__file__).parents[2]
ROUNDS = 3
POINTS = [
    "accept.before_commit:2",
    "accept.after_commit:2",
    "admit.before_commit@apply:2",
    "admit.after_commit@apply:2",
    "admit.before_commit@revert:2",
    "admit.after_commit@revert:2",
    "move.before_commit@VERIFY:2",
    "move.after_commit@VERIFY:2",
    "move.before_commit@reverted:2",
    "move.after_commit@reverted:2",
]


def victim(path: Path, point: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.store.victim", str(path), point, str(ROUNDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("point", POINTS)
async def test_what_was_answered_is_there_and_nothing_is_half_there(point: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    done = await asyncio.to_thread(victim, path, point)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    store = open_store(f"sqlite://{path}", SystemClock(), receivers={"lines": Lines()})
    await store.open()

    stored = {one.alert.fingerprint: one for one in await store.find_episodes()}
    sent = [line[1] for line in said if line[0] == "send"]
    accepted = [line[1] for line in said if line[0] == "accepted"]
    committed = point.partition(".")[2].startswith("after_commit")
    assert set(accepted) <= set(stored) <= set(sent)
    if point.startswith("accept"):
        assert len(sent) == len(accepted) + 1
        assert (sent[-1] in stored) is committed

    for name, episode in stored.items():
        [run] = await store.find_runs(alert=episode.id)  # an alert and its run, or neither
        assert run.target == name
        kinds = [one.event.kind for one in await store.audit(run=run.id, oldest_first=True)]
        intents = await store.intents(run.id)
        # State, intents, locks and audit events tell the same story.
        assert kinds.count("run.admitted") == len(intents)
        assert ("action.applied" in kinds) is (run.progress.applied == (1,) or run.progress.number == 2)
        assert ("run.reverted" in kinds) is (run.outcome is Outcome.REVERTED)
        assert ((await store.locks()).get(f"k:{name}") == run.id) is (bool(intents) and run.outcome is None)

    for line in said:
        if line[0] == "admitted":
            assert await store.intents(RunId(int(line[1])))
        elif line[0] == "moved":
            run = await store.run(RunId(int(line[1])))
            if line[2] == State.VERIFY:
                assert run.progress.applied == (1,) or run.progress.number == 2
            else:
                assert run.outcome is Outcome.REVERTED

    # Whoever was in the middle of acting is handed out again, at once.
    left = [run for run in await store.find_runs(open=True) if await store.intents(run.id)]
    due = {run.id for run in await store.claim("w", 10)}
    assert {run.id for run in left} <= due
    assert (await store.verify()).whole
    await store.seal()
    assert (await store.verify()).whole
    await store.close()


def test_a_victim_without_a_fail_point_survives(tmp_path: Path) -> None:
    done = victim(tmp_path / "store.db", "")
    assert done.stdout.splitlines()[-1] == "survived", done.stderr
