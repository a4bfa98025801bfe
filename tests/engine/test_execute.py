"""The door to the outside world: who needs a thread, and who does not."""

from __future__ import annotations

import asyncio
import threading

import pytest

from remediator.checks.alert import Firing, NoParams
from remediator.engine.execute import Execute
from remediator.engine.threads import Threads
from remediator.errors import Temporary
from remediator.model import Alert, AlertId, Episode, Instant, Status
from tests.engine.world import START, Given


class Asking(Firing):
    """As one that has to ask somebody."""

    name = "asking"
    local = False


async def test_a_check_that_asks_nobody_answers_while_every_thread_hangs() -> None:
    alert = Alert(
        sender="am", fingerprint="a", status=Status.FIRING, labels={}, annotations={}, starts_at=START
    )
    episode = Episode(
        id=AlertId(1), alert=alert, received_at=START, resolved_at=None, seen_at=None, policy_revision=""
    )
    execute = Execute(Given, Threads(most=1))
    go = threading.Event()
    hanging = asyncio.create_task(execute.threads.call(lambda: go.wait(10), 10))
    await asyncio.sleep(0)
    reading = await execute.read(Firing(), NoParams(), Instant(START + 1), episode)
    assert [sample.value for sample in reading.samples] == [1.0]
    with pytest.raises(Temporary, match="hang"):
        await execute.read(Asking(), NoParams(), Instant(START + 1), episode)
    go.set()
    await hanging
