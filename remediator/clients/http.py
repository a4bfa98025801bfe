"""A service with an HTTP interface: whether it answers, and how. Only GET, only this host."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from remediator.errors import Permanent, Temporary

if TYPE_CHECKING:
    import httpx2

    from remediator.settings import HttpConnection, PrometheusConnection


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one GET.

    status: the HTTP status; None where the service definitely did not answer, and `why` says how.
    took: seconds until the headers were there, or until it was clear that they would not come.
    """

    status: int | None
    why: str
    took: float


class HttpClient:
    """Asks one service. Redirects are not followed: a redirect is an answer with its own status."""

    def __init__(self, name: str, settings: HttpConnection) -> None:
        self.name = name
        self._settings = settings
        self._client = session(settings)

    @classmethod
    def connect(cls, name: str, settings: HttpConnection) -> Self:
        """Make the client; the service is reached with the first request."""
        return cls(name, settings)

    def get(self, path: str, timeout: float | None = None) -> Answer:
        """GET the connection's address plus `path`; the body is not read.

        A refused or reset connection and a time-out after connecting are the service's own answer. What
        may as well be our own network or configuration (the name does not resolve, no route, nobody
        answers the first packet, a certificate that we do not trust) is none.

        Args:
            path: starts with `/`; it cannot change the host.
            timeout: seconds; the connection's own if None or longer than that.

        Raises:
            Temporary: it cannot be told whether the service answers.
            Permanent: the path leads to another host.
        """
        import httpx2

        url = self._address(path)
        limit = min(timeout or self._settings.timeout, self._settings.timeout)
        started = time.monotonic()
        try:
            with self._client.stream("GET", url, timeout=limit) as response:
                return Answer(response.status_code, f"status {response.status_code}", _since(started))
        except httpx2.ReadTimeout:
            return Answer(None, f"connected, but no answer within {limit:g}s", _since(started))
        except httpx2.TransportError as error:
            if why := _refusal(error):
                return Answer(None, why, _since(started))
            raise Temporary(f"http:{self.name}: {path}: {reason(error)}") from error

    def identity(self) -> str:
        """The address, after it was reached; any status will do."""
        answer = self.get("/")
        if answer.status is None:
            raise Temporary(f"http:{self.name}: {answer.why}")
        return address(self._settings.url)

    def close(self) -> None:
        self._client.close()

    def _address(self, path: str) -> httpx2.URL:
        import httpx2

        base = httpx2.URL(self._settings.url)
        try:
            url = httpx2.URL(self._settings.url.rstrip("/") + path)
        except httpx2.InvalidURL:
            raise Permanent(f"http:{self.name}: {path[:100]!r} is not a path") from None
        if not path.startswith("/") or (url.scheme, url.host, url.port) != (
            base.scheme,
            base.host,
            base.port,
        ):
            raise Permanent(f"http:{self.name}: path {path[:100]!r} must start with / and stay on the host")
        return url


def session(settings: HttpConnection | PrometheusConnection) -> httpx2.Client:
    """An HTTP client with the connection's credentials. It reads nothing from the environment."""
    import httpx2

    headers = {"User-Agent": "remediator"}
    if settings.bearer is not None:
        headers["Authorization"] = f"Bearer {settings.bearer.get_secret_value()}"
    auth = None
    if settings.basic is not None:
        auth = httpx2.BasicAuth(settings.basic.username, settings.basic.password.get_secret_value())
    return httpx2.Client(
        headers=headers, auth=auth, timeout=settings.timeout, follow_redirects=False, trust_env=False
    )


def address(url: str) -> str:
    """The address for people: without user, password and query."""
    import httpx2

    return str(httpx2.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def reason(error: httpx2.TransportError) -> str:
    """What went wrong on the way, in one line."""
    import httpx2

    if isinstance(error, httpx2.LocalProtocolError):  # its text repeats the header, credentials included
        return "the request cannot be written; look for line breaks in the connection's bearer or basic"
    return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__


def _refusal(error: httpx2.TransportError) -> str:
    """Why the service itself did not answer; "" where something between us and it may be at fault."""
    import httpx2

    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror | ssl.SSLError) for cause in causes):
        return ""
    if any(isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED for cause in causes):
        return "connection refused"
    if isinstance(error, httpx2.ReadError | httpx2.WriteError | httpx2.RemoteProtocolError):
        return "the connection broke off before an answer"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _since(started: float) -> float:
    return time.monotonic() - started
