"""kubernetes.scale, with the official client, against a stateful fake of the API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.actions.kubernetes import Scale, ScaleParams
from remediator.clients.connections import CallContext, Connections
from remediator.clients.kubernetes import KubernetesClient
from remediator.contracts import Nothing, Observed
from remediator.errors import ActionError, Ambiguous, Permanent, Refused, Temporary
from remediator.model import Instant, Landed, Plan, Reason, Target
from remediator.settings.connections import KubernetesConnection
from tests.fakes.faults import Fault
from tests.fakes.http import Request
from tests.fakes.kubernetes import TOKEN, FakeKubernetes
from tests.servers.ports import free_port

ACTION = Scale()


@pytest.fixture
def cluster() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as fake:
        fake.create("jobs", "gpu-worker", 3)
        yield fake


@contextmanager
def reaching(kubeconfig: Path, /, **changes: Any) -> Iterator[CallContext]:
    settings = KubernetesConnection(**({"kubeconfig": kubeconfig, "timeout": 5} | changes))
    connections = Connections({"cluster": settings})
    try:
        yield CallContext(connections, Instant(1_795_216_670_000))
    finally:
        connections.close()


@pytest.fixture
def context(cluster: FakeKubernetes, tmp_path: Path) -> Iterator[CallContext]:
    with reaching(cluster.kubeconfig(tmp_path)) as found:
        yield found


def params(**changes: Any) -> ScaleParams:
    values = {"connection": "cluster", "namespace": "jobs", "deployment": "gpu-worker", "add": 2, "max": 10}
    return ScaleParams(**(values | changes))


def planned(context: CallContext, given: ScaleParams) -> Plan:
    plan = ACTION.plan(ACTION.observe(context, given), given, ())
    assert isinstance(plan, Plan)
    return plan


def seen(replicas: int, **more: Any) -> Observed:
    return Observed(target=Target(name="kubernetes:c/w", key="k"), fields={"replicas": replicas, **more})


# ---------------------------------------------------------------- the path of one change


def test_adds_replicas_and_goes_back(cluster: FakeKubernetes, context: CallContext) -> None:
    before = cluster.object("jobs", "gpu-worker")
    plan = planned(context, params())
    assert (plan.before, plan.after) == ({"replicas": 3}, {"replicas": 5})
    assert (plan.blast.amount, plan.blast.whole, plan.blast.unit) == (2, 10, "replicas")
    assert plan.target == Target(
        name="kubernetes:cluster/jobs/deployment/gpu-worker",
        key=f"kubernetes:{cluster.uid}/jobs/deployment/gpu-worker",
    )
    assert ACTION.landed(ACTION.observe(context, params()), plan) is Landed.NOT_APPLIED

    ACTION.apply(context, plan, "token")
    assert cluster.replicas("jobs", "gpu-worker") == 5
    assert ACTION.settled(context, plan).done
    assert ACTION.landed(ACTION.observe(context, params()), plan) is Landed.APPLIED

    back = ACTION.undo(ACTION.observe(context, params()), plan)
    assert isinstance(back, Plan)
    ACTION.apply(context, back, "token")
    assert ACTION.settled(context, back).done
    assert cluster.object("jobs", "gpu-worker")["spec"] == before["spec"]


def test_a_statefulset_as_well(cluster: FakeKubernetes, context: CallContext) -> None:
    cluster.create("data", "kafka", 3, plural="statefulsets")
    given = params(namespace="data", deployment="kafka", kind="statefulset")
    ACTION.apply(context, planned(context, given), "token")
    assert cluster.replicas("data", "kafka", "statefulsets") == 5


def test_from_zero(cluster: FakeKubernetes, context: CallContext) -> None:
    cluster.create("jobs", "idle", 0)
    plan = planned(context, params(deployment="idle"))
    assert (plan.before, plan.after) == ({"replicas": 0}, {"replicas": 2})
    ACTION.apply(context, plan, "token")
    assert cluster.replicas("jobs", "idle") == 2


def test_settles_when_the_pods_are_available(cluster: FakeKubernetes, context: CallContext) -> None:
    cluster.progress = None
    plan = planned(context, params())
    ACTION.apply(context, plan, "token")
    waiting = ACTION.settled(context, plan)
    assert (waiting.done, waiting.failed) == (False, "")
    cluster.finish("jobs", "gpu-worker")
    assert ACTION.settled(context, plan).done


def test_going_back_settles_when_the_pods_are_gone(cluster: FakeKubernetes, context: CallContext) -> None:
    plan = planned(context, params())
    ACTION.apply(context, plan, "token")
    cluster.progress = None
    back = ACTION.undo(ACTION.observe(context, params()), plan)
    assert isinstance(back, Plan)
    ACTION.apply(context, back, "token")
    assert not ACTION.settled(context, back).done
    cluster.finish("jobs", "gpu-worker")
    assert ACTION.settled(context, back).done


def test_nothing_to_do_at_the_maximum() -> None:
    plan = ACTION.plan(seen(10), params(), ())
    assert isinstance(plan, Nothing)
    assert "max allows 10" in plan.why


def test_held_at_the_maximum() -> None:
    plan = ACTION.plan(seen(9), params(add=5), ())
    assert isinstance(plan, Plan)
    assert plan.after == {"replicas": 10}
    assert "held at 10" in plan.note


@given(present=st.integers(0, 300), add=st.integers(1, 20), most=st.integers(1, 200))
def test_every_plan_is_within_every_bound(present: int, add: int, most: int) -> None:
    plan = ACTION.plan(seen(present), params(add=add, max=most), ())
    if isinstance(plan, Nothing):
        assert present >= most
    else:
        assert present < plan.after["replicas"] <= min(present + add, most)


@pytest.mark.parametrize(
    "wrong",
    [
        {"add": 0},
        {"add": 21},
        {"add": -1},
        {"max": 201},
        {"kind": "daemonset"},
        {"namespace": "../kube-system"},
        {"namespace": "a" * 64},
        {"namespace": ""},
        {"deployment": "a/../b"},
        {"deployment": ".."},
        {"deployment": "a\n"},
        {"deployment": "A"},
    ],
)
def test_parameters_out_of_bounds_are_refused_by_the_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)


# ---------------------------------------------------------------- other owners, other people


def test_an_autoscaler_is_not_fought(cluster: FakeKubernetes, context: CallContext) -> None:
    cluster.autoscale("jobs", "gpu-worker")
    observed = ACTION.observe(context, params())
    with pytest.raises(Refused, match="gpu-worker-hpa") as caught:
        ACTION.plan(observed, params(), ())
    assert caught.value.reason is Reason.MANAGED_ELSEWHERE


def test_an_autoscaler_of_something_else_does_not_matter(
    cluster: FakeKubernetes, context: CallContext
) -> None:
    cluster.autoscale("jobs", "web")
    cluster.autoscale("jobs", "gpu-worker", kind="StatefulSet")
    cluster.autoscale("other", "gpu-worker")
    assert planned(context, params()).after == {"replicas": 5}


@pytest.mark.parametrize(
    ("labels", "annotations", "tool"),
    [
        ({}, {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:jobs/gpu-worker"}, "Argo CD"),
        ({"argocd.argoproj.io/instance": "shop"}, {}, "Argo CD"),
        ({"kustomize.toolkit.fluxcd.io/name": "shop"}, {}, "Flux"),
        ({"helm.toolkit.fluxcd.io/name": "shop"}, {}, "Flux"),
    ],
)
def test_gitops_is_respected_unless_the_policy_allows_it(
    cluster: FakeKubernetes,
    context: CallContext,
    labels: dict[str, str],
    annotations: dict[str, str],
    tool: str,
) -> None:
    cluster.create("jobs", "owned", 3, labels=labels, annotations=annotations)
    given = params(deployment="owned")
    with pytest.raises(Refused, match=f"{tool}.*allow_gitops") as caught:
        ACTION.plan(ACTION.observe(context, given), given, ())
    assert caught.value.reason is Reason.MANAGED_ELSEWHERE
    allowed = planned(context, params(deployment="owned", allow_gitops=True))
    assert allowed.after == {"replicas": 5}
    assert tool in allowed.note


def test_a_change_by_a_person_before_the_call_is_noticed(
    cluster: FakeKubernetes, context: CallContext
) -> None:
    plan = planned(context, params())
    cluster.scale("jobs", "gpu-worker", 8)
    with pytest.raises(Refused) as caught:
        ACTION.apply(context, plan, "token")
    assert caught.value.reason is Reason.CHANGED_BY_PERSON
    assert (caught.value.observed, caught.value.allowed) == ("replicas=8", "replicas=3")
    assert cluster.replicas("jobs", "gpu-worker") == 8
    assert ACTION.landed(ACTION.observe(context, params()), plan) is Landed.UNCLEAR


def test_a_pod_that_comes_or_goes_is_no_change_by_a_person(
    cluster: FakeKubernetes, context: CallContext
) -> None:
    plan = planned(context, params())
    cluster.touch("jobs", "gpu-worker")
    ACTION.apply(context, plan, "token")
    assert cluster.replicas("jobs", "gpu-worker") == 5


def test_a_write_between_reading_and_writing_is_refused_by_the_cluster(
    cluster: FakeKubernetes, context: CallContext
) -> None:
    """The change arrives after the version was read: 409, nothing done, may be looked at again."""
    plan = planned(context, params())

    def meanwhile(request: Request) -> None:
        if request.method == "PUT":
            cluster.scale("jobs", "gpu-worker", 8)

    cluster.meanwhile = meanwhile
    with pytest.raises(Temporary, match="409 Conflict"):
        ACTION.apply(context, plan, "token")
    assert cluster.replicas("jobs", "gpu-worker") == 8


def test_a_change_by_a_person_is_not_undone(cluster: FakeKubernetes, context: CallContext) -> None:
    plan = planned(context, params())
    ACTION.apply(context, plan, "token")
    cluster.scale("jobs", "gpu-worker", 9)
    observed = ACTION.observe(context, params())
    with pytest.raises(Refused) as caught:
        ACTION.undo(observed, plan)
    assert caught.value.reason is Reason.CHANGED_BY_PERSON
    assert "9" in ACTION.settled(context, plan).failed


# ---------------------------------------------------------------- what can go wrong


def test_an_unknown_deployment_is_named(context: CallContext) -> None:
    with pytest.raises(Permanent, match=r"404 NotFound: deployments.apps .nowhere. not found"):
        ACTION.observe(context, params(deployment="nowhere"))


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("get", "namespaces"), ("get", "deployments"), ("list", "horizontalpodautoscalers")],
)
def test_what_may_not_be_read_stops_everything(
    cluster: FakeKubernetes, context: CallContext, verb: str, resource: str
) -> None:
    cluster.deny(verb, resource)
    with pytest.raises(Permanent, match=f"403 Forbidden.*cannot {verb}"):
        ACTION.observe(context, params())


def test_scaling_may_be_forbidden(cluster: FakeKubernetes, context: CallContext) -> None:
    plan = planned(context, params())
    cluster.deny("update", "deployments/scale")
    with pytest.raises(Permanent, match="403"):
        ACTION.apply(context, plan, "token")


def test_the_cluster_is_asked_once_who_it_is(cluster: FakeKubernetes, context: CallContext) -> None:
    for _ in range(3):
        ACTION.observe(context, params())
    assert context.client(KubernetesClient, "cluster").identity() == cluster.uid
    assert len(cluster.faults.named("kube-system")) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with FakeKubernetes() as cluster:
        kubeconfig = cluster.kubeconfig(tmp_path)
    kubeconfig.write_text(kubeconfig.read_text().replace(cluster.url, f"http://127.0.0.1:{free_port()}"))
    with reaching(kubeconfig) as context, pytest.raises(Temporary, match="no connection"):
        ACTION.observe(context, params())


@pytest.mark.parametrize("changes", [{"context": "elsewhere"}, {"kubeconfig": Path("/nowhere/kubeconfig")}])
def test_a_kubeconfig_that_cannot_be_used_is_permanent(
    cluster: FakeKubernetes, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with reaching(cluster.kubeconfig(tmp_path), **changes) as context:
        with pytest.raises(Permanent, match="connection 'cluster'"):
            context.client(KubernetesClient, "cluster")


def test_not_in_a_cluster_is_permanent(
    cluster: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with reaching(cluster.kubeconfig(tmp_path), in_cluster=True) as context:
        with pytest.raises(Permanent, match="connection 'cluster'"):
            context.client(KubernetesClient, "cluster")


def test_a_wrong_token_is_permanent_and_not_repeated(cluster: FakeKubernetes, tmp_path: Path) -> None:
    with reaching(cluster.kubeconfig(tmp_path, token="s3cret-and-wrong")) as context:
        with pytest.raises(Permanent, match="401") as caught:
            ACTION.observe(context, params())
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in repr(context.client(KubernetesClient, "cluster"))


WRONG: list[tuple[int | str, type[ActionError], type[ActionError]]] = [
    (429, Temporary, Temporary),
    (403, Permanent, Permanent),
    (422, Permanent, Permanent),
    (409, Temporary, Temporary),
    (500, Temporary, Ambiguous),
    (503, Temporary, Ambiguous),
    (504, Temporary, Ambiguous),
    ("reset", Temporary, Ambiguous),
    ("hang", Temporary, Ambiguous),
]


@pytest.mark.parametrize(("answer", "reading", "changing"), WRONG)
def test_each_failure_has_its_kind(
    cluster: FakeKubernetes,
    tmp_path: Path,
    answer: int | str,
    reading: type[ActionError],
    changing: type[ActionError],
) -> None:
    with reaching(cluster.kubeconfig(tmp_path), timeout=0.3) as context:
        plan = planned(context, params())
        calls: list[tuple[str, type[ActionError], Callable[[], object]]] = [
            ("GET /apis/apps", reading, lambda: ACTION.observe(context, params())),
            ("PUT /apis/apps", changing, lambda: ACTION.apply(context, plan, "token")),
        ]
        for name, kind, call in calls:
            before = len(cluster.faults.named(name))
            cluster.faults.add(Fault(name, answer))
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind
            assert TOKEN not in str(caught.value)
            assert len(cluster.faults.named(name)) == before + 1, "the SDK must not repeat it"
    assert cluster.replicas("jobs", "gpu-worker") == 3


def test_a_call_that_was_carried_out_without_an_answer_is_found_by_looking(
    cluster: FakeKubernetes, context: CallContext
) -> None:
    plan = planned(context, params())
    cluster.faults.add(Fault("PUT", "reset", applies=True))
    with pytest.raises(Ambiguous):
        ACTION.apply(context, plan, "token")
    assert ACTION.landed(ACTION.observe(context, params()), plan) is Landed.APPLIED


def test_a_late_call_does_not_overwrite_what_came_after(
    cluster: FakeKubernetes, context: CallContext
) -> None:
    """It carries the version that it was planned with, so it lands on nothing."""
    plan = planned(context, params())
    cluster.faults.add(Fault("PUT", "reset", applies=True, late=0.2))
    with pytest.raises(Ambiguous):
        ACTION.apply(context, plan, "token")
    cluster.scale("jobs", "gpu-worker", 8)
    cluster.faults.hang(0.4)
    assert cluster.replicas("jobs", "gpu-worker") == 8


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_a_path_cannot_climb(context: CallContext, cluster: FakeKubernetes, segment: str) -> None:
    client = context.client(KubernetesClient, "cluster")
    with pytest.raises(Permanent, match="segment"):
        client.read("api", "v1", "namespaces", segment, "pods")
    with pytest.raises(Permanent, match="404"):
        client.read("api", "v1", "namespaces", "a/../../secrets")
    assert [call.name for call in cluster.calls] == ["GET /api/v1/namespaces/a%2F..%2F..%2Fsecrets"]
