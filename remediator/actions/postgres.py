"""Ends queries and sessions of one PostgreSQL database that have run, or idled in a transaction, too long.

Never: replication and background workers, superusers' sessions, our own, sessions of other databases.
A session is addressed by pid, backend_start and what it has been doing since when, in one statement, so
a pid that has passed to another session, or a session that has moved on, is left alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from remediator.clients.postgres import APPLICATION, PostgresClient, Row
from remediator.clients.sql import shape
from remediator.contracts import (
    Action,
    ConnectionOf,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Settled,
)
from remediator.errors import Permanent
from remediator.model import DAY, MINUTE, SECOND, Blast, Landed, Millis, Plan, Risk, span
from remediator.quantity import Duration

CHUNK = 10
"""At most so many sessions in one statement; the engine checks between two."""
LISTED = 100
"""At most so many eligible sessions in an observation: twice the most that `max` allows."""

Session = dict[str, Any]
"""pid, started, state, since, seconds, user, application, query: as observed, JSON-able."""

Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@/ ()*-]{1,63}$")]

# What makes a session eligible at all, whatever the parameters say. `coalesce`: the role is gone.
_NEVER = f"""
    a.backend_type = 'client backend' AND a.datname = current_database()
    AND NOT coalesce(r.rolsuper, true) AND a.pid <> pg_backend_pid()
    AND NOT starts_with(a.application_name, '{APPLICATION}')
"""
_SINCE = "CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END"
_MAY_SIGNAL = "(pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))"

_OBSERVE = f"""
SELECT a.pid, a.backend_start::text AS started, a.state, ({_SINCE})::text AS since,
       extract(epoch FROM clock_timestamp() - {_SINCE})::float8 AS seconds,
       a.usename::text AS user, a.application_name AS application, left(a.query, 1000) AS query,
       coalesce(a.backend_type, '') AS kind, coalesce(r.rolsuper, true) AS superuser,
       coalesce({_NEVER}, false) AS allowed, {_MAY_SIGNAL} AS may_signal,
       a.usesysid IS NOT NULL AND a.backend_start IS NULL AS hidden,
       current_setting('max_connections')::int AS max_connections, quote_ident(current_user) AS me
FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datname = current_database()
"""  # noqa: S608

_ADDRESSED = f"""
FROM unnest(%(pid)s::int[], %(started)s::timestamptz[], %(state)s::text[], %(since)s::timestamptz[])
         AS w (pid, started, state, since)
JOIN pg_stat_activity a ON a.pid = w.pid AND a.backend_start = w.started
                       AND a.state = w.state AND {_SINCE} = w.since
