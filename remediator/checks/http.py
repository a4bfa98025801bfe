"""Whether a service answers on HTTP."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from remediator.clients.http import HttpClient
from remediator.contracts import Check, ConnectionOf, Context, Params, Permission, Selector
from remediator.model import SECOND, Millis, Reading, Sample
from remediator.quantity import Duration

# Segments that begin with a letter, digit, _ ~ or -: no `..`, no `//host`, no escapes, no query.
_SEGMENT = "[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
PATH = f"^/({_SEGMENT}/)*({_SEGMENT})?$"


class HealthParams(Params):
    connection: Annotated[str, ConnectionOf("http")]
    path: Annotated[str, Selector(PATH), Field(pattern=PATH, max_length=300)] = "/"
    """Added to the connection's address."""
    status: Annotated[str, Field(pattern="^[1-5][0-9]{2}(-[1-5][0-9]{2})?$")] = "200-299"
    """The statuses that are healthy: one, or first-last."""
    timeout: Annotated[
        Millis,
        Duration(Millis(100), Millis(10 * SECOND)),
        Field(json_schema_extra={"default": "3s"}),
    ] = Millis(3 * SECOND)
    """How long connecting, and waiting for the answer, may take."""


class Health(Check[HealthParams]):
    """0 is what the service itself did: another status, a refused or reset connection, no answer in time.

    No data is what may be our side: the name does not resolve, no route, a certificate we do not trust.
    """

    name = "http.health"
    summary = "1 if a GET is answered with a healthy status, 0 if the service answers otherwise or not"
    params = HealthParams
    unit = ""
    permissions = (Permission("http", "GET <path>", "ask the service whether it is healthy"),)
    example = {
        "check": "http.health",
        "with": {"connection": "shop", "path": "/healthz", "timeout": "2s"},
        "is": "== 1",
    }

    def read(self, context: Context, params: HealthParams) -> Reading:
        client = context.client(HttpClient, params.connection)
        answer = client.get(params.path, timeout=params.timeout / SECOND)
        first, _, last = params.status.partition("-")
        healthy = answer.status is not None and int(first) <= answer.status <= int(last or first)
        return Reading(samples=(Sample(at=context.now, value=float(healthy)),), note=answer.why)
