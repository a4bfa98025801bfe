"""One Google Cloud project: channels, credentials and errors. What the services offer stands beside it,
one module each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from remediator.clients.cloud_monitoring import CloudMonitoring
from remediator.clients.cloud_run import CloudRun
from remediator.errors import ActionError, Ambiguous, Permanent, Temporary

if TYPE_CHECKING:
    import grpc

    from remediator.settings import GcpConnection

HOSTS = {"run": "run.googleapis.com:443", "monitoring": "monitoring.googleapis.com:443"}
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

# google.rpc.Code, https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
REFUSED = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
)
PASSING = frozenset({"RESOURCE_EXHAUSTED", "ABORTED"})
"""Provably not applied; may be tried again."""

# Nothing is repeated behind our back, no answer is too long to be read, and a server that comes back
# is found again within seconds instead of two minutes.
OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5000),
)


class GcpClient:
    """One project. `run` is Cloud Run, `monitoring` is Cloud Monitoring.

    Credentials are the application default ones. The libraries' own retries are off.
    """

    def __init__(self, name: str, settings: GcpConnection) -> None:
        self.name = name
        self.project = settings.project
        self.timeout = settings.timeout
        self.run = CloudRun(self)
        self.monitoring = CloudMonitoring(self)
        self._endpoints = dict(settings.endpoints)
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, name: str, settings: GcpConnection) -> Self:
        """Make the client; Google is reached with the first call.

        Raises:
            ImportError: the Google Cloud libraries are not installed.
        """
        import google.cloud.monitoring_v3
        import google.cloud.run_v2  # noqa: F401

        return cls(name, settings)

    def identity(self) -> str:
        """The project, once the credentials (in tests: the endpoints) have proved to work.

        Raises:
            ActionError: they do not.
        """
        if self._endpoints:
            for service, endpoint in self._endpoints.items():
                self._listens(service, endpoint)
            return self.project
        with self.calling("credentials"):
            import google.auth
            from google.auth.transport.requests import Request

            credentials, _ = google.auth.default(scopes=SCOPES)
            credentials.refresh(Request())  # type: ignore[no-untyped-call, unused-ignore]
        return self.project

    def close(self) -> None:
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()

    # ------------------------------------------------------------ for the services beside this module

    def channel(self, service: str) -> grpc.Channel:
        """The channel to a service, made on first use.

        Args:
            service: a key of `HOSTS`.

        Raises:
            ActionError: there are no credentials.
        """
        with self._lock:
            if service not in self._channels:
                with self.calling(service):
                    self._channels[service] = self._open(service)
            return self._channels[service]

    @contextmanager
    def calling(
        self, what: str, *, changes: bool = False, aborted: ActionError | None = None
    ) -> Iterator[None]:
        """Turn what the library raises into our errors.

        Args:
            what: the call, for the message: `run UpdateService`.
            changes: whether it changes something, so that a lost answer is Ambiguous. What is read from the
                same service right before shows that it can be reached: UNAVAILABLE alone cannot tell.
            aborted: what ABORTED means to this call; Temporary if left out.
        """
        from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

        what = f"gcp:{self.name}: {what}"
        unclear = Ambiguous if changes else Temporary
        try:
            yield
        except GoogleAPICallError as error:
            code = error.grpc_status_code.name if error.grpc_status_code else str(error.code)
            if code == "ABORTED" and aborted is not None:
                raise aborted from error
            kind = Permanent if code in REFUSED else Temporary if code in PASSING else unclear
            raise kind(f"{what}: {code}: {str(error.message)[:300]}") from error
        except DefaultCredentialsError as error:
            raise Permanent(f"{what}: no credentials: {error}") from error
        except GoogleAuthError as error:
            raise Temporary(f"{what}: no credentials for now: {type(error).__name__}") from error
        except GoogleAPIError as error:
            raise unclear(f"{what}: the answer is lost: {type(error).__name__}") from error

    def _listens(self, service: str, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        try:
            socket.create_connection((host, int(port)), self.timeout).close()
        except OSError as error:
            raise Temporary(f"gcp:{self.name}: {service}: no connection to {endpoint}: {error}") from error

    def _open(self, service: str) -> Any:
        import grpc

        endpoint = self._endpoints.get(service)
        if endpoint is not None:
            return grpc.insecure_channel(endpoint, options=OPTIONS)
        import google.auth
        from google.api_core import grpc_helpers

        credentials, _ = google.auth.default(scopes=SCOPES)
        return grpc_helpers.create_channel(HOSTS[service], credentials=credentials, options=OPTIONS)
