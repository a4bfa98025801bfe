"""The chart's Roles allow what each action really asks of the cluster, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from remediator.actions.kubernetes import Scale, ScaleParams
from remediator.clients.connections import CallContext, Connections
from remediator.contracts import Context
from remediator.errors import Permanent
from remediator.model import Instant, Landed, Plan
from remediator.settings.connections import KubernetesConnection
from remediator.wiring import catalogue
from tests.deploy.chart import render, values
from tests.deploy.roles import Asked, Guarded, Roles

Grant = tuple[str, str, str, str]


def _scale(context: Context) -> None:
    """All that the engine does with `kubernetes.scale`, there and back, on either kind."""
    action = Scale()
    for kind in ("deployment", "statefulset"):
        with_ = {"connection": "cluster", "namespace": "jobs", "deployment": "w", "kind": kind}
        params = ScaleParams.model_validate({**with_, "add": 2, "max": 10})
        plan = action.plan(action.observe(context, params), params, ())
        assert isinstance(plan, Plan)
        action.apply(context, plan, "token")
        assert action.settled(context, plan).done
        seen = action.observe(context, params)
        assert action.landed(seen, plan) is Landed.APPLIED
        back = action.undo(seen, plan)
        assert isinstance(back, Plan)
        action.apply(context, back, "token")


EXERCISES: dict[str, Callable[[Context], None]] = {"kubernetes.scale": _scale}
"""Everything an action or a check asks of a cluster; a new one is put here."""


def roles(name: str) -> Roles:
    return Roles(render(values("sqlite") | {"rbac": {"actions": [name], "namespaces": ["jobs"]}}))


def exercise(name: str, allowed: Roles, home: Path) -> Guarded:
    with Guarded(allowed) as cluster:
        for plural in ("deployments", "statefulsets"):
            cluster.create("jobs", "w", 3, plural=plural)
        settings = KubernetesConnection(kubeconfig=cluster.kubeconfig(home), timeout=20)
        connections = Connections({"cluster": settings})
        try:
            EXERCISES[name](CallContext(connections, Instant(1_795_216_670_000)))
        finally:
            connections.close()
    return cluster


def used(cluster: Guarded) -> set[Grant]:
    return {(asked.namespace, asked.verb, asked.group, asked.resource) for asked in cluster.asked}


def grants() -> list[tuple[str, Grant]]:
    return [(name, grant) for name in sorted(EXERCISES) for grant in sorted(roles(name).granted())]


def test_every_action_and_check_of_kubernetes_is_exercised() -> None:
    known = catalogue()
    asking = {
        one.name
        for one in (*known.actions(), *known.checks())
        if any(permission.system == "kubernetes" for permission in one.permissions)
    }
    assert set(EXERCISES) == asking


@pytest.mark.parametrize("name", sorted(EXERCISES))
def test_what_it_asks_is_what_its_role_allows(name: str, tmp_path: Path) -> None:
    allowed = roles(name)
    cluster = exercise(name, allowed, tmp_path)
    assert cluster.refused == []
    assert used(cluster) == allowed.granted()


@pytest.mark.parametrize(
    ("name", "grant"), grants(), ids=lambda one: one if isinstance(one, str) else "-".join(one)
)
def test_a_verb_less_is_refused(name: str, grant: Grant, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="forbidden"):
        exercise(name, roles(name).without(grant), tmp_path)


@pytest.mark.parametrize(
    ("request_line", "asked"),
    [
        ("GET /api/v1/namespaces/kube-system", "kube-system get namespaces. kube-system"),
        ("GET /api/v1/namespaces", " list namespaces. "),
        ("PUT /apis/apps/v1/namespaces/a/deployments/d/scale?x=1", "a update deployments/scale.apps d"),
        ("GET /apis/apps/v1/namespaces/a/deployments", "a list deployments.apps "),
        ("DELETE /api/v1/namespaces/a/pods/p", "a delete pods. p"),
    ],
)
def test_a_request_is_read_as_the_api_server_reads_it(request_line: str, asked: str) -> None:
    found = Asked.by(*request_line.split())
    assert f"{found.namespace} {found.verb} {found.resource}.{found.group} {found.name}" == asked


def test_a_role_is_worth_what_it_is_bound_to() -> None:
    objects = render(values("sqlite"))
    found = Roles(objects)
    identity = Asked("kube-system", "get", "", "namespaces", "kube-system")
    assert found.allow(identity)
    assert not found.allow(Asked("kube-system", "list", "", "namespaces"))
    assert not found.allow(Asked("kube-system", "get", "", "namespaces", "other"))
    assert found.allow(Asked("shop", "update", "apps", "deployments/scale", "web"))
    assert not found.allow(Asked("payments", "update", "apps", "deployments/scale", "web"))
    assert not found.allow(Asked("shop", "update", "apps", "deployments", "web"))
    unbound = [one for one in objects if one["kind"] != "RoleBinding"]
    assert Roles(unbound).granted() == set()
