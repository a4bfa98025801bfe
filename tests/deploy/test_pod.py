"""The pod of the page's values, started: its settings, secrets, policies from git, and its Role."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.settings import Settings
from tests.deploy import chart
from tests.deploy.chart import Object, render, values
from tests.deploy.compose import ROOT
from tests.deploy.pod import NAME, Pod, certificate, projected
from tests.deploy.roles import Guarded, Roles
from tests.e2e.house import PAYLOADS, recorded_alert
from tests.servers.container import Network

SECRETS = {
    "remediator": {
        "ALERTMANAGER_TOKEN": "s" * 40,
        "OPERATOR_TOKEN": "o" * 40,
        "PRIMARY_APPRISE_URL": "json://127.0.0.1:9",
    },
}
POLICY = """
name: grow
mode: enforce
from: [alertmanager-prod]
match: [alertname="QueueDepthHigh"]
remedies:
  - action: kubernetes.scale
    with: {connection: cluster, namespace: jobs, deployment: gpu-worker, add: ADD, max: 10}
limits: {cooldown: 1s}
"""


def page() -> Object:
    """The values of docs/deploying.md."""
    text = (ROOT / "docs" / "deploying.md").read_text()
    (found,) = re.findall(r"^```yaml values\.yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    parsed: Object = yaml.safe_load(found)
    return parsed


def arrive(volume: Path, commit: str, files: dict[str, str], former: str = "") -> None:
    """A commit as git-sync 4 brings it: a worktree, the link `current` put in place of the former one."""
    directory = volume / ".worktrees" / commit / "policies"
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    (volume / "next").symlink_to(f".worktrees/{commit}")
    (volume / "next").rename(volume / "current")
    if former:
        shutil.rmtree(volume / ".worktrees" / former)


def until(condition: Callable[[], bool], what: str, pod: Pod) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert pod.container.process.running, pod.container.process.tail()
        assert time.monotonic() < deadline, f"{what}\n{pod.container.process.tail()}"
        time.sleep(0.2)


def firing() -> dict[str, Any]:
    body: dict[str, Any] = json.loads((PAYLOADS / "alertmanager-v4-firing.json").read_text())
    body["alerts"] = [recorded_alert(alertname="QueueDepthHigh", namespace="jobs")]
    return body


def text_of(pod: Pod, policy: str) -> str:
    """The text of a policy that is in force; "" if there is none."""
    return pod.get(f"/api/v1/policies/{policy}", SECRETS["remediator"]["OPERATOR_TOKEN"]).get("text", "")


@pytest.fixture
def network() -> Iterator[Network]:
    with Network([NAME]) as network:
        yield network


def test_the_pod_of_the_page_acts_with_its_role_on_policies_from_git(
    network: Network, tmp_path: Path
) -> None:
    objects = render(page(), release="remediator")
    authority = certificate(tmp_path)
    with ExitStack() as stack:
        cluster = stack.enter_context(network.inside(lambda: Guarded(Roles(objects))))
        cluster.secure(authority)
        cluster.create("jobs", "gpu-worker", 3)
        pod = Pod(network, tmp_path, objects, SECRETS, (cluster.port, authority))
        volume = pod.volume("policies")
        arrive(volume, "a1", {"grow.yaml": POLICY.replace("ADD", "2")})
        container = stack.enter_context(pod.container)
        for kind in ("startup", "liveness", "readiness"):
            until(lambda kind=kind: pod.probe(kind) == 200, f"its {kind} probe", pod)  # type: ignore[misc]
        reached = re.compile(r"kubernetes +cluster +ok")
        until(lambda: bool(reached.search(container.run("remediator", "doctor").stdout)), "the cluster", pod)

        body, sender = firing(), SECRETS["remediator"]["ALERTMANAGER_TOKEN"]
        until(lambda: pod.post("/webhooks/alertmanager-prod", sender, body) == 200, "it is taken", pod)
        until(lambda: cluster.replicas("jobs", "gpu-worker") == 5, "it acts", pod)
        assert cluster.refused == []

        arrive(volume, "b2", {"grow.yaml": POLICY.replace("ADD", "3")}, former="a1")
        until(lambda: "add: 3" in text_of(pod, "grow"), "the new commit is in force", pod)

        status = container.run("cat", f"/proc/{container.process.pid}/status").stdout
        shown = re.findall(r"(?m)^(?:Uid|CapEff|CapBnd|NoNewPrivs):\s+(\w+)", status)
        assert shown == ["10001", "0" * 16, "0" * 16, "1"]
        assert container.process.stop() == 0, "it was killed when its time to stop was up"
        assert '"stopped"' in container.process.tail(1)
    assert (pod.volume("data") / "remediator.db").is_file()


def test_a_new_configmap_is_taken_up_without_a_restart(network: Network, tmp_path: Path) -> None:
    given = values("sqlite")
    given["settings"]["policies"] = {"reload": "200ms"}
    given["settings"]["log"] = {"level": "info"}
    pod = Pod(network, tmp_path, render(given), SECRETS)
    with pod.container as container:
        assert text_of(pod, "queue-depth")
        assert text_of(pod, "grow") == ""
        grow = POLICY.replace("ADD", "2")
        projected(pod.volume("policies"), {"grow.yaml": grow, "limits.yaml": "global: {concurrent: 1}\n"})
        until(lambda: "add: 2" in text_of(pod, "grow"), "it takes it up", pod)
        assert container.process.stop() == 0


def test_pod_and_compose_leave_the_daemon_the_time_that_it_takes_to_stop() -> None:
    settings = Settings()
    needed = (settings.server.shutdown_timeout + settings.engine.shutdown_grace) / 1000
    assert chart.pod(render(page()))["spec"]["terminationGracePeriodSeconds"] > needed
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["remediator"]
    assert float(service["stop_grace_period"].removesuffix("s")) > needed
