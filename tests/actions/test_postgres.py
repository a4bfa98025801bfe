"""Ending queries and sessions, on a real PostgreSQL with sessions really stuck."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
import pytest
from pydantic import ValidationError

from remediator.actions.postgres import CancelParams, CancelQueries, TerminateParams, TerminateQueries
from remediator.clients.connections import CallContext, Connections
from remediator.contracts import Nothing, Observed
from remediator.errors import Permanent
from remediator.model import Instant, Landed, Plan, Target
from remediator.settings import PostgresConnection
from tests.servers.postgres import Postgres

CANCEL, TERMINATE = CancelQueries(), TerminateQueries()
SETUP = """
CREATE ROLE remediator LOGIN; GRANT pg_signal_backend, pg_read_all_stats TO remediator;
CREATE ROLE app LOGIN; CREATE ROLE reporting_weekly LOGIN; CREATE ROLE walker LOGIN REPLICATION;
CREATE ROLE blind LOGIN; CREATE ROLE harmless LOGIN; GRANT pg_read_all_stats TO harmless;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    settings = {"wal_level": "logical", "shared_buffers": "16MB", "fsync": "off"}
    with Postgres(max_connections=130, settings=settings) as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as admin:
            admin.execute(SETUP)
            admin.execute("CREATE DATABASE orders")
            admin.execute("CREATE DATABASE billing")
        yield server


@pytest.fixture
def connections(server: Postgres) -> Iterator[Connections]:
    def of(role: str) -> PostgresConnection:
        return PostgresConnection(dsn=server.dsn(role, "orders"))

    roles = {"orders": "remediator", "blind": "blind", "harmless": "harmless", "alias": "remediator"}
    billing = PostgresConnection(dsn=server.dsn("remediator", "billing"))
    made = Connections({"billing": billing} | {name: of(role) for name, role in roles.items()})
    yield made
    made.close()


@pytest.fixture
def context(connections: Connections) -> CallContext:
    return CallContext(connections, Instant(0))


@dataclass(frozen=True)
class Session:
    """One session of the server, and its pid, which the driver forgets when the session is ended."""

    connection: psycopg.Connection[Any]
    pid: int

    def alive(self) -> bool:
        return self.connection.execute("SELECT 1").fetchone() == (1,)


class Stuck:
    """Sessions that do something for too long. Each ends when it is ended, or with the test."""

    def __init__(self, server: Postgres, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self._threads: list[threading.Thread] = []
        self.ended: dict[int, str] = {}
        """pid → the SQLSTATE with which its query ended."""

    def open(self, user: str = "app", database: str = "orders", **options: Any) -> Session:
        connection = psycopg.connect(self.server.dsn(user, database), autocommit=True, **options)
        self._stack.callback(connection.close)
        return Session(connection, connection.info.backend_pid)

    def running(self, **options: Any) -> Session:
        """A session whose query does not end by itself."""
        session = self.open(**options)

        def run() -> None:
            try:
                session.connection.execute("SELECT pg_sleep(3600), 'secret of the customer'")
            except psycopg.Error as error:
                self.ended[session.pid] = error.sqlstate or ""

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        until(lambda: self.state(session) == "active")
        return session

    def idling(self, **options: Any) -> Session:
        """A session that idles in a transaction."""
        session = self.open(**options)
        session.connection.execute("BEGIN; SELECT 1")
        return session

    def state(self, session: Session) -> str | None:
        """What a session is doing; None when it is gone."""
        with psycopg.connect(self.server.superuser_dsn) as admin:
            row = admin.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [session.pid]).fetchone()
        return None if row is None else str(row[0])

    def join(self) -> None:
        with psycopg.connect(self.server.superuser_dsn, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname IN ('orders', 'billing') AND pid <> pg_backend_pid()"
            )
            count = "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('orders', 'billing')"
            until(lambda: admin.execute(count).fetchone() == (0,))
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def stuck(server: Postgres) -> Iterator[Stuck]:
    with ExitStack() as stack:
        sessions = Stuck(server, stack)
        yield sessions
        sessions.join()


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def cancel_params(**values: Any) -> CancelParams:
    return CancelParams.model_validate({"connection": "orders", "longer_than": "1s", "max": 20} | values)


def terminate_params(**values: Any) -> TerminateParams:
    return TerminateParams.model_validate({"connection": "orders", "longer_than": "1s", "max": 20} | values)


def planned(plan: Plan | Nothing) -> Plan:
    assert isinstance(plan, Plan), plan
    return plan


