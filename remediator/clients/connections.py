"""Connections by name: each one's client is made on first use, once, and shared by all threads."""

from __future__ import annotations

import difflib
import importlib
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar, cast

from remediator.errors import Permanent, Refused, Temporary
from remediator.model import Episode, Instant, Reason

C = TypeVar("C")


class ConnectionSettings(Protocol):
    """One entry of `connections:` in settings."""

    @property
    def kind(self) -> str: ...


class Client(Protocol):
    """What the client of every kind offers. Its own reads and changes come on top."""

    @classmethod
    def connect(cls, name: str, settings: Any) -> Self:
        """Make the client; it may reach the other side only when it is used.

        Args:
            name: the connection's name, for messages and for what people read of a target.
            settings: this kind's connection settings.

        Raises:
            ImportError: the SDK is not installed.
            ActionError: the settings cannot be used.
        """

    def identity(self) -> str:
        """Reach the other side and return who it says it is (used by `doctor`).

        Raises:
            ActionError: it could not be reached, or refused us.
        """

    def close(self) -> None:
        """Let go of sockets and threads."""


CLOSING = 1.0
"""Seconds for which all that are being made may keep the daemon from stopping."""
CLASSES: Mapping[str, str] = {
    "aws": "remediator.clients.aws:AwsClient",
    "gcp": "remediator.clients.gcp:GcpClient",
    "http": "remediator.clients.http:HttpClient",
    "kubernetes": "remediator.clients.kubernetes:KubernetesClient",
    "postgres": "remediator.clients.postgres:PostgresClient",
    "prometheus": "remediator.clients.prometheus:PrometheusClient",
}
"""Kind of connection → the class of its client, imported on first use. Kinds that need an extra
have an extra of the same name."""


class Connections:
    """The connections of settings, and the clients made from them.

    Args:
        settings: connection name → its settings.
        classes: kind → `module:class`.
    """

    def __init__(
        self, settings: Mapping[str, ConnectionSettings], classes: Mapping[str, str] = CLASSES
    ) -> None:
        self._settings = dict(settings)
        self._classes = dict(classes)
        self._locks = {name: threading.Lock() for name in self._settings}
        self._clients: dict[str, Client] = {}
        self._closed = False

    def names(self) -> tuple[str, ...]:
        return tuple(self._settings)

    def client(self, kind: type[C], name: str) -> C:
        """The client of connection `name`, which must be of class `kind`.

        Raises:
            Refused: (UNKNOWN_CONNECTION) no such connection, or it is of another kind.
            Permanent: its extra is not installed, or its settings cannot be used.
            Temporary: the daemon is shutting down.
        """
        client = self.open(name)
        if isinstance(client, kind):
            return client
        raise Refused(
            Reason.UNKNOWN_CONNECTION,
            f"connection {name!r} is of kind {self._settings[name].kind}, not {self._kind_of(kind)}",
            observed=self._settings[name].kind,
            allowed=self._kind_of(kind),
        )

    def open(self, name: str) -> Client:
        """The client of connection `name`, of whatever kind it is. Raises as `client` does."""
        if name not in self._settings:
            raise Refused(
                Reason.UNKNOWN_CONNECTION,
                f"no connection is named {name!r}; {self._suggestion(name)}",
                observed=name,
                allowed=", ".join(sorted(self._settings)) or "none",
            )
        with self._locks[name]:  # one slow connection holds up nobody who uses another
            if self._closed:
                raise Temporary(f"connection {name!r} is closed: the daemon is shutting down")
            if name not in self._clients:
                self._clients[name] = self._make(name)
            return self._clients[name]

    def close(self) -> None:
        """Close every client; none is made afterwards. One that is being made just now, at a server that
        does not answer, is waited for no longer than `CLOSING`."""
        self._closed = True
        until = time.monotonic() + CLOSING
        for name, lock in self._locks.items():
            if not lock.acquire(timeout=max(0.0, until - time.monotonic())):
                continue
            try:
                client = self._clients.pop(name, None)
            finally:
                lock.release()
            if client is not None:
                client.close()

    def _make(self, name: str) -> Client:
        settings = self._settings[name]
        try:
            return self._class(settings.kind).connect(name, settings)
        except ImportError as error:
            raise Permanent(
                f"connection {name!r} is of kind {settings.kind}, whose library cannot be imported "
                f"({error}); install it with: pip install 'remediator[{settings.kind}]'"
            ) from error

    def _class(self, kind: str) -> type[Client]:
        module, _, name = self._classes[kind].partition(":")
        return cast(type[Client], getattr(importlib.import_module(module), name))

    def _kind_of(self, wanted: type[Any]) -> str:
        path = f"{wanted.__module__}:{wanted.__qualname__}"
        return next((kind for kind, at in self._classes.items() if at == path), wanted.__name__)

    def _suggestion(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._settings, n=3)
        if close:
            return f"did you mean {' or '.join(close)}?"
        return f"settings have {', '.join(sorted(self._settings)) or 'none'}"


class CallContext:
    """The `contracts.Context` of one call of an action or a check.

    Args:
        now: the store's time of this call.
        episode: the run's episode; None when a person tries an action out by hand.
    """

    def __init__(self, connections: Connections, now: Instant, episode: Episode | None = None) -> None:
        self._connections = connections
        self._now = now
        self._episode = episode

    @property
    def now(self) -> Instant:
        return self._now

    @property
    def episode(self) -> Episode | None:
        return self._episode

    def client(self, kind: type[C], connection: str) -> C:
        """The connection's client. Raises as `Connections.client` does."""
        return self._connections.client(kind, connection)
