"""Queue depth above 50: the shipped policies add GPU workers, within bounds, and give them back.

A real daemon and Alertmanager's recorded notification; AWS is moto over HTTP behind boto3, Kubernetes a
stateful fake behind the official client with its signal from a real Prometheus.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.e2e.house import House, recorded_alert, resolved, shipped
from tests.fakes.http import Answer, FakeHttp, Request
from tests.fakes.kubernetes import FakeKubernetes
from tests.servers.moto import ACCOUNT, CREDENTIALS, Moto
from tests.servers.prometheus import Prometheus

ON_AWS = "gpu-queue-depth-scale-out"
ON_KUBERNETES = "queue-depth-scale-deployment"
REGION = "us-east-1"
SHORT = {
    "for": "1s",
    "verify__after": "0s",
    "verify__within": "10s",
    "verify__every": "1s",
    "verify__stable_for": "1s",
}


class Aws:
    """The group and the queue that the policy is about, as a person with the console has them."""

    def __init__(self, moto: Moto, desired: int) -> None:
        moto.reset()
        where: Any = {"region_name": REGION, "endpoint_url": moto.url, **CREDENTIALS}
        self._groups: Any = boto3.client("autoscaling", **where)
        self._queues: Any = boto3.client("sqs", **where)
        self.group = "prod-gpu-workers"
        self._groups.create_launch_configuration(
            LaunchConfigurationName=self.group, ImageId="ami-12c6146b", InstanceType="t3.micro"
        )
        self._groups.create_auto_scaling_group(
            AutoScalingGroupName=self.group,
            LaunchConfigurationName=self.group,
            MinSize=1,
            DesiredCapacity=desired,
            MaxSize=20,
            AvailabilityZones=[f"{REGION}a"],
        )
        self._queue = self._queues.create_queue(QueueName="prod-jobs")["QueueUrl"]
        for batch in range(6):
            entries = [{"Id": str(one), "MessageBody": f"job {batch}{one}"} for one in range(10)]
            self._queues.send_message_batch(QueueUrl=self._queue, Entries=entries)

    @property
    def desired(self) -> int:
        (group,) = self._groups.describe_auto_scaling_groups(AutoScalingGroupNames=[self.group])[
            "AutoScalingGroups"
        ]
        return int(group["DesiredCapacity"])

    def scale(self, desired: int) -> None:
        self._groups.set_desired_capacity(AutoScalingGroupName=self.group, DesiredCapacity=desired)

    def drain(self) -> None:
        self._queues.purge_queue(QueueUrl=self._queue)


class Jobs(FakeHttp):
    """An exporter with the depth of one queue."""

    depth = 120

    def respond(self, request: Request) -> Answer:
        labels = 'namespace="jobs",queue="prod-jobs"'
        text = f"# TYPE queue_depth gauge\nqueue_depth{{{labels}}} {self.depth}\n"
        return Answer(200, text.encode(), "text/plain; version=0.0.4")


@pytest.fixture(scope="module", autouse=True)
def watched() -> Iterator[tuple[Jobs, Prometheus]]:
    """The exporter, and a Prometheus that scrapes it; started first, for it finds its targets after 5 s."""
    with Jobs() as jobs, Prometheus(targets=[jobs.url.removeprefix("http://")]) as prometheus:
        yield jobs, prometheus


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the daemon, whose environment is ours."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@contextmanager
def on_aws(home: Path, moto: Moto, **changes: str) -> Iterator[House]:
    connection = {"kind": "aws", "region": REGION, "account": ACCOUNT, "endpoint_url": moto.url}
    policy = shipped(ON_AWS, **{**SHORT, **changes})
    with House(home, {ON_AWS: policy}, connections={"aws-prod": connection}) as house:
        house.start()
        yield house


def queue_alert(**labels: str) -> dict[str, Any]:
    return recorded_alert(alertname="QueueDepthHigh", queue="prod-jobs", **labels)


def test_adds_two_workers_and_gives_them_back_when_the_lease_ends(tmp_path: Path, moto_server: Moto) -> None:
    aws = Aws(moto_server, desired=3)
    with on_aws(tmp_path, moto_server, expires="3s") as house:
        alert = queue_alert()
        assert house.alertmanager(alert).json()["accepted"] == 1
        house.until(lambda: aws.desired == 5, "two workers are added")
        aws.drain()
        house.alertmanager(resolved(alert))
        (effect,) = house.get("effects", open=False)["items"]  # also if it is back by now
        assert (effect["field"], effect["prior"], effect["current"]) == ("desired", 3, 5)
        assert "prod-gpu-workers" in house.remediator("effects", "list", "--all").out

        back = house.ended(runs=2)
        run = house.run(house.runs()[0]["id"])
        assert (run["outcome"], run["reason"]) == ("succeeded", "healed")
        assert "sqs.depth = 0" in run["observed"]
        assert (back["outcome"], back["reason"], back["origin"]) == ("reverted", "lease_expired", "lease")
        assert aws.desired == 3
        assert house.get("effects")["items"] == []
        assert house.get("effects", open=False)["items"][0]["outcome"] == "returned"
        # the end of the lease is told with the alert that began it
        assert "desired=5 → desired=3" in house.remediator("alerts", "explain", run["alert"]).out


def test_never_beyond_the_policys_maximum(tmp_path: Path, moto_server: Moto) -> None:
    """moto, like the group itself, would take more: the bound is the policy's."""
    aws = Aws(moto_server, desired=9)
    with on_aws(tmp_path, moto_server, limits__cooldown="1s", limits__per_target="[9 per 1h]") as house:
        house.alertmanager(queue_alert())
        house.until(lambda: aws.desired == 10, "the last worker is added")
        aws.drain()
        assert house.ended()["outcome"] == "succeeded"

        aws = Aws(moto_server, desired=10)
        house.alertmanager(queue_alert(pod="another"))
        run = house.ended(runs=2)
        assert run["outcome"] == "nothing_to_do"
        assert "allows 10: none to add" in run["observed"]
        assert aws.desired == 10


