"""Who may do what in the API: the caller's name and role, from its bearer token."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from remediator.settings import Role
from remediator.web.credentials import CallerKeys
from remediator.web.problem import Problem
from remediator.web.served import Served

LOCAL = "local"
"""The actor of requests to a daemon that listens on loopback only and has no tokens."""

_scheme = HTTPBearer(auto_error=False, description="A token of settings, access.tokens.")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; `name` is the actor in the audit log."""

    name: str
    role: Role


def served(request: Request) -> Served:
    """The daemon behind this request."""
    return cast(Served, request.app.state.daemon)


Daemon = Annotated[Served, Depends(served)]


def at_least(role: Role) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, if its role is this one or a higher one."""

    async def caller(request: Request, _: Annotated[object, Depends(_scheme)]) -> Caller:
        keys: CallerKeys = request.app.state.keys
        if keys.open:
            only_from_here(request)
            return Caller(LOCAL, Role.ADMIN)
        found = keys.caller(request.headers.get("authorization", "").encode("latin-1"))
        if found is None:
            raise Problem(
                401,
                "missing or unknown token; send `Authorization: Bearer <a token of access.tokens>`",
                {"WWW-Authenticate": 'Bearer realm="remediator"'},
            )
        name, has = found
        if has.rank < role.rank:
            raise Problem(403, f"{name} is {has}; this needs the role {role} or a higher one")
        return Caller(name, has)

    return caller


def only_from_here(request: Request) -> None:
    """Without tokens, at least keep web pages out: they can make a browser call loopback addresses,
    by a name that points there (DNS rebinding) or from another origin."""
    host = request.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if name != "localhost":
        try:
            loopback = ipaddress.ip_address(name).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise Problem(
                403,
                "without access.tokens the API is for this machine only, called as 127.0.0.1 or localhost; "
                "set access.tokens to use it under another name",
            )
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Problem(403, "requests of other web pages are not allowed")


Viewer = Annotated[Caller, Depends(at_least(Role.VIEWER))]
Auditor = Annotated[Caller, Depends(at_least(Role.AUDITOR))]
Operator = Annotated[Caller, Depends(at_least(Role.OPERATOR))]
