"""What rendered Roles allow, asked as the API server asks: a fake cluster authorises each request by them.

Kubernetes documentation, "Using RBAC Authorization" and "Authorization Overview", Determine the Request Verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.deploy.chart import Object
from tests.fakes.http import Answer, Request
from tests.fakes.kubernetes import FakeKubernetes

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Asked:
    """What a request wants."""

    namespace: str
    verb: str
    group: str
    resource: str
    name: str = ""

    @classmethod
    def by(cls, method: str, path: str) -> Asked:
        """Of a request. /api/v1/namespaces/x is the object x in the namespace x."""
        parts = path.partition("?")[0].strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 1:
            namespace = rest[1]
            rest = rest if len(rest) == 2 else rest[2:]
        resource, name, sub = [*rest, "", ""][:3]
        verb = _VERBS.get(method) or ("get" if name else "list")
        return cls(namespace, verb, group, f"{resource}/{sub}" if sub else resource, name)


class Roles:
    """The Roles among rendered objects that are bound to the daemon's service account."""

    def __init__(self, objects: list[Object]) -> None:
        account = next(one["metadata"] for one in objects if one["kind"] == "ServiceAccount")
        subject = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        bound = {
            (one["metadata"]["namespace"], one["roleRef"]["name"])
            for one in objects
            if one["kind"] == "RoleBinding" and subject in one["subjects"]
        }
        self.rules: list[tuple[str, dict[str, Any]]] = [
            (one["metadata"]["namespace"], rule)
            for one in objects
            if one["kind"] == "Role" and (one["metadata"]["namespace"], one["metadata"]["name"]) in bound
            for rule in one["rules"]
        ]

    def allow(self, asked: Asked) -> bool:
        return any(
            namespace == asked.namespace
            and asked.verb in rule["verbs"]
            and asked.group in rule["apiGroups"]
            and asked.resource in rule["resources"]
            and asked.name in rule.get("resourceNames", [asked.name])
            for namespace, rule in self.rules
        )

    def granted(self) -> set[tuple[str, str, str, str]]:
        """Namespace, verb, group and resource of everything that they allow."""
        return {
            (namespace, verb, group, resource)
            for namespace, rule in self.rules
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }

    def without(self, grant: tuple[str, str, str, str]) -> Roles:
        """The same less one verb on one resource."""
        namespace, verb, group, resource = grant
        found = object.__new__(Roles)
        found.rules = [
            (where, {**rule, "verbs": [one], "apiGroups": [in_group], "resources": [on]})
            for where, rule in self.rules
            for one in rule["verbs"]
            for in_group in rule["apiGroups"]
            for on in rule["resources"]
            if (where, one, in_group, on) != (namespace, verb, group, resource)
        ]
        return found


class Guarded(FakeKubernetes):
    """A cluster in which Roles decide; it keeps what was asked."""

    def __init__(self, roles: Roles, **more: Any) -> None:
        super().__init__(**more)
        self.roles = roles
        self.asked: set[Asked] = set()
        self.refused: list[Asked] = []

    def respond(self, request: Request) -> Answer:
        asked = Asked.by(request.method, request.path)
        self.asked.add(asked)
        if not self.roles.allow(asked):
            self.refused.append(asked)
            text = f"{asked.resource}.{asked.group} is forbidden: the service account cannot {asked.verb} it"
            return self.failure(request, 403, text)
        return super().respond(request)
