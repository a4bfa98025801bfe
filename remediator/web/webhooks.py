"""POST /webhooks/{sender}: authenticate, read, parse, commit, answer. Nothing else.

A plain ASGI route, since it is the hot path. 2xx means that the alerts are committed. What cannot be
committed is answered 503, which senders retry; 4xx, which they do not, is only for what would be
wrong the next time too.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Future
from collections.abc import Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol

import structlog

from remediator import metrics
from remediator.contracts import Bad, Delivery, Parsed, Receipt, Receiver
from remediator.errors import PayloadError, StoreUnavailable
from remediator.model import SECOND, AuditEvent, Instant, Millis, Outcome, Reason
from remediator.settings import Sender
from remediator.web.body import Gone, TooLarge, read
from remediator.web.credentials import SenderKeys
from remediator.web.deadline import Deadline
from remediator.web.problem import CONTENT_TYPE, Problem
from remediator.web.served import Served

PREFIX = "/webhooks/"
RETRY_AFTER = "5"
"""Seconds; senders that heed it come back then, the others after their own back-off."""
KEPT = 65_536
"""Bytes that are kept of a body that could not be taken."""
MAX_BAD = 100
"""Bad alerts of one body that are kept one by one; the rest is counted."""

_JSON = (b"content-type", b"application/json")

log = structlog.get_logger(__name__)

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""(status, headers, body)"""


class Reply(Protocol):
    """How an answer gets back to whoever asked."""

    def __call__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None: ...

    def failed(self, error: Exception) -> None:
        """There is no answer but that the daemon failed."""


class _Route:
    """One sender: its receiver, its credentials, its counters."""

    def __init__(self, name: str, sender: Sender, receiver: Receiver) -> None:
        self.name = name
        self.kind = sender.kind
        self.receiver = receiver
        self.keys = SenderKeys(sender.auth)
        self.count = {result: metrics.ALERTS.labels(name, result) for result in metrics.RESULTS}
        self.truncated = metrics.TRUNCATED.labels(name)


class _Taking(NamedTuple):
    """A body that is being taken: what it says, when it came by the store's clock and by the loop's."""

    route: _Route
    parsed: Parsed
    now: Instant
    begun: float