def pids(plan: Plan) -> list[int]:
    return [one["pid"] for one in plan.detail["sessions"]]


def test_terminate_ends_what_runs_or_idles_too_long_and_nothing_else(
    context: CallContext, stuck: Stuck
) -> None:
    running, idling = stuck.running(), stuck.idling()
    aborted = stuck.open()
    with pytest.raises(psycopg.errors.DivisionByZero):
        aborted.connection.execute("BEGIN; SELECT 1/0")
    kept = {
        "a superuser's": stuck.running(user="postgres"),
        "remediator's own": stuck.running(user="app", application_name="remediator-demo"),
        "of another database": stuck.running(database="billing"),
        "of an excepted role": stuck.running(user="reporting_weekly"),
        "of a backup": stuck.running(application_name="pg_dump"),
        "idle without a transaction": stuck.open(),
    }
    kept["replication"] = stuck.open(user="walker", replication="database")
    position = kept["replication"].connection.execute("IDENTIFY_SYSTEM").fetchone()[2]
    kept["replication"].connection.pgconn.send_query(f"START_REPLICATION PHYSICAL {position}".encode())
    until(lambda: stuck.state(kept["replication"]) == "active")
    time.sleep(1.1)
    kept["younger"] = younger = stuck.idling()

    params = terminate_params(except_users=["reporting_*"])
    observed = seen_young(context, params, younger)
    plan = planned(TERMINATE.plan(observed, params, []))

    assert sorted(pids(plan)) == sorted([running.pid, idling.pid, aborted.pid])
    assert (plan.before, plan.after, plan.more) == ({"sessions": 3}, {"sessions": 0}, False)
    assert (plan.blast.amount, plan.blast.whole, plan.blast.unit) == (3, 130, "sessions")
    assert plan.target == Target(name="postgres:orders", key=observed.target.key)

    evidence = TERMINATE.apply(context, plan, "token")
    assert (evidence["signalled"], evidence["left_alone"]) == (sorted(pids(plan)), [])
    until(lambda: TERMINATE.settled(context, plan).done)
    assert [stuck.state(one) for one in (running, idling, aborted)] == [None, None, None]
    until(lambda: stuck.ended.get(running.pid) == "57P01")
    assert [what for what, one in kept.items() if stuck.state(one) is None] == []
    assert TERMINATE.landed(TERMINATE.observe(context, params), plan) is Landed.APPLIED
    assert isinstance(TERMINATE.plan(seen_young(context, params, younger), params, [plan]), Nothing)


def seen_young(context: CallContext, params: TerminateParams, younger: Session) -> Observed:
    """A look at the sessions at which that one had begun its transaction less than a second before."""
    while True:
        began = time.monotonic()
        younger.connection.execute("ROLLBACK; BEGIN; SELECT 1")
        observed = TERMINATE.observe(context, params)
        if time.monotonic() - began < 1:
            return observed


def test_cancel_ends_the_query_and_keeps_the_session(context: CallContext, stuck: Stuck) -> None:
    running, idling = stuck.running(), stuck.idling()
    time.sleep(1.1)
    params = cancel_params()
    plan = planned(CANCEL.plan(CANCEL.observe(context, params), params, []))
    assert pids(plan) == [running.pid]
    assert not CANCEL.settled(context, plan).done
    assert CANCEL.landed(CANCEL.observe(context, params), plan) is Landed.NOT_APPLIED

    (told,) = CANCEL.apply(context, plan, "token")["sessions"]

    until(lambda: CANCEL.settled(context, plan).done)
    until(lambda: stuck.ended.get(running.pid) == "57014")
    # enough to find the query's author, and no value that somebody put into it
    assert told["seconds"] > 1
    del told["seconds"]
    assert told == {
        "pid": running.pid,
        "user": "app",
        "application": "",
        "state": "active",
        "query": "SELECT pg_sleep(?), ?",
    }
    assert running.alive()
    assert stuck.state(idling) == "idle in transaction"


def test_a_plan_names_queries_by_their_shape_only(context: CallContext, stuck: Stuck) -> None:
    stuck.running()
    time.sleep(1.1)
    params = cancel_params()
    plan = planned(CANCEL.plan(CANCEL.observe(context, params), params, []))
    assert [one["query"] for one in plan.detail["sessions"]] == ["SELECT pg_sleep(?), ?"]


