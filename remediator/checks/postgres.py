"""How full a PostgreSQL server is."""

from __future__ import annotations

from typing import Annotated, Literal

from remediator.clients.postgres import PostgresClient
from remediator.contracts import Check, ConnectionOf, Context, Params, Permission
from remediator.errors import Permanent
from remediator.model import Reading, Sample

# https://www.postgresql.org/docs/current/runtime-config-connection.html: only client backends take
# slots of max_connections (walsenders and workers have their own); the last ones are kept for superusers
# and, from 16 on, for pg_use_reserved_connections.
_COUNT = """
SELECT count(*) FILTER (WHERE taken)::int AS used,
       count(*) FILTER (WHERE taken AND datname = current_database())::int AS here,
       coalesce(bool_or(usesysid IS NOT NULL AND backend_start IS NULL), false) AS hidden,
       (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)) AS slots,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS limit_here,
       quote_ident(current_user) AS me
FROM (SELECT *, backend_type = 'client backend' AND pid <> pg_backend_pid() AS taken FROM pg_stat_activity) a
"""


class ConnectionsParams(Params):
    connection: Annotated[str, ConnectionOf("postgres")]
    database: Literal["all", "current"] = "all"
    """Sessions of the whole server, or those of the connection's database alone."""


class Connections(Check[ConnectionsParams]):
    """100 % is where the next ordinary connection is refused, so reserved slots are not in the whole.

    The part is every client session, superusers' included, for each takes a slot; only the session that asks
    is left out. With `database: current` the part is that database's sessions and the whole its own
    CONNECTION LIMIT, if that is smaller. It can go beyond 100 % by the reserved slots.
    """

    name = "postgres.connections"
    summary = "Connections in use, in percent of those that ordinary roles can have"
    params = ConnectionsParams
    unit = "%"
    permissions = (
        Permission("postgres", "GRANT pg_read_all_stats TO remediator", "tell sessions from workers"),
    )
    example = {"check": "postgres.connections", "with": {"connection": "orders"}, "is": "> 80%"}

    def read(self, context: Context, params: ConnectionsParams) -> Reading:
        (row,) = context.client(PostgresClient, params.connection).read(_COUNT)
        if row["hidden"]:
            raise Permanent(
                f"postgres:{params.connection}: role {row['me']} does not see what other sessions are; "
                f"run: GRANT pg_read_all_stats TO {row['me']};"
            )
        used, slots = row["used"], row["slots"]
        if params.database == "current":
            used = row["here"]
            slots = min(slots, row["limit_here"]) if row["limit_here"] >= 0 else slots
        if slots <= 0:
            return Reading(samples=(), note=f"ordinary roles have {slots} connections here")
        return Reading(
            samples=(Sample(at=context.now, value=100 * used / slots),), note=f"{used} of {slots} connections"
        )
