"""The HTTP interface as one ASGI application."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from remediator import __version__
from remediator.errors import ConfigurationError, Conflict, NotAllowed, NotFound, StoreUnavailable
from remediator.web import (
    alerts,
    approval_page,
    approvals,
    audit,
    controls,
    effects,
    incidents,
    live,
    openapi,
    operations,
    pages,
    policies,
    runs,
)
from remediator.web.approval_page import Desk
from remediator.web.body import Gone, TooLarge, content_length, read
from remediator.web.credentials import CallerKeys
from remediator.web.parameters import only_known, worded
from remediator.web.problem import Problem
from remediator.web.served import Served
from remediator.web.webhooks import PREFIX, RETRY_AFTER, Webhooks

log = structlog.get_logger(__name__)


BODY_LIMIT = 1 << 20
"""Bytes of a request to the API; webhooks have their own limit."""


class App:
    """Webhooks by themselves, everything else by FastAPI (`api`)."""

    def __init__(self, webhooks: Webhooks, api: FastAPI) -> None:
        self.webhooks = webhooks
        self.api = api

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith(PREFIX):
            await self.webhooks(scope, receive, send)
            return
        # FastAPI would read a body of any size, and before it asks who is calling.
        try:
            if (content_length(scope["headers"]) or 0) > BODY_LIMIT:
                raise TooLarge
            body = await read(receive, BODY_LIMIT)
        except Gone:
            return
        except TooLarge:
            problem = Problem(413, f"the body is larger than {BODY_LIMIT} bytes", {"Connection": "close"})
            await problem.response()(scope, receive, send)
            return
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return pending.pop() if pending else await receive()

        await self.api(scope, replay, send)


def create_app(daemon: Served) -> App:
    """The application of a daemon; `server.server` runs it."""
    api = FastAPI(
        title="remediator",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=openapi.problems(),
    )
    api.state.daemon = daemon
    api.state.keys = CallerKeys(daemon.settings.access.tokens)
    v1 = APIRouter(prefix="/api/v1", dependencies=[Depends(only_known)])
    for module in (alerts, runs, approvals, incidents, audit, policies, controls, effects, live):
        v1.include_router(module.router)
    api.include_router(v1)
    api.include_router(operations.router)
    api.state.desk = Desk.of(daemon, api.state.keys)
    for shown in (pages, approval_page):
        api.include_router(shown.router)
    _handle_errors(api)
    api.openapi = lambda: openapi.document(api)  # type: ignore[method-assign]
    return App(Webhooks(daemon), api)


def _handle_errors(api: FastAPI) -> None:
    """Every error becomes a problem document."""

    @api.exception_handler(Problem)
    async def said(_: Request, error: Problem) -> Response:
        return error.response()

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        # Without the input: it may hold what should not come back.
        errors = [{"field": ".".join(map(str, one["loc"])), "message": worded(one)} for one in error.errors()]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors[:5])
        return Problem(422, detail, errors=errors[:50]).response()

    @api.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"nothing is at {request.url.path[:200]}; see /api/v1/openapi.json"
        elif error.status_code == 405:
            detail = f"{request.method} is not allowed here"
        return Problem(error.status_code, detail, error.headers).response()

    @api.exception_handler(NotFound)
    async def not_found(_: Request, error: NotFound) -> Response:
        return Problem(404, str(error)).response()

    @api.exception_handler(NotAllowed)
    async def not_allowed(_: Request, error: NotAllowed) -> Response:
        return Problem(403, str(error)).response()

    @api.exception_handler(Conflict)
    async def conflict(_: Request, error: Conflict) -> Response:
        return Problem(409, str(error)).response()

    @api.exception_handler(ConfigurationError)
    async def unusable(_: Request, error: ConfigurationError) -> Response:
        return Problem(409, str(error)).response()

    @api.exception_handler(StoreUnavailable)
    async def unavailable(_: Request, error: StoreUnavailable) -> Response:
        return Problem(503, f"the store is out of reach: {error}", {"Retry-After": RETRY_AFTER}).response()

    @api.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.error("request failed", path=request.url.path, exc_info=error)
        return Problem(500, "the daemon failed to answer; its log says why").response()