def test_a_session_that_has_moved_on_is_left_alone(context: CallContext, stuck: Stuck) -> None:
    """Between plan and apply the transaction was continued: same pid, same session, no longer stuck."""
    idling, still = stuck.idling(), stuck.idling()
    time.sleep(1.1)
    params = terminate_params()
    plan = planned(TERMINATE.plan(TERMINATE.observe(context, params), params, []))
    idling.connection.execute("SELECT 2")

    evidence = TERMINATE.apply(context, plan, "token")

    assert (evidence["signalled"], evidence["left_alone"]) == ([still.pid], [idling.pid])
    assert [one["pid"] for one in evidence["sessions"]] == [still.pid]
    until(lambda: TERMINATE.settled(context, plan).done)
    assert idling.alive()


def test_a_reused_pid_is_not_hit(context: CallContext, stuck: Stuck) -> None:
    """The plan's pid belongs to another session now: its backend_start differs."""
    idling = stuck.idling()
    time.sleep(1.1)
    params = terminate_params()
    plan = planned(TERMINATE.plan(TERMINATE.observe(context, params), params, []))
    (one,) = plan.detail["sessions"]
    former = one | {"started": "2020-01-01 00:00:00.000001+00"}
    stale = msgspec.structs.replace(plan, detail={"sessions": [former]})

    evidence = TERMINATE.apply(context, stale, "token")
    assert evidence == {"signalled": [], "left_alone": [idling.pid], "sessions": []}
    assert TERMINATE.settled(context, stale).done
    assert idling.alive()


def test_a_session_of_another_database_is_not_hit_even_if_a_plan_names_it(
    context: CallContext, stuck: Stuck
) -> None:
    other = stuck.idling(database="billing")
    time.sleep(1.1)
    params = terminate_params(connection="billing")
    plan = planned(TERMINATE.plan(TERMINATE.observe(context, params), params, []))
    assert pids(plan) == [other.pid]
    elsewhere = msgspec.structs.replace(plan, params=plan.params | {"connection": "orders"})
    assert TERMINATE.apply(context, elsewhere, "token")["signalled"] == []
    assert other.alive()


def test_applying_a_plan_twice_ends_nothing_more(context: CallContext, stuck: Stuck) -> None:
    first = stuck.idling()
    time.sleep(1.1)
    params = terminate_params()
    plan = planned(TERMINATE.plan(TERMINATE.observe(context, params), params, []))
    TERMINATE.apply(context, plan, "token")
    until(lambda: stuck.state(first) is None)
    second = stuck.idling()
    time.sleep(1.1)
    assert TERMINATE.apply(context, plan, "token")["signalled"] == []
    assert second.alive()


def test_a_hundred_stuck_sessions_are_ended_in_chunks_of_ten_up_to_max(
    context: CallContext, stuck: Stuck
) -> None:
    opened = [stuck.idling() for _ in range(100)]
    time.sleep(1.1)
    params = terminate_params(max=20)
    done: list[Plan] = []
    while isinstance(plan := TERMINATE.plan(TERMINATE.observe(context, params), params, done), Plan):
        assert plan.blast.amount == 10
        TERMINATE.apply(context, plan, f"token-{len(done)}")
        until(lambda plan=plan: TERMINATE.settled(context, plan).done)
        done.append(plan)

    assert [plan.more for plan in done] == [True, False]
    assert [plan.before for plan in done] == [{"sessions": 100}, {"sessions": 90}]
    assert "max 20" in plan.why
    # longest first: the twenty that were opened first
    assert {one for plan in done for one in pids(plan)} == {one.pid for one in opened[:20]}
    left = TERMINATE.observe(context, params).fields["sessions"]
    assert left == 80


def test_nothing_to_end_says_what_was_seen(context: CallContext, stuck: Stuck) -> None:
    stuck.running(user="postgres")
    stuck.idling()
    params = terminate_params(longer_than="1h")
    nothing = TERMINATE.plan(TERMINATE.observe(context, params), params, [])
    assert isinstance(nothing, Nothing)
    assert "for longer than 1h" in nothing.why
    assert "1 idle in transaction" in nothing.why
    assert "of superusers" in nothing.why


def test_two_connections_to_one_database_are_one_target(context: CallContext) -> None:
    orders = TERMINATE.observe(context, terminate_params()).target
    alias = TERMINATE.observe(context, terminate_params(connection="alias")).target
    assert orders.key == alias.key
    assert (orders.name, alias.name) == ("postgres:orders", "postgres:alias")
    assert orders.key.startswith("postgres:")
    assert orders.key.endswith("/orders")


