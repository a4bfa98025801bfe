"""One Kubernetes cluster: any object of its API, as plain mappings."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

from remediator.errors import ActionError, Ambiguous, Permanent, Temporary

if TYPE_CHECKING:
    from remediator.settings import KubernetesConnection

Object = dict[str, Any]
Change = Literal["POST", "PUT", "PATCH", "DELETE"]


class KubernetesClient:
    """Reads and changes of one cluster, over the official client.

    The caller gives the path in segments, as the API reference has it, so that a namespace or a name can
    never become more than one segment. Nothing is sent twice: urllib3's retries are off.
    """

    def __init__(self, name: str, settings: KubernetesConnection, api: Any) -> None:
        self.name = name
        self._timeout = settings.timeout
        self._api = api
        self._lock = threading.Lock()
        self._identity = ""

    @classmethod
    def connect(cls, name: str, settings: KubernetesConnection) -> Self:
        """Make the client; the cluster is reached with the first call.

        Raises:
            ImportError: the kubernetes library is not installed.
            Permanent: the kubeconfig, its context or the service account cannot be read.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if settings.in_cluster:
                config.load_incluster_config(  # type: ignore[no-untyped-call, unused-ignore]
                    client_configuration=configuration
                )
            else:
                config.load_kube_config(  # type: ignore[no-untyped-call, unused-ignore]
                    config_file=str(settings.kubeconfig) if settings.kubeconfig else None,
                    context=settings.context,
                    client_configuration=configuration,
                    persist_config=False,  # never write into a person's kubeconfig
                )
        except (config.ConfigException, OSError) as error:
            raise Permanent(f"connection {name!r}: {error}") from error
        configuration.retries = False
        api = client.ApiClient(configuration)
        api.user_agent = "remediator"
        return cls(name, settings, api)

    def identity(self) -> str:
        """The cluster's own identity: the UID of its namespace kube-system, which never changes.

        Raises:
            ActionError: it could not be read.
        """
        with self._lock:
            if not self._identity:
                found = self.read("api", "v1", "namespaces", "kube-system")
                self._identity = str(found["metadata"]["uid"])
            return self._identity

    def read(self, *path: str, query: Mapping[str, str] | None = None) -> Object:
        """GET an object or a list.

        Args:
            path: the segments: "apis", "apps", "v1", "namespaces", namespace, "deployments", name.

        Raises:
            Temporary: out of reach, overloaded, too slow.
            Permanent: forbidden, no such object.
        """
        return self._call("GET", path, None, query, "application/json", Temporary)

    def change(self, method: Change, *path: str, body: Any, content_type: str = "application/json") -> Object:
        """Send one change.

        Args:
            content_type: for PATCH, the kind of patch.

        Raises:
            Temporary: provably nothing was changed; also for a stale resourceVersion (409), which
                every write of the object's status causes too: look again and plan again.
            Permanent: forbidden, invalid, no such object.
            Ambiguous: it was sent, and the answer is lost or does not tell.
        """
        return self._call(method, path, body, None, content_type, Ambiguous)

    def close(self) -> None:
        self._api.close()

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        body: Any,
        query: Mapping[str, str] | None,
        content_type: str,
        unclear: type[ActionError],
    ) -> Object:
        import urllib3.exceptions as line
        from kubernetes.client import ApiException

        what = f"kubernetes:{self.name}: {method} {'/'.join(path)}"
        if any(segment in ("", ".", "..") for segment in path):
            raise Permanent(f"{what}: a segment of the path is empty or only dots")
        request = self._request(what, method, path, body, query, content_type)
        try:
            response = self._api.call_api(*request, _request_timeout=self._timeout)
            response.read()
        except (line.NewConnectionError, line.ConnectTimeoutError, line.ProxyError) as error:
            raise Temporary(f"{what}: no connection: {type(error).__name__}") from error
        except (line.HTTPError, ApiException, OSError) as error:  # too slow, reset, TLS
            raise unclear(f"{what}: the answer is lost: {type(error).__name__}") from error
        if not 200 <= response.status < 300:
            raise self._refused(what, response.status, response.data, unclear)
        try:
            answer: Object = json.loads(response.data)
        except ValueError as error:
            raise unclear(f"{what}: {response.status}, but the answer is not JSON") from error
        return answer

    def _request(
        self,
        what: str,
        method: str,
        path: tuple[str, ...],
        body: Any,
        query: Mapping[str, str] | None,
        content_type: str,
    ) -> tuple[Any, ...]:
        """What to send, credentials included; they may have to be fetched first."""
        from kubernetes.config import ConfigException

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            request: tuple[Any, ...] = self._api.param_serialize(
                method,
                "/" + "/".join(quote(segment, safe="") for segment in path),
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
        except (ConfigException, OSError) as error:  # nothing was sent yet
            raise Temporary(f"{what}: no credentials for now: {type(error).__name__}") from error
        return request

    def _refused(self, what: str, status: int, data: Any, unclear: type[ActionError]) -> ActionError:
        # Kubernetes API Conventions, "HTTP Status codes" and "Response Status Kind".
        try:
            told = json.loads(data)
        except ValueError:
            told = {}
        told = told if isinstance(told, dict) else {}
        reason = str(told.get("reason", ""))[:100]
        text = f"{what}: {status} {reason}: {str(told.get('message', ''))[:300]}".rstrip(": ")
        if status == 429 or (status == 409 and reason != "AlreadyExists"):
            return Temporary(text)
        if 400 <= status < 500:
            return Permanent(text)
        return unclear(text)
