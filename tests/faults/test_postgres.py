"""PostgreSQL goes away in the middle of a run: crashed, frozen, hung, cut off; or becomes another one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.crash.installation import firing
from tests.faults.scene import Scene, quiet
from tests.servers.postgres import Postgres
from tests.servers.wire import Wire


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def wire(server: Postgres) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, server: Postgres, wire: Wire) -> Iterator[Scene]:
    """One daemon, which survives one fault after the other."""
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/postgres"
    grace = {"shutdown_grace": "1s"}
    with Scene(tmp_path_factory.mktemp("faults"), store={"url": url}, engine=grace) as place:
        place.daemon.start()
        yield place


Fault = Callable[[Postgres, Wire], object]
FAULTS: dict[str, tuple[Fault, Fault]] = {
    # name: what happens, and how it ends
    "crashed": (lambda server, wire: server.crash(), lambda server, wire: server.start()),
    "frozen": (lambda server, wire: server.freeze(), lambda server, wire: server.thaw()),
    "hung": (lambda server, wire: wire.hang(), lambda server, wire: wire.mend()),
    "cut": (lambda server, wire: wire.cut(), lambda server, wire: wire.mend()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_goes_away_in_the_middle_of_a_run(place: Scene, server: Postgres, wire: Wire, fault: str) -> None:
    breaks, mends = FAULTS[fault]
    place.begin(fault)
    before = place.grown()
    breaks(server, wire)
    try:
        assert place.fire(f"{fault}-refused") == 503
        place.provider.open.set()  # the answer comes while nothing can be written
        place.unready("the store cannot be written")
        place.daemon.until(lambda: place.metric("remediator_store_up") == 0, "the metric says so")
        place.daemon.until(
            lambda: math.isnan(place.metric("remediator_open_runs")), "no number is an old one"
        )
        assert place.fire(f"{fault}-refused") == 503
        quiet(place, 1)
        assert place.grown() == before
    finally:
        mends(server, wire)
        place.provider.open.set()
    place.back()
    place.ends(fault)  # its outcome was kept, and is written now
    # What was refused may have been committed all the same, after nobody waited for it any more.
    (run,) = [run for run in place.daemon.runs() if run["target"] == f"recorder:{fault}"]
    kinds = [one["kind"] for one in place.daemon.get("audit", run=run["id"], oldest_first=True)["items"]]
    assert kinds.count("action.applied") == 1
    assert "action.unknown" not in kinds
    place.act(f"{fault}-refused")  # the sender's repetition
    place.daemon.until(lambda: place.metric("remediator_store_up") == 1, "the metric says so")
    assert time.time() - place.metric("remediator_store_measured_timestamp_seconds") < 10
    place.whole()


def test_what_a_stopped_daemon_was_calling_is_free_at_once(place: Scene, server: Postgres) -> None:
    """It lets go of it when its grace is over; nobody has to wait for the end of a lease."""
    place.begin("stopped")
    assert place.daemon.stop() == 0
    with psycopg.connect(server.superuser_dsn) as connection:
        rows = connection.execute("SELECT lease_until, state FROM run WHERE outcome IS NULL").fetchall()
    assert rows == [(None, "ACTING")]
    place.provider.open.set()
    place.daemon.start()
    place.ends("stopped", seconds=15)  # the next one has looked: it was applied
    place.whole()


def caught_up(standby: Postgres, alerts: int) -> bool:
    with psycopg.connect(standby.superuser_dsn) as connection:
        [count] = connection.execute("SELECT count(*) FROM alert").fetchone() or (0,)
    return bool(count >= alerts)


@pytest.mark.slow
def test_a_standby_takes_over_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """The daemon ends rather than act on what may have lost its latest commits; started again it is
    paused, says so, and knows what it had under way."""
    with ExitStack() as stack:
        primary = stack.enter_context(Postgres())
        wire = stack.enter_context(Wire(primary.port))
        url = f"postgresql://postgres@127.0.0.1:{wire.port}/postgres"
        place = stack.enter_context(Scene(tmp_path, store={"url": url}))
        process = place.daemon.start()
        place.act("before")
        standby = stack.enter_context(primary.standby())
        place.begin("during")
        place.daemon.until(lambda: caught_up(standby, 2), "the standby has followed")

        primary.freeze()  # nobody knows whether it still lives
        wire.cut()
        standby.promote()
        wire.to = standby.port
        wire.mend()
        place.provider.open.set()
        for number in range(5):
            assert place.daemon.post(firing(queue=f"lost{number}")) != 200
        assert process.wait(20) == 1
        assert "a standby took over or a backup was put in its place" in place.log()
        assert place.grown() == ["before", "during"]

        place.daemon.start()
        (pause,) = place.daemon.get("audit", kind="control.paused")["items"]
        assert (pause["actor"], pause["reason"]) == ("daemon", "database_changed")
        assert "timeline 1" in pause["observed"]
        assert "timeline 2" in pause["observed"]
        place.daemon.until(lambda: "remediator paused: another database" in place.log(), "people are told")
        place.deliver("late")
        place.daemon.until(lambda: place.daemon.runs()[-1]["reason"] == "paused", "nothing new acts")
        quiet(place, 1)
        assert place.grown() == ["before", "during"]
        answer = place.daemon.http.post("/api/v1/control/resume", json={"reason": "looked"})
        assert answer.status_code == 200, answer.text
        place.ends("late")
        place.ends("during", seconds=60)  # once the dead process's lease is over: it was applied
        place.whole()
        primary.thaw()