def test_a_lease_leaves_alone_what_a_person_has_set_since(tmp_path: Path, moto_server: Moto) -> None:
    aws = Aws(moto_server, desired=3)
    with on_aws(tmp_path, moto_server, expires="2s") as house:
        alert = queue_alert()
        house.alertmanager(alert)
        house.until(lambda: "action.settled" in house.kinds(), "two workers are added")
        assert aws.desired == 5
        aws.drain()
        house.alertmanager(resolved(alert))
        aws.scale(8)
        back = house.ended(runs=2)
        assert (back["outcome"], back["reason"]) == ("nothing_to_do", "changed_by_person")
        assert aws.desired == 8
        assert house.get("effects")["items"] == []


def test_acts_only_while_the_queue_really_is_deep(tmp_path: Path, moto_server: Moto) -> None:
    aws = Aws(moto_server, desired=3)
    aws.drain()
    with on_aws(tmp_path, moto_server) as house:
        alert = queue_alert()
        house.alertmanager(alert)
        house.until(lambda: house.run()["reason"] == "check_false", "it waits for the check")
        explained = house.remediator("alerts", "explain", house.run()["alert"]).out
        assert "sqs.depth = 0" in explained
        assert "sqs.depth > 50" in explained
        began = time.monotonic()
        house.alertmanager(resolved(alert))
        assert house.ended()["outcome"] == "cancelled"
        assert time.monotonic() - began < 1.5  # at once, not when the check would have been asked again
        assert aws.desired == 3


# ---------------------------------------------------------------- Kubernetes


def test_scales_a_deployment_and_gives_it_back(tmp_path: Path, watched: tuple[Jobs, Prometheus]) -> None:
    jobs, prometheus = watched
    with FakeKubernetes() as cluster:
        cluster.create("jobs", "gpu-worker", 3)
        connections = {
            "cluster": {"kind": "kubernetes", "kubeconfig": str(cluster.kubeconfig(tmp_path))},
            "prometheus": {"kind": "prometheus", "url": prometheus.url},
        }
        policy = shipped(ON_KUBERNETES, **SHORT, expires="3s")
        with House(tmp_path, {ON_KUBERNETES: policy}, connections=connections) as house:
            house.start()
            house.until(lambda: bool(prometheus.query("queue_depth")), "Prometheus scrapes the queue")
            alert = queue_alert(namespace="jobs")
            house.alertmanager(alert)
            house.until(lambda: cluster.replicas("jobs", "gpu-worker") == 5, "two workers are added")
            jobs.depth = 7
            house.alertmanager(resolved(alert))
            assert house.ended(runs=2)["outcome"] == "reverted"
            run = house.runs()[0]
            assert (run["outcome"], run["observed"]) == ("succeeded", "prometheus.query = 7")
            assert run["target"] == "kubernetes:cluster/jobs/deployment/gpu-worker"
            assert cluster.replicas("jobs", "gpu-worker") == 3
            changes = [call.name for call in cluster.calls if call.name.startswith("PUT")]
            assert len(changes) == 2