LEFT JOIN pg_roles r ON r.oid = a.usesysid
"""


class CancelParams(Params):
    """What to end, and the most of it."""

    connection: Annotated[str, ConnectionOf("postgres")]
    longer_than: Annotated[Millis, Duration(SECOND, DAY)]
    """How long the query has run, or the transaction has idled."""
    max: Annotated[int, Field(strict=True, ge=1, le=50)]
    """The most sessions that one run may end, in all its chunks together; longest first."""
    except_users: Annotated[tuple[Pattern, ...], Field(max_length=50)] = ()
    """Roles that are left alone; `*` stands for any text."""
    except_applications: Annotated[tuple[Pattern, ...], Field(max_length=50)] = ("pg_dump*", "pg_restore")
    """application_names that are left alone; `*` stands for any text. Backups, unless said otherwise."""


class TerminateParams(CancelParams):
    states: Annotated[
        tuple[Literal["active", "idle in transaction"], ...], Field(min_length=1, max_length=2)
    ] = ("active", "idle in transaction")
    """`idle in transaction` takes aborted transactions that idle with it."""


Q = TypeVar("Q", bound=CancelParams)


class _End(Action[Q]):
    """What ending a query and ending a session have in common."""

    risk = Risk.DISRUPTIVE
    # A repeated call names the same pid, backend_start and since: it finds the same query again, or
    # nothing. It cannot reach what came after.
    idempotency = Idempotency("conditional")
    # A lost statement runs when it arrives or not at all: the line is cut after the connection's time-out
    # plus 1 s (at most 5 s by default), and what the kernel still holds then is gone within this time.
    landing_time = Millis(30 * SECOND)
    settle_time = MINUTE
    blast_unit = "sessions"
    fields = ("sessions",)
    permissions = (
        Permission("postgres", "GRANT pg_read_all_stats TO remediator", "see what other roles' sessions do"),
        Permission("postgres", "GRANT pg_signal_backend TO remediator", "end sessions of other roles"),
    )

    @property
    @abstractmethod
    def function(self) -> str:
        """The function of PostgreSQL that sends the signal."""

    @abstractmethod
    def states(self, params: Q) -> frozenset[str]:
        """The states in which a session may be ended."""

    def target_name(self, params: Q) -> str:
        return f"postgres:{params.connection}"

    def observe(self, context: Context, params: Q) -> Observed:
        client = context.client(PostgresClient, params.connection)
        target = client.target()
        rows = client.read(_OBSERVE)
        me = rows[0]["me"]
        if any(row["hidden"] for row in rows):
            raise Permanent(
                f"{target.name}: role {me} does not see what other sessions do; "
                f"run: GRANT pg_read_all_stats TO {me};"
            )
        found = [row for row in rows if row["allowed"] and self._eligible(row, params)]
        if not all(row["may_signal"] for row in found):
            raise Permanent(
                f"{target.name}: role {me} may not end the sessions found; "
                f"run: GRANT pg_signal_backend TO {me};"
            )
        found.sort(key=_longest_first)
        return Observed(
            target=target,
            fields={
                "sessions": len(found),
                "max_connections": rows[0]["max_connections"],
                "seen": _counted(rows),
                "found": [_session(row) for row in found[:LISTED]],
            },
        )

    def plan(self, observed: Observed, params: Q, done: Sequence[Plan]) -> Plan | Nothing:
        wanted = params.model_dump(mode="json")
        ended = [_key(one) for plan in done if plan.params == wanted for one in plan.detail["sessions"]]
        left = params.max - len(ended)
        if left <= 0:
            return Nothing(
                why=f"{len(ended)} sessions were addressed, which is the most allowed: max {params.max}"
            )
        found = [
            one for one in observed.fields["found"] if self._eligible(one, params) and _key(one) not in ended
        ]
        if not found:
            return Nothing(why=self._nothing(observed, params, len(ended)))
        chosen = sorted(found, key=_longest_first)[: min(left, CHUNK)]
        present = observed.fields.get("sessions", len(found))
        return Plan(
            action=self.name,
            target=observed.target,
            before={"sessions": present},
            after={"sessions": present - len(chosen)},
            blast=Blast(
                amount=len(chosen), whole=observed.fields.get("max_connections"), unit=self.blast_unit
            ),
            params=wanted,
            more=len(chosen) < min(left, len(found)),
            detail={"sessions": chosen},
        )

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        # SQL takes no token; the addresses are the condition.
        client = context.client(PostgresClient, plan.params["connection"])
        rows = client.change(
            f"WITH hit AS (SELECT a.pid {_ADDRESSED} WHERE {_NEVER} AND {_MAY_SIGNAL}) "  # noqa: S608
            f"SELECT pid, {self.function}(pid) AS sent FROM hit",
            _addresses(plan),
            undone_by_error=False,
        )
        signalled = sorted(row["pid"] for row in rows if row["sent"])
        passed = sorted({one["pid"] for one in plan.detail["sessions"]} - set(signalled))
        told = ("pid", "user", "application", "state", "seconds", "query")
        ended = [one for one in plan.detail["sessions"] if one["pid"] in signalled]
        return {
            "signalled": signalled,
            "left_alone": passed,
            # whoever asks the next morning which query it was finds it by user, application and shape
            "sessions": [{field: one.get(field) for field in told} for one in ended],
        }

    def settled(self, context: Context, plan: Plan) -> Settled:
        client = context.client(PostgresClient, plan.params["connection"])
        rows = client.read(f"SELECT a.pid {_ADDRESSED}", _addresses(plan))
        return Settled(done=not rows, detail={"still_there": sorted(row["pid"] for row in rows)})

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        there = [_key(one) for one in observed.fields["found"]]
        left = sum(_key(one) in there for one in plan.detail["sessions"])
        if left == 0:
            return Landed.APPLIED  # or they ended by themselves: what was wanted is so either way
        # Some gone: the signals were sent and not all obeyed, or some ended by themselves.
        return Landed.NOT_APPLIED if left == len(plan.detail["sessions"]) else Landed.UNCLEAR

    def _eligible(self, session: Row | Session, params: Q) -> bool:
        return (
            session["state"] in self.states(params)
            and session["seconds"] * SECOND >= params.longer_than
            and not _any_match(session.get("user"), params.except_users)
            and not _any_match(session.get("application"), params.except_applications)
        )

    def _nothing(self, observed: Observed, params: Q, ended: int) -> str:
        seen = ", ".join(f"{count} {kind}" for kind, count in observed.fields.get("seen", {}).items())
        states = " or ".join(sorted(self.states(params)))
        further = f"besides the {ended} addressed before, " if ended else ""
        return f"{further}no session is {states} for longer than {span(params.longer_than)}; seen: {seen}"


class CancelQueries(_End[CancelParams]):
    """The gentle one: the query ends with an error, the session and its client stay."""

    name = "postgres.cancel_queries"
    summary = "Cancel the longest-running queries of a database (pg_cancel_backend)"
    params = CancelParams
    irreversible = "a cancelled query has lost its work; its client decides whether to run it again"
    function = "pg_cancel_backend"
    example = {
        "action": "postgres.cancel_queries",
        "with": {"connection": "orders", "longer_than": "5m", "max": 20},
    }

    def states(self, params: CancelParams) -> frozenset[str]:
        return frozenset({"active"})  # only a running query can be cancelled


class TerminateQueries(_End[TerminateParams]):
    """The firm one: the session ends, its transaction is rolled back, its connection is free again."""

    name = "postgres.terminate_queries"
    summary = "Terminate the sessions with the longest-running queries or idle transactions"
    params = TerminateParams
    irreversible = "a terminated session is gone and its transaction rolled back; its client connects again"
    function = "pg_terminate_backend"
    example = {
        "action": "postgres.terminate_queries",
        "with": {
            "connection": "orders",
            "longer_than": "10m",
            "max": 20,
            "states": ["active", "idle in transaction"],
            "except_users": ["reporting_*"],
        },
    }

    def states(self, params: TerminateParams) -> frozenset[str]:
        aborted = {"idle in transaction (aborted)"} if "idle in transaction" in params.states else set()
        return frozenset(params.states) | aborted


def _key(session: Session) -> tuple[Any, ...]:
    """What tells a session, and what it does, from every other."""
    return tuple(session.get(field) for field in ("pid", "started", "state", "since"))


def _addresses(plan: Plan) -> dict[str, list[Any]]:
    return {
        field: [one[field] for one in plan.detail["sessions"]]
        for field in ("pid", "started", "state", "since")
    }


def _longest_first(session: Row | Session) -> tuple[float, int]:
    return (-session["seconds"], session["pid"])


def _any_match(name: str | None, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name or "", pattern) for pattern in patterns)


def _session(row: Row) -> Session:
    kept = {field: row[field] for field in ("pid", "started", "state", "since", "user", "application")}
    return kept | {"seconds": round(row["seconds"], 3), "query": shape(row["query"] or "")}


def _counted(rows: list[Row]) -> dict[str, int]:
    """The database's sessions by what they are, for the reader of a refusal."""

    def kind(row: Row) -> str:
        if row["kind"] != "client backend":
            return row["kind"] or "of unknown kind"
        return "of superusers" if row["superuser"] else (row["state"] or "disabled")

    return dict(sorted(Counter(kind(row) for row in rows).items()))
