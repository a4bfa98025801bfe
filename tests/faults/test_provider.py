"""The provider hangs, answers too late, resets, throttles: real daemons, the shipped actions, the
providers' own client libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.crash.installation import Installation, firing
from tests.fakes.aws import FaultyAws
from tests.fakes.faults import Fault
from tests.fakes.kubernetes import FakeKubernetes
from tests.faults.scene import ESCALATION, LIMITS, Scene
from tests.servers.moto import ACCOUNT, CREDENTIALS, Moto

LIMIT = (
    "limits: {cooldown: 0s, per_target: [9 per 1h], budget: [99 per 1h], concurrent: 9, blast_radius: 100%}\n"
)
ON_KUBERNETES = f"""
name: on-kubernetes
mode: enforce
from: [am]
match: [alertname="Cluster"]
remedies:
  - action: quick.scale
    with: {{connection: cluster, namespace: jobs, deployment: "${{labels.thing}}", add: 2, max: 10}}
escalate: on-call
{LIMIT}"""
ON_AWS = f"""
name: on-aws
mode: enforce
from: [am]
match: [alertname="Aws"]
remedies:
  - action: quick.capacity
    with: {{connection: aws, group: "${{labels.thing}}", add: 2, max: 10}}
escalate: on-call
{LIMIT}"""
REGION = "us-east-1"
CALL = {"Cluster": "PUT", "Aws": "SetDesiredCapacity"}
"""The call that changes something."""


@dataclass
class Place:
    """A daemon between whom and its providers a test can put faults."""

    daemon: Installation
    cluster: FakeKubernetes
    aws: FaultyAws
    groups: Any

    def make(self, where: str, name: str) -> None:
        """A target of size 3."""
        if where == "Cluster":
            self.cluster.create("jobs", name, 3)
            return
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName=name, LaunchConfigurationName="c", MinSize=1, DesiredCapacity=3, MaxSize=20,
            AvailabilityZones=[f"{REGION}a"],
        )  # fmt: skip

    def size(self, where: str, name: str) -> int:
        if where == "Cluster":
            return self.cluster.replicas("jobs", name)
        found = self.groups.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return int(found[0]["DesiredCapacity"])

    def calls(self, where: str) -> int:
        """How many calls have arrived that change something."""
        fake = self.cluster if where == "Cluster" else self.aws
        return len(fake.faults.named(CALL[where]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, moto_server: Moto) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("provider")
    with ExitStack() as stack:
        cluster = stack.enter_context(FakeKubernetes())
        aws = stack.enter_context(FaultyAws(moto_server.url))
        daemon = stack.enter_context(
            Installation(
                home,
                {
                    "on-kubernetes.yaml": ON_KUBERNETES,
                    "on-aws.yaml": ON_AWS,
                    "limits.yaml": LIMITS,
                    "escalation.yaml": ESCALATION,
                },
                connections={
                    "cluster": {"kind": "kubernetes", "kubeconfig": str(cluster.kubeconfig(home))},
                    "aws": {"kind": "aws", "region": REGION, "account": ACCOUNT, "endpoint_url": aws.url},
                },
                plugins=["tests.faults.plugin"],
                engine={"action_timeout": "1s"},
            )
        )
        daemon.env = {name.upper(): value for name, value in CREDENTIALS.items()}
        where: Any = {"region_name": REGION, "endpoint_url": moto_server.url, **CREDENTIALS}
        groups: Any = boto3.client("autoscaling", **where)
        groups.create_launch_configuration(
            LaunchConfigurationName="c", ImageId="ami-12c6146b", InstanceType="t3.micro"
        )
        daemon.start()
        yield Place(daemon, cluster, aws, groups)


THROTTLED = {"Cluster": Fault("PUT", 429), "Aws": Fault(CALL["Aws"], 400, text="Throttling: Rate exceeded")}
CASES = [
    # where, what goes wrong with the call that acts: the outcome, the size of 3, calls, an event
    ("Cluster", "throttled", "succeeded", 5, 3, "action.failed"),
    ("Aws", "throttled", "succeeded", 5, 3, "action.failed"),
    ("Cluster", "hangs, was carried out", "succeeded", 5, 1, "action.unknown"),
    ("Aws", "hangs, was carried out", "succeeded", 5, 1, "action.unknown"),
    ("Cluster", "hangs, is carried out late", "succeeded", 5, 1, "action.unknown"),
    ("Aws", "reset, was carried out", "succeeded", 5, 1, "action.unknown"),
    # Conditional: the same call can be issued again. A probe only: never, so a person is called.
    ("Cluster", "hangs, was not", "succeeded", 5, 2, "action.unknown"),
    ("Aws", "hangs, was not", "escalated", 3, 1, "action.unknown"),
]


def fault(where: str, case: str) -> Fault:
    call = CALL[where]
    return {
        "throttled": THROTTLED[where],
        "hangs, was carried out": Fault(call, "hang", applies=True),
        "hangs, is carried out late": Fault(call, "hang", applies=True, late=2.0),
        "reset, was carried out": Fault(call, "reset", applies=True),
        "hangs, was not": Fault(call, "hang"),
    }[case]


@pytest.mark.parametrize(
    ("number", "case"), list(enumerate(CASES)), ids=[f"{case[0]} {case[1]}" for case in CASES]
)
def test_the_call_that_acts_goes_wrong(
    place: Place, number: int, case: tuple[str, str, str, int, int, str]
) -> None:
    where, what, outcome, size, calls, known = case
    name, daemon = f"target-{number}", place.daemon
    place.make(where, name)
    fake = place.cluster if where == "Cluster" else place.aws
    fake.faults.add(fault(where, what), times=2 if what == "throttled" else 1)
    before = place.calls(where)
    assert daemon.post(firing(where, thing=name)) == 200

    def run() -> dict[str, Any]:
        found: dict[str, Any] = daemon.runs()[-1]
        return found

    daemon.until(lambda: name in str(run()["target"]) and run()["outcome"] is not None, "it ends", 40)
    assert (run()["outcome"], place.size(where, name)) == (outcome, size)
    assert place.calls(where) - before == calls
    kinds = [one["kind"] for one in daemon.get("audit", run=run()["id"], oldest_first=True)["items"]]
    assert kinds.count(known) == (2 if what == "throttled" else 1)
    held = [str(one) for one in daemon.get("targets")["items"] if name in str(one)]
    assert any("quarantine" in one for one in held) == (outcome == "escalated"), held


def test_an_answer_after_the_deadline_is_evidence_and_changes_nothing(tmp_path: Path) -> None:
    with Scene(tmp_path, engine={"action_timeout": "1s"}) as place:
        place.daemon.start()
        place.begin("late")

        def kinds() -> list[str]:
            return [one["kind"] for one in place.daemon.get("audit", oldest_first=True)["items"]]

        place.daemon.until(lambda: "action.unknown" in kinds(), "its outcome is not known")
        place.ends("late")  # the daemon has looked: it was applied
        place.provider.open.set()
        place.daemon.until(lambda: "action.late" in kinds(), "the answer is kept as evidence")
        assert kinds().count("action.unknown") == 1
        place.ends("late")
        place.whole()
