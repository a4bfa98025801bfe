"""/approvals/{token}: the page that a signed link opens, on which a logged-in person decides.

Reading it changes nothing, however often and whoever asks: chat services open links to show a preview.
Only a form posted from the page itself by a person with the role decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from remediator.engine.authority import refuse
from remediator.engine.link import Links
from remediator.errors import Conflict, NotAllowed, NotFound, StoreUnavailable
from remediator.model import Approval, Decision, Instant
from remediator.settings import Role
from remediator.web.access import LOCAL, Caller, Daemon, only_from_here
from remediator.web.address import client
from remediator.web.approval_view import view
from remediator.web.attempts import Attempts
from remediator.web.credentials import CallerKeys
from remediator.web.pages import form, from_here, page
from remediator.web.problem import Problem
from remediator.web.served import Served
from remediator.web.session import Sessions

log = structlog.get_logger(__name__)
router = APIRouter(include_in_schema=False)

COMMENT = 1_000
_WORDS = {"approve": Decision.APPROVED, "reject": Decision.REJECTED}


@dataclass(frozen=True, slots=True)
class Desk:
    """What the page works with; one for each application."""

    links: Links
    sessions: Sessions
    callers: CallerKeys
    attempts: Attempts

    @classmethod
    def of(cls, daemon: Served, callers: CallerKeys) -> Desk:
        settings = daemon.settings
        keys = [key.get_secret_value().encode() for key in settings.approvals.link_key]
        public = settings.server.public_url
        secure = public is not None and public.startswith("https:")
        sessions = Sessions(keys, callers, settings.approvals.session, secure=secure)
        return cls(Links.of(settings), sessions, callers, Attempts())


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to the page: the question, who asks, and when."""

    desk: Desk
    token: str
    asked: Approval
    caller: Caller | None
    cookie: str
    now: Instant

    @property
    def decided(self) -> bool:
        return self.asked.decision in (Decision.APPROVED, Decision.REJECTED)

    @property
    def status(self) -> int:
        """409 it was used, 410 its time is over, 200 it can be decided."""
        if self.decided:
            return 409
        return 410 if self.asked.decision is not None or self.now >= self.asked.expires_at else 200


@router.api_route("/approvals/{token}", methods=["GET", "HEAD"])
async def show(request: Request, daemon: Daemon, token: str) -> Response:
    """The question. Changes nothing."""
    try:
        visit = await _visit(request, daemon, token)
        if isinstance(visit, Response):
            return visit
        if visit.caller is None:
            return _door(request, visit)
        return await _question(daemon, visit, visit.caller)
    except StoreUnavailable as error:
        return _away(error)


@router.post("/approvals/{token}")
async def decide(request: Request, daemon: Daemon, token: str) -> Response:
    """Log in or out, approve or reject, by a form of this very page."""
    try:
        if not from_here(request, daemon.settings.server.public_url):
            why = "This form was not sent from this page. Nothing was changed; open the link again."
            return page("message.html", 403, title="Not from here", text=why)
        visit = await _visit(request, daemon, token)
        if isinstance(visit, Response):
            return visit
        fields = await form(request)
        what = fields.get("what", "")
        if what == "login":
            return _log_in(request, visit, fields.get("token", ""))
        if what == "logout":
            return _back(token, visit.desk.sessions.header(""))
        if visit.caller is None:
            return _door(request, visit, 401, "Log in first: nobody was logged in, or not any more.")
        if what not in _WORDS or not visit.desk.sessions.same_form(
            fields.get("form", ""), visit.cookie, token
        ):
            why = "This form is not complete or too old. Nothing was changed."
            return await _question(daemon, visit, visit.caller, 403, why)
        return await _decide(daemon, visit, visit.caller, what, fields.get("comment", "").strip())
    except StoreUnavailable as error:
        return _away(error)


async def _visit(request: Request, daemon: Served, token: str) -> Visit | Response:
    """The question behind a link, or the page that says why there is none."""
    desk = cast(Desk, request.app.state.desk)
    if not desk.links.readable:
        why = (
            "This daemon sends no links to approvals: settings have no approvals.link_key. "
            "Decide on the command line: remediator runs list --open, then remediator runs approve."
        )
        return page("message.html", 404, title="Links are not set up", text=why)
    read = desk.links.read(token)
    if read is None:
        log.warning("approval.forged_link", address=_address(request))
        why = "Nobody here has made this link. If you copied it, copy it whole; else ask who sent it."
        return page("message.html", 403, title="Not a link of ours", text=why)
    now = await daemon.store.now()
    number, expires_at = read
    try:
        asked = await daemon.store.approval(number)
    except NotFound:
        asked = None
    if asked is None or expires_at not in (asked.expires_at, asked.link_until):
        why = "What it was about is no longer kept."
        return page("message.html", 410, title="This link is over", text=why)
    cookie = request.cookies.get(desk.sessions.cookie, "")
    if desk.callers.open:
        try:
            only_from_here(request)
        except Problem as problem:
            return page("message.html", problem.status, title="Not from here", text=problem.detail)
        return Visit(desk, token, asked, Caller(LOCAL, Role.ADMIN), cookie, now)
    return Visit(desk, token, asked, desk.sessions.read(cookie, now), cookie, now)