def test_a_role_that_cannot_see_is_told_the_grant(context: CallContext, stuck: Stuck) -> None:
    stuck.idling()
    with pytest.raises(Permanent, match="run: GRANT pg_read_all_stats TO blind;"):
        TERMINATE.observe(context, terminate_params(connection="blind"))


def test_a_role_that_may_not_signal_is_told_the_grant(context: CallContext, stuck: Stuck) -> None:
    idling = stuck.idling()
    time.sleep(1.1)
    params = terminate_params()
    plan = planned(TERMINATE.plan(TERMINATE.observe(context, params), params, []))
    with pytest.raises(Permanent, match="run: GRANT pg_signal_backend TO harmless;"):
        TERMINATE.observe(context, terminate_params(connection="harmless"))
    # and even a plan made by someone who may does nothing in the hands of one who may not
    foreign = msgspec.structs.replace(plan, params=plan.params | {"connection": "harmless"})
    assert TERMINATE.apply(context, foreign, "token")["signalled"] == []
    assert idling.alive()


def session(number: int, seconds: float, state: str = "active", **more: Any) -> dict[str, Any]:
    return {"pid": number, "started": f"s{number}", "state": state, "since": "t", "seconds": seconds} | more


def state(*found: dict[str, Any]) -> Observed:
    target = Target(name="postgres:orders", key="postgres:1/orders")
    return Observed(
        target=target, fields={"sessions": len(found), "max_connections": 100, "found": list(found)}
    )


def test_a_plan_takes_only_what_the_parameters_allow_whatever_was_observed() -> None:
    observed = state(
        session(1, 60), session(2, 600), session(3, 900, "idle in transaction"), session(4, 300, user="etl"),
        session(5, 5000, "idle"),
    )  # fmt: skip
    params = cancel_params(longer_than="5m", except_users=["etl"])
    assert pids(planned(CANCEL.plan(observed, params, []))) == [2]
    both = terminate_params(longer_than="5m", states=["idle in transaction", "active"])
    assert pids(planned(TERMINATE.plan(observed, both, []))) == [3, 2, 4]


def test_the_last_chunk_is_what_max_leaves() -> None:
    observed = state(*(session(number, 600) for number in range(30)))
    params = terminate_params(longer_than="5m", max=14)
    first = planned(TERMINATE.plan(observed, params, []))
    last = planned(TERMINATE.plan(observed, params, [first]))
    assert [(plan.blast.amount, plan.more) for plan in (first, last)] == [(10, True), (4, False)]
    assert not set(pids(first)) & set(pids(last))
    assert isinstance(TERMINATE.plan(observed, params, [first, last]), Nothing)


def test_landed_is_unclear_when_only_some_are_gone() -> None:
    params = terminate_params(longer_than="5m")
    plan = planned(TERMINATE.plan(state(session(1, 600), session(2, 900)), params, []))
    assert TERMINATE.landed(state(session(1, 660), session(2, 960)), plan) is Landed.NOT_APPLIED
    assert TERMINATE.landed(state(session(1, 660)), plan) is Landed.UNCLEAR
    assert TERMINATE.landed(state(session(3, 660)), plan) is Landed.APPLIED


def test_what_an_earlier_rung_with_other_parameters_ended_does_not_use_up_max() -> None:
    gentle, firm = terminate_params(longer_than="1h", max=1), terminate_params(longer_than="5m", max=1)
    first = planned(TERMINATE.plan(state(session(1, 7200), session(2, 600)), gentle, []))
    assert pids(planned(TERMINATE.plan(state(session(2, 660)), firm, [first]))) == [2]
    assert isinstance(TERMINATE.plan(state(session(2, 7200)), gentle, [first]), Nothing)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"longer_than": "500ms"}, "outside 1s to 1d"),
        ({"longer_than": "25h"}, "outside 1s to 1d"),
        ({"longer_than": 300}, "has no unit"),
        ({"longer_than": "-5m"}, "is not a duration"),
        ({"longer_than": ""}, "is not a duration"),
        ({"max": 51}, "less than or equal to 50"),
        ({"max": 0}, "greater than or equal to 1"),
        ({"max": "20"}, "valid integer"),
        ({"max": True}, "valid integer"),
        ({"states": ["idle"]}, "'active' or 'idle in transaction'"),
        ({"states": []}, "at least 1 item"),
        ({"except_users": ["a[bc]"]}, "match pattern"),
        ({"database": "other"}, "Extra inputs"),
    ],
)
def test_bounds_are_in_the_type(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        terminate_params(**values)