class Webhooks:
    """The ASGI application of everything under /webhooks/."""

    def __init__(self, daemon: Served) -> None:
        self._daemon = daemon
        server = daemon.settings.server
        self._limit = server.body_limit
        self._store_within = server.store_timeout / SECOND
        self._deadline = Deadline(self._store_within)
        self._routes = {
            name: _Route(name, sender, daemon.receivers[sender.kind])
            for name, sender in daemon.settings.senders.items()
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            status, headers, body = await self._take(scope, receive)
        except Gone:
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Any, receive: Any) -> Answer:
        try:
            route = self._admit(scope)
            # How long the body may take is bounded by the server's protocol.
            body = await read(receive, self._limit)
        except TooLarge:
            return _problem(self._too_large())
        except Problem as problem:
            return _problem(problem)
        return await self._accept(route, body)

    def at_once(self, scope: Any, body: bytes, reply: Reply) -> Coroutine[Any, Any, None] | None:
        """Take a request that has arrived whole, without a task of its own: nearly all do, and it is half of
        what a small one costs. It does as `__call__` does.

        Args:
            reply: called once with the answer, now or later.

        Returns:
            What is to be run as a task where something must be waited for that has no promise; else None.
        """
        try:
            route = self._admit(scope)
            if len(body) > self._limit:
                raise self._too_large()
            try:
                now = self._daemon.store.told()
                if now is None:
                    return self._later(route, body, reply)
                taking = _Taking(route, route.receiver.parse(route.name, body, now), now, self._loop_time())
                taken = self._offer(taking, body)
            except PayloadError:
                return self._later(route, body, reply)
            except StoreUnavailable as error:
                raise self._unwritable(route, error) from None
        except Problem as problem:
            reply(*_problem(problem))
            return None
        if isinstance(taken, Receipt):
            reply(*self._taken(taking, taken))
        else:
            self._deadline.bound(taken)
            taken.add_done_callback(partial(self._promised, taking, reply))
        return None

    async def _later(self, route: _Route, body: bytes, reply: Reply) -> None:
        reply(*await self._accept(route, body))

    def _promised(self, taking: _Taking, reply: Reply, promise: Future[Receipt]) -> None:
        self._deadline.over(promise)
        route = taking.route
        try:
            answer = self._taken(taking, promise.result())
        except CancelledError:
            answer = _problem(self._late(route))
        except StoreUnavailable as error:
            answer = _problem(self._unwritable(route, error))
        except Exception as error:  # noqa: BLE001 - no task ends with it, and somebody waits for an answer
            reply.failed(error)
            return
        reply(*answer)

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    # ------------------------------------------------------------ the request

    def _admit(self, scope: Any) -> _Route:
        """Who is calling, before a byte of the body is read."""
        name = scope["path"].removeprefix(PREFIX)
        authorization: bytes | None = None
        encoding = origin = b""
        length: int | None = None
        for key, value in scope["headers"]:
            if key == b"authorization":
                authorization = value
            elif key == b"content-length":
                length = int(value) if value.isdigit() else None
            elif key == b"content-encoding":
                encoding = value
            elif key == b"origin":
                origin = value
        close = {"Connection": "close"}
        route = self._routes.get(name)
        if route is None:
            known = f"no sender is named {name[:64]!r}"
            raise Problem(404, f"{known}; senders are set in settings under `senders:`", close)
        if scope["method"] != "POST":
            raise Problem(405, f"{scope['method']} is not allowed; use POST", {"Allow": "POST", **close})
        if not route.keys.admit(authorization, scope["query_string"]):
            route.count["unauthenticated"].inc()
            log.warning("webhook refused", sender=name, why="missing or wrong credentials")
            raise Problem(
                401,
                f"missing or wrong credentials for sender {name}; see senders.{name}.auth in settings",
                {"WWW-Authenticate": route.keys.challenge, **close},
            )
        if route.keys.open and origin:
            # Nobody authenticates here, so at least no web page may forge an alert.
            raise Problem(403, "requests of web pages are not taken from a sender without auth", close)
        wait = self._daemon.flood.refuse(name)
        if wait:
            raise self._flooded(route, wait)
        if encoding not in (b"", b"identity"):
            raise Problem(
                415,
                "Content-Encoding is not supported; send the body as it is",
                {"Accept-Encoding": "identity", **close},
            )
        if length is not None and length > self._limit:
            raise self._too_large()
        return route

    def _too_large(self) -> Problem:
        detail = f"the body is larger than {self._limit} bytes (server.body_limit); send fewer alerts at once"
        return Problem(413, detail, {"Connection": "close"})

    # ------------------------------------------------------------ the alerts

    async def _accept(self, route: _Route, body: bytes) -> Answer:
        try:
            try:
                with self._deadline:
                    return await self._parsed(route, body)
            except TimeoutError:
                raise self._late(route) from None
            except StoreUnavailable as error:
                raise self._unwritable(route, error) from None
        except Problem as problem:
            return _problem(problem)

    async def _parsed(self, route: _Route, body: bytes) -> Answer:
        now = await self._daemon.store.now()
        begun = self._loop_time()
        try:
            parsed = route.receiver.parse(route.name, body, now)
        except PayloadError as error:
            await self._reject(route, 400, (Bad(field=error.field, message=str(error), body=body),), 1)
            errors = [{"field": error.field, "message": str(error)}]
            raise Problem(400, str(error), errors=errors) from None
        taking = _Taking(route, parsed, now, begun)
        taken = self._offer(taking, body)
        return self._taken(taking, taken if isinstance(taken, Receipt) else await taken)

    def _offer(self, taking: _Taking, body: bytes) -> Receipt | Future[Receipt]:
        route, parsed = taking.route, taking.parsed
        if not (parsed.alerts or parsed.bad or parsed.test):
            return Receipt()
        policies = self._daemon.policies
        delivery = Delivery(
            sender=route.name,
            kind=route.kind,
            body=body,
            parsed=parsed,
            revision=policies.hash,
            received_at=taking.now,
        )
        return self._daemon.store.offer(delivery, policies.matching(), self._daemon.claimant)

    def _taken(self, taking: _Taking, receipt: Receipt) -> Answer:
        parsed = taking.parsed
        self._daemon.take(receipt.claimed)
        self._count(taking.route, parsed, receipt)
        if receipt.due is not None:
            # The commit took its time too. Not by another look at the store's clock: nothing that may fail
            # stands between a commit and its answer.
            passed = self._loop_time() - taking.begun
            self._daemon.wake((receipt.due - taking.now) / SECOND - passed)
        body = (
            b'{"accepted":%d,"repeated":%d,"resolved":%d,"updated":%d,"rejected":%d,"truncated":%d,"test":%b}'
            % (
                receipt.accepted,
                receipt.repeated,
                receipt.resolved,
                receipt.updated,
                len(parsed.bad),
                parsed.truncated,
                b"true" if parsed.test else b"false",
            )
        )
        return 200, [_JSON, (b"content-length", b"%d" % len(body))], body

    def _count(self, route: _Route, parsed: Parsed, receipt: Receipt) -> None:
        count = route.count
        if receipt.accepted:
            count["accepted"].inc(receipt.accepted)
        if receipt.repeated:
            count["repeated"].inc(receipt.repeated)
        if receipt.resolved:
            count["resolved"].inc(receipt.resolved)
        if receipt.updated:
            count["updated"].inc(receipt.updated)
        if parsed.bad:
            count["rejected"].inc(len(parsed.bad))
            log.warning(
                "alerts rejected", sender=route.name, count=len(parsed.bad), why=parsed.bad[0].message
            )
        for policy in receipt.refused:
            metrics.ended(policy, Outcome.REFUSED, Reason.OPEN_RUNS)
        if parsed.truncated:
            route.truncated.inc(parsed.truncated)
            log.warning("alerts left out by the sender", sender=route.name, truncated=parsed.truncated)

    async def _reject(self, route: _Route, status: int, bad: tuple[Bad, ...], count: int) -> None:
        kept = tuple(
            Bad(field=one.field[:200], message=one.message[:1_000], body=one.body[:KEPT])
            for one in bad[:MAX_BAD]
        )
        event = AuditEvent(
            kind="alert.rejected",
            actor=f"sender:{route.name}",
            reason="unreadable",
            observed=f"{kept[0].field}: {kept[0].message}" if kept[0].field else kept[0].message,
            data={"status": status, "rejected": count},
        )
        await self._daemon.store.reject(route.name, status, kept, (event,))
        route.count["rejected"].inc(count)
        log.warning("alerts rejected", sender=route.name, count=count, why=event.observed)

    def _flooded(self, route: _Route, wait: Millis) -> Problem:
        """503, not 429: Alertmanager and SNS take every 4xx for final, and alerts would be lost."""
        route.count["flooded"].inc()
        limit = self._daemon.flood.limit(route.name)
        return Problem(
            503,
            f"sender {route.name} has posted more than {limit} (senders.{route.name}.limit); send it again",
            {"Retry-After": str(-(-wait // SECOND)), "Connection": "close"},
        )

    def _late(self, route: _Route) -> Problem:
        return self._unavailable(route, f"the store did not answer within {self._store_within:g} s")

    def _unwritable(self, route: _Route, error: StoreUnavailable) -> Problem:
        return self._unavailable(route, f"the store cannot be written: {error}")

    def _unavailable(self, route: _Route, detail: str) -> Problem:
        route.count["unavailable"].inc()
        log.error("webhook answered 503", sender=route.name, why=detail)
        return Problem(503, f"{detail}; send it again", {"Retry-After": RETRY_AFTER})


def _problem(problem: Problem) -> Answer:
    body = problem.body()
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers += [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    return problem.status, headers, body