async def _question(
    daemon: Served, visit: Visit, caller: Caller, status: int | None = None, wrong: str = ""
) -> Response:
    """The whole question, for a person who is logged in."""
    store, asked = daemon.store, visit.asked
    run = await store.run(asked.run)
    episodes = await store.episodes(asked.run)
    barred = _barred(daemon, asked, caller, Decision.APPROVED)
    others = [
        f"{name} ({role})"
        for name, role in visit.desk.callers.at_least(Role(asked.role))
        if not (daemon.settings.approvals.four_eyes and name == asked.started_by)
    ]
    return page(
        "approval.html",
        visit.status if status is None else status,
        **view(asked, run, episodes, visit.now),
        caller=caller,
        alone=visit.desk.callers.open,
        barred=barred,
        # Whoever has started a run may not approve it, but take it back.
        may_reject=not _barred(daemon, asked, caller, Decision.REJECTED),
        others=others,
        state=visit.status,
        wrong=wrong,
        form=visit.desk.sessions.form(visit.cookie, visit.token),
        comment_limit=COMMENT,
    )


def _barred(daemon: Served, asked: Approval, caller: Caller, decision: Decision) -> str:
    """Why a person may not decide so; "" if nothing speaks against it."""
    try:
        refuse(daemon.settings.approvals, asked, caller.name, caller.role, decision)
    except NotAllowed as error:
        return str(error)
    return ""


async def _decide(daemon: Served, visit: Visit, caller: Caller, what: str, comment: str) -> Response:
    asked, word = visit.asked, _WORDS[what]
    if not 0 < len(comment) <= COMMENT or "\x00" in comment:
        why = f"Write why, in at most {COMMENT} characters: it stays in the audit log."
        return await _question(daemon, visit, caller, 422, why)
    try:
        await daemon.decide(asked.run, word, comment, caller.name, caller.role, asked.id)
    except NotAllowed as error:
        return await _question(daemon, visit, caller, 403, str(error))
    except Conflict as error:
        again = await _again(daemon, visit)
        return await _question(daemon, again, caller, 410 if again.status == 410 else 409, str(error))
    return await _question(daemon, await _again(daemon, visit), caller, 200)


async def _again(daemon: Served, visit: Visit) -> Visit:
    """The question as it stands now."""
    asked = await daemon.store.approval(visit.asked.id)
    now = await daemon.store.now()
    return Visit(visit.desk, visit.token, asked, visit.caller, visit.cookie, now)


def _door(request: Request, visit: Visit, status: int | None = None, wrong: str = "") -> Response:
    """What anybody with the link may see: that there is a question, and how to log in.

    A browser keeps the cookie to itself when a link is followed from another site; it sends it when the
    page asks for itself once more.
    """
    if status is None and visit.status != 200:
        status = visit.status
    once = "again" not in request.query_params and not wrong
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site" and once
    return page(
        "login.html",
        200 if status is None else status,
        number=visit.asked.id,
        state=visit.status,
        again=elsewhere,
        wrong=wrong,
    )


def _log_in(request: Request, visit: Visit, token: str) -> Response:
    desk, address = visit.desk, _address(request)
    moment = asyncio.get_running_loop().time()
    wait = desk.attempts.wait(address, moment)
    if wait:
        why = f"Too many attempts from your address; try again in {wait} seconds."
        response = _door(request, visit, 429, why)
        response.headers["Retry-After"] = str(wait)
        return response
    cookie = desk.sessions.begin(token, visit.now)
    if cookie is None:
        desk.attempts.failed(address, moment)
        log.warning("login.failed", address=address)
        return _door(request, visit, 401, "Nobody here has this token.")
    return _back(visit.token, desk.sessions.header(cookie))


def _back(token: str, cookie: str) -> Response:
    """To the page again, by GET. Relative, for a proxy may have put a path before it."""
    return Response(None, 303, {"Location": token, "Set-Cookie": cookie, "Cache-Control": "no-store"})


def _address(request: Request) -> str:
    daemon = cast(Served, request.app.state.daemon)
    peer = request.client.host if request.client is not None else "unknown"
    return client(peer, request.headers.getlist("x-forwarded-for"), daemon.settings.server.trusted_proxies)


def _away(error: StoreUnavailable) -> Response:
    log.warning("store.unavailable", error=str(error))
    why = "The daemon cannot reach its store, so it cannot say what is asked. Nothing was decided; try again."
    return page("message.html", 503, {"Retry-After": "5"}, title="Could not tell", text=why)
