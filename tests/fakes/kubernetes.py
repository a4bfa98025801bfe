"""A Kubernetes API server as far as scaling needs one: Deployments, StatefulSets, their scale subresource,
HorizontalPodAutoscalers, namespaces. Objects have resource versions and generations that move as the real
ones do; it has no watch and no RBAC but what `deny` says."""

from __future__ import annotations

import copy
import json
import threading
import uuid
from pathlib import Path
from typing import Any

from tests.fakes.http import Answer, FakeHttp, Request

TOKEN = "fake-kubernetes-token"
_KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class FakeKubernetes(FakeHttp):
    """Calls are named `GET /apis/apps/v1/…`.

    Args:
        progress: seconds until the pods of a scaled object are there; 0: at once; None: `finish` says.
    """

    def __init__(self, progress: float | None = 0.0) -> None:
        super().__init__()
        self.uid = str(uuid.uuid4())
        """The cluster's: its namespace kube-system's."""
        self.progress = progress
        self._lock = threading.RLock()
        self._version = 1000
        self._objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._autoscalers: dict[str, list[dict[str, Any]]] = {}
        self._denied: set[tuple[str, str]] = set()

    # ------------------------------------------------------------ what a person with kubectl does

    def create(
        self,
        namespace: str,
        name: str,
        replicas: int,
        *,
        plural: str = "deployments",
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        """An object whose pods are all available."""
        with self._lock:
            self._objects[namespace, plural, name] = {
                "apiVersion": "apps/v1",
                "kind": _KINDS[plural],
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "uid": str(uuid.uuid4()),
                    "generation": 1,
                    "resourceVersion": self._next(),
                    "labels": labels or {},
                    "annotations": annotations or {},
                },
                "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "main"}]}}},
            }
        self.finish(namespace, name, plural)

    def autoscale(self, namespace: str, name: str, *, kind: str = "Deployment") -> None:
        """A HorizontalPodAutoscaler on it, named after it."""
        aim = {"apiVersion": "apps/v1", "kind": kind, "name": name}
        item = {"metadata": {"name": f"{name}-hpa"}, "spec": {"scaleTargetRef": aim, "maxReplicas": 5}}
        with self._lock:
            self._autoscalers.setdefault(namespace, []).append(item)

    def scale(self, namespace: str, name: str, replicas: int, plural: str = "deployments") -> None:
        with self._lock:
            self._scale(self._objects[namespace, plural, name], replicas)

    def touch(self, namespace: str, name: str, plural: str = "deployments") -> None:
        """A pod comes or goes: the object's version moves, its spec does not."""
        with self._lock:
            self._objects[namespace, plural, name]["metadata"]["resourceVersion"] = self._next()

    def replicas(self, namespace: str, name: str, plural: str = "deployments") -> int:
        with self._lock:
            return int(self._objects[namespace, plural, name]["spec"]["replicas"])

    def object(self, namespace: str, name: str, plural: str = "deployments") -> dict[str, Any]:
        with self._lock:
            return copy.deepcopy(self._objects[namespace, plural, name])

    def finish(self, namespace: str, name: str, plural: str = "deployments") -> None:
        """The controller has seen the spec, and as many pods are available."""
        with self._lock:
            found = self._objects[namespace, plural, name]
            wanted = found["spec"]["replicas"]
            found["status"] = {"observedGeneration": found["metadata"]["generation"]}
            if wanted:  # zeros are left out
                found["status"] |= {
                    "replicas": wanted,
                    "availableReplicas": wanted,
                    "updatedReplicas": wanted,
                }
            found["metadata"]["resourceVersion"] = self._next()

    def deny(self, verb: str, resource: str) -> None:
        """`deny("list", "horizontalpodautoscalers")`: 403 from now on."""
        self._denied.add((verb, resource))

    def kubeconfig(self, directory: Path, token: str = TOKEN) -> Path:
        """Write a kubeconfig whose context `prod` uses this server."""
        file = directory / "kubeconfig"
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "prod",
                    "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                    "users": [{"name": "remediator", "user": {"token": token}}],
                    "contexts": [{"name": "prod", "context": {"cluster": "fake", "user": "remediator"}}],
                }
            )
        )
        return file

    # ------------------------------------------------------------ what the API does

    def respond(self, request: Request) -> Answer:
        given = request.headers.get("Authorization", request.headers.get("authorization", ""))
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or token != TOKEN:  # the client in a pod writes it small
            return self.failure(request, 401, "Unauthorized")
        parts = request.path.partition("?")[0].strip("/").split("/")
        with self._lock:
            match request.method, parts:
                case "GET", ["api", "v1", "namespaces", "kube-system"]:
                    if denied := self._deny(request, "get", "namespaces"):
                        return denied
                    return _json({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": self.uid}})
                case "GET", [
                    "apis",
                    "autoscaling",
                    "v2",
                    "namespaces",
                    namespace,
                    "horizontalpodautoscalers",
                ]:
                    if denied := self._deny(request, "list", "horizontalpodautoscalers"):
                        return denied
                    return _json({"items": self._autoscalers.get(namespace, [])})
                case method, ["apis", "apps", "v1", "namespaces", namespace, plural, name, *rest]:
                    return self._apps(request, method, namespace, plural, name, rest)
        return self.failure(request, 404, "the server could not find the requested resource")

    def _apps(
        self, request: Request, method: str, namespace: str, plural: str, name: str, rest: list[str]
    ) -> Answer:
        resource = "/".join([plural, *rest])
        verb = {"GET": "get", "PUT": "update"}.get(method, method.lower())
        if denied := self._deny(request, verb, resource):
            return denied
        found = self._objects.get((namespace, plural, name))
        if found is None:
            return self.failure(request, 404, f'{plural}.apps "{name}" not found')
        if method == "GET":
            return _json(self._scale_of(found) if rest == ["scale"] else found)
        if method != "PUT" or rest != ["scale"]:
            return self.failure(request, 405, "not in this fake")
        sent = json.loads(request.body)
        version = sent["metadata"].get("resourceVersion")
        if version and version != found["metadata"]["resourceVersion"]:
            text = f'Operation cannot be fulfilled on {plural}.apps "{name}": the object has been modified'
            return self.failure(request, 409, text)
        if sent.get("kind") != "Scale" or sent["spec"].get("replicas", 0) < 0:
            return self.failure(request, 422, "spec.replicas: Invalid value")
        self._scale(found, sent["spec"].get("replicas", 0))
        return _json(self._scale_of(found))

    def _scale(self, found: dict[str, Any], replicas: int) -> None:
        metadata = found["metadata"]
        if replicas != found["spec"]["replicas"]:
            metadata["generation"] += 1
            metadata["resourceVersion"] = self._next()
        found["spec"]["replicas"] = replicas
        plural = next(plural for plural, kind in _KINDS.items() if kind == found["kind"])
        at = (metadata["namespace"], metadata["name"], plural)
        if self.progress == 0:
            self.finish(*at)
        elif self.progress is not None:
            self.faults.later(self.progress, lambda: self.finish(*at))

    @staticmethod
    def _scale_of(found: dict[str, Any]) -> dict[str, Any]:
        wanted = found["spec"]["replicas"]
        kept = ("name", "namespace", "uid", "resourceVersion")
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {key: found["metadata"][key] for key in kept},
            "spec": {"replicas": wanted} if wanted else {},
            "status": {"replicas": found.get("status", {}).get("replicas", 0)},
        }

    def _deny(self, request: Request, verb: str, resource: str) -> Answer | None:
        if (verb, resource) not in self._denied:
            return None
        return self.failure(request, 403, f'User "remediator" cannot {verb} resource "{resource}"')

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def failure(self, request: Request, status: int, text: str) -> Answer:
        del request
        reason = _REASONS.get(status, "")
        told = {"kind": "Status", "status": "Failure", "reason": reason, "message": text, "code": status}
        return _json(told, status)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())
