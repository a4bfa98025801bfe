"""The chart gives what its values say, and nothing that a cluster would refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import permissions
from remediator.contracts import Permission
from remediator.policy.load import read_dir
from remediator.policy.set import compile_set
from remediator.settings import Settings, load
from remediator.wiring import vocabulary
from tests.deploy.chart import CHART, SETS, Object, helm, only, pod, refused, render, texts, values

OLDEST, NEWEST = "1.27.0", "1.34.0"
CUSTOM = {
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
}
"""Kinds that Kubernetes itself does not have."""


def settings(objects: list[Object], directory: Path, *, name: str = "r-remediator") -> Settings:
    """The rendered settings as the daemon would load them, with every secret there."""
    text = only(objects, "ConfigMap", name)["data"]["remediator.yaml"]
    secrets = directory / "secrets"
    secrets.mkdir()
    for reference in re.findall(r"\$\{(\w+)\}", text):
        content = "postgresql://u:p@db/x" if reference == "REMEDIATOR_STORE_URL" else "s3cret-for-the-tests"
        (secrets / reference).write_text(content)
    assert "secrets_dir: /run/secrets/remediator\n" in text
    file = directory / "remediator.yaml"
    file.write_text(text.replace("/run/secrets/remediator", str(secrets)))
    return load(file)


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.name)
def test_it_passes_helms_lint(file: Path) -> None:
    report = helm().lint(CHART, yaml.safe_load(file.read_text()), strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("file", SETS, ids=lambda file: file.name)
def test_every_object_is_one_that_kubernetes_knows(file: Path, version: str) -> None:
    kubernetes_validate: Any = pytest.importorskip("kubernetes_validate")
    for one in render(yaml.safe_load(file.read_text())):
        if one["kind"] in CUSTOM:
            assert one["apiVersion"] == CUSTOM[one["kind"]]
            continue
        kubernetes_validate.validate(one, version, strict=True)


def test_a_wrong_object_would_be_noticed() -> None:
    kubernetes_validate: Any = pytest.importorskip("kubernetes_validate")
    found = only(render(values("sqlite")), "StatefulSet")
    found["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, NEWEST, strict=True)


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.name)
def test_no_two_objects_have_one_name(file: Path) -> None:
    found = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in render(yaml.safe_load(file.read_text()))
    ]
    assert len(found) == len(set(found))


# ---------------------------------------------------------------- the two shapes


def test_sqlite_is_one_replica_with_its_volume() -> None:
    objects = render(values("sqlite"))
    kinds = {one["kind"] for one in objects}
    assert "Deployment" not in kinds
    assert "PodDisruptionBudget" not in kinds
    found = only(objects, "StatefulSet")["spec"]
    assert found["replicas"] == 1
    (claim,) = found["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["storageClassName"] == "fast-block"
    mounts = {
        one["name"]: one["mountPath"] for one in found["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    assert mounts[claim["metadata"]["name"]] == "/var/lib/remediator"


def test_postgresql_is_a_deployment_that_survives_a_drain() -> None:
    objects = render(values("postgresql"))
    kinds = {one["kind"] for one in objects}
    assert "StatefulSet" not in kinds
    assert "PersistentVolumeClaim" not in kinds
    found = only(objects, "Deployment")["spec"]
    assert found["replicas"] == 3
    spread = {one["topologyKey"] for one in found["template"]["spec"]["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    budget = only(objects, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    labels = found["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert only(objects, "Service")["spec"]["selector"].items() <= labels.items()


def test_one_replica_has_no_budget_that_would_block_a_drain() -> None:
    objects = render(values("postgresql") | {"replicaCount": 1})
    assert "PodDisruptionBudget" not in {one["kind"] for one in objects}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicaCount": 2}, "SQLite belongs to one process"),
        ({"persistence": {"enabled": False}}, "persistence.ephemeral"),
        ({"store": {"url": "sqlite:////data/x.db"}}, "/store/url"),
        ({"store": {"url": "mysql://db/x"}}, "/store/url"),
        ({"store": {"url": "postgresql://u:hunter2@db/x"}}, "/store/url"),
        ({"store": {"url": "postgresql://db/x", "existingSecret": "x"}}, "give one of them"),
        ({"settings": {"server": {"port": 9}}}, "settings.server.port is written by the chart"),
        ({"settings": {"secrets_dir": "/x"}}, "secrets_dir is written by the chart"),
        ({"settings": {}}, "access.tokens is empty"),
        ({"settings": {"sender": {}}}, "sender"),
        ({"settings": {"access": {"tokens": [{"name": "a", "role": "admin", "token": "hunter2"}]}}}, "token"),
        ({"settings": {"notifiers": {"x": {"url": "slack://hunter2"}}}}, "url"),
        ({"settings": {"senders": {"x": {"kind": "alertmanager", "auth": {"bearer": "hunter2"}}}}}, "auth"),
        ({"settings": {"connections": {"x": {"kind": "postgres", "dsn": "password=hunter2"}}}}, "dsn"),
        ({"policies": {}}, "0 sources"),
        ({"policies": {"files": {"a.yaml": ""}, "existingConfigMap": "x"}}, "2 sources"),
        ({"policies": {"files": {"../a.yaml": ""}}}, "'../a.yaml' does not match"),
        ({"policies": {"gitSync": {"enabled": True}}}, "repo is empty"),
        ({"rbac": {"actions": ["kubernetes.scael"]}}, "there are: alert.firing"),
        ({"replicas": 2}, "replicas"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_name(changes: Object, said: str) -> None:
    assert said in refused(**changes)


def test_it_says_when_everything_would_be_lost() -> None:
    given = values("sqlite") | {"persistence": {"ephemeral": True}}
    assert (
        "every alert, run and audit record is lost with the pod"
        in texts(given)["remediator/templates/NOTES.txt"]
    )
    assert "volumeClaimTemplates" not in only(render(given), "StatefulSet")["spec"]


# ---------------------------------------------------------------- settings, secrets, policies


def test_the_daemon_loads_the_settings(tmp_path: Path) -> None:
    found = settings(render(values("sqlite")), tmp_path)
    assert (found.server.host, found.server.port) == ("0.0.0.0", 8080)
    assert found.store.path == Path("/var/lib/remediator/remediator.db")
    assert found.policies.dir == Path("/etc/remediator/policies")
    assert found.senders["alertmanager-prod"].auth[0].bearer is not None
    assert found.log.level == "warning"


def test_the_daemon_loads_the_settings_of_postgresql(tmp_path: Path) -> None:
    found = settings(render(values("postgresql")), tmp_path)
    assert (
        str(found.store.url) == "postgresql://remediator:s3cret-for-the-tests@db.example.com:5432/remediator"
    )
    assert found.policies.dir == Path("/policies/current/policies/prod")


def test_the_address_of_the_database_may_be_a_secret_as_a_whole(tmp_path: Path) -> None:
    objects = render(values("everything"))
    found = settings(objects, tmp_path, name="ops-remediator")
    assert str(found.store.url) == "postgresql://u:p@db/x"
    assert found.server.body_limit == 10 << 20
    (secrets,) = [one["projected"] for one in pod(objects)["spec"]["volumes"] if one["name"] == "secrets"]
    assert {"key": "uri", "path": "REMEDIATOR_STORE_URL"} in secrets["sources"][1]["secret"]["items"]


def test_every_section_of_the_settings_can_be_given() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    given = set(schema["properties"]["settings"]["properties"])
    assert given == set(Settings.model_fields) - {"failpoint"}, "add it to helm/remediator/values.schema.json"


def test_every_value_is_described_and_no_default_is_unknown_to_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) == set(schema) - {"global"}


def test_the_chart_makes_no_secret() -> None:
    for file in SETS:
        assert "Secret" not in {one["kind"] for one in render(yaml.safe_load(file.read_text()))}


def test_the_policies_of_the_values_are_loaded(tmp_path: Path) -> None:
    objects = render(values("sqlite"))
    for name, text in only(objects, "ConfigMap", "r-remediator-policies")["data"].items():
        (tmp_path / name).write_text(text)
    (tmp_path / "own").mkdir()
    found = compile_set(read_dir(tmp_path), vocabulary(settings(objects, tmp_path / "own")))
    assert list(found.policies) == ["queue-depth"]
    assert found.escalation.chains["on-call"][0].notify == ("log", "primary")


def test_new_settings_restart_the_pod_and_new_policies_do_not() -> None:
    given = values("sqlite")
    before = pod(render(given))["metadata"]["annotations"]
    given["policies"]["files"]["limits.yaml"]["global"]["concurrent"] = 1
    assert pod(render(given))["metadata"]["annotations"] == before
    given["settings"]["log"]["level"] = "debug"
    assert pod(render(given))["metadata"]["annotations"] != before


def test_policies_from_git_are_there_before_the_daemon_starts() -> None:
    spec = pod(render(values("postgresql")))["spec"]
    (first,) = spec["initContainers"]
    (daemon, sidecar) = spec["containers"]
    assert "--one-time" in first["args"]
    assert "--one-time" not in sidecar["args"]
    for one in (first, sidecar):
        assert {"--repo=git@github.com:example/runbooks.git", "--root=/policies", "--link=current"} <= set(
            one["args"]
        )
        assert "--ssh-key-file=/etc/git-secret/ssh" in one["args"]
    (mount,) = [one for one in daemon["volumeMounts"] if one["name"] == "policies"]
    assert mount == {"name": "policies", "mountPath": "/policies", "readOnly": True}


def test_git_over_https_reads_its_password_from_a_file() -> None:
    sidecar = pod(render(values("everything")))["spec"]["containers"][1]
    assert "--password-file=/etc/git-secret/password" in sidecar["args"]
    assert "--ref=v1.2.3" in sidecar["args"]
    names = [one["name"] for one in sidecar["env"]]
    assert names == ["GITSYNC_USERNAME", "HTTPS_PROXY"]


# ---------------------------------------------------------------- what it may do


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.name)
def test_pods_meet_the_restricted_standard(file: Path) -> None:
    """Kubernetes documentation, "Pod Security Standards", profile Restricted."""
    given = yaml.safe_load(file.read_text()) | {"extraContainers": [], "extraInitContainers": []}
    spec = pod(render(given))["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert context.get("runAsUser", 1) != 0
        assert all("hostPort" not in one for one in container.get("ports", []))


def test_only_the_actions_in_use_are_allowed_and_only_where_they_act() -> None:
    objects = render(values("sqlite"))
    assert {one["kind"] for one in objects} & {"ClusterRole", "ClusterRoleBinding"} == set()
    roles = {one["metadata"]["namespace"]: one["rules"] for one in objects if one["kind"] == "Role"}
    assert set(roles) == {"jobs", "shop", "kube-system"}
    assert roles["kube-system"] == [
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}
    ]
    allowed = {
        (verb, resource, group)
        for rule in roles["jobs"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    assert allowed == {
        ("get", "deployments", "apps"),
        ("get", "statefulsets", "apps"),
        ("get", "deployments/scale", "apps"),
        ("update", "deployments/scale", "apps"),
        ("get", "statefulsets/scale", "apps"),
        ("update", "statefulsets/scale", "apps"),
        ("list", "horizontalpodautoscalers", "autoscaling"),
    }
    account = only(objects, "ServiceAccount")["metadata"]
    for binding in (one for one in objects if one["kind"] == "RoleBinding"):
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (account["name"], "ops")
        assert binding["roleRef"]["name"] in {"r-remediator", "r-remediator-identity"}
    assert pod(objects)["spec"]["automountServiceAccountToken"] is True


def test_who_does_not_act_here_gets_no_role_and_no_token() -> None:
    objects = render(
        values("sqlite") | {"rbac": {"actions": ["prometheus.query", "postgres.cancel_queries"]}}
    )
    assert {"Role", "RoleBinding"} & {one["kind"] for one in objects} == set()
    assert pod(objects)["spec"]["automountServiceAccountToken"] is False


def test_the_charts_rules_are_those_of_the_catalogue() -> None:
    assert permissions.FILE.read_text() == permissions.text(), "python -m deploy.permissions"


def test_a_grant_that_is_none_is_refused_by_its_words() -> None:
    with pytest.raises(ValueError, match="'everything' is no grant"):
        permissions.rules((Permission("kubernetes", "everything", "why not"),))


def test_the_network_is_closed_where_it_is_told_to() -> None:
    found = only(render(values("everything")), "NetworkPolicy")["spec"]
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert found["ingress"][0]["from"] == [{"podSelector": {"matchLabels": {"app": "alertmanager"}}}]
    assert {one["port"] for one in found["egress"][0]["ports"]} == {53}
    assert found["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert only(render(values("postgresql")), "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]


def test_only_webhooks_are_let_in_from_outside() -> None:
    objects = render(values("everything"))
    (rule,) = only(objects, "Ingress")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/webhooks/"]
    assert rule["host"] == "remediator.ops.example.com"
    (route,) = only(objects, "HTTPRoute", "ops-remediator")["spec"]["rules"]
    assert route["matches"] == [{"path": {"type": "PathPrefix", "value": "/webhooks/"}}]
    assert route["backendRefs"] == [{"name": "ops-remediator", "port": 80}]


def test_nothing_is_on_by_default_that_a_cluster_may_not_have() -> None:
    given = {
        name: values("sqlite")[name] for name in ("persistence", "settings", "existingSecret", "policies")
    }
    assert {one["kind"] for one in render(given)} == {"StatefulSet", "Service", "ServiceAccount", "ConfigMap"}
    assert "resources" not in pod(render(given))["spec"]["containers"][0]


def test_probes_ask_what_the_daemon_answers() -> None:
    container = pod(render(values("sqlite")))["spec"]["containers"][0]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness", "startup")
    }
    assert paths == {"liveness": "/healthz", "readiness": "/readyz", "startup": "/healthz"}
