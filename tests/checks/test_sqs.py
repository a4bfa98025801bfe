"""sqs.depth, with the real SDK, against moto over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from pydantic import ValidationError

from remediator.checks.sqs import Depth, DepthParams
from remediator.clients.connections import CallContext, Connections
from remediator.errors import ActionError, Permanent, Temporary
from remediator.model import Instant
from remediator.settings.connections import AwsConnection
from tests.fakes.aws import FaultyAws
from tests.fakes.faults import Fault
from tests.servers.moto import ACCOUNT, CREDENTIALS, Moto

NOW = Instant(1_795_216_670_000)
CHECK = Depth()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@contextmanager
def reaching(url: str) -> Iterator[CallContext]:
    settings = AwsConnection(region="us-east-1", account=ACCOUNT, endpoint_url=url, timeout=2)
    connections = Connections({"aws-test": settings})
    try:
        yield CallContext(connections, NOW)
    finally:
        connections.close()


class Queue:
    def __init__(self, moto: Moto, name: str = "") -> None:
        self.name = name or f"jobs-{uuid.uuid4().hex[:8]}"
        self.api = boto3.client("sqs", region_name="us-east-1", endpoint_url=moto.url, **CREDENTIALS)
        attributes = {"FifoQueue": "true"} if self.name.endswith(".fifo") else {}
        self.url = self.api.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"]

    def send(self, count: int) -> None:
        for number in range(count):
            self.api.send_message(QueueUrl=self.url, MessageBody=str(number))


def params(queue: str, include_in_flight: bool = False) -> DepthParams:
    return DepthParams(connection="aws-test", queue=queue, include_in_flight=include_in_flight)


def test_counts_what_waits(moto_server: Moto) -> None:
    queue = Queue(moto_server)
    with reaching(moto_server.url) as context:
        assert [sample.value for sample in CHECK.read(context, params(queue.name)).samples] == [0]
        queue.send(3)
        reading = CHECK.read(context, params(queue.name))
    assert [(sample.at, sample.value) for sample in reading.samples] == [(NOW, 3)]


def test_counts_what_is_in_flight_only_when_asked(moto_server: Moto) -> None:
    queue = Queue(moto_server)
    queue.send(3)
    queue.api.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=1)
    with reaching(moto_server.url) as context:
        assert CHECK.read(context, params(queue.name)).samples[0].value == 2
        assert CHECK.read(context, params(queue.name, include_in_flight=True)).samples[0].value == 3


def test_an_unknown_queue_is_permanent(moto_server: Moto) -> None:
    with (
        reaching(moto_server.url) as context,
        pytest.raises(Permanent, match="aws:aws-test: sqs get_queue_url"),
    ):
        CHECK.read(context, params("nowhere"))


@pytest.mark.parametrize("name", ["jobs", "j", "a_b-C9", "jobs.fifo", "q" * 80, "q" * 75 + ".fifo"])
def test_names_of_queues(name: str) -> None:
    assert params(name).queue == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "https://sqs.us-east-1.amazonaws.com/123456789012/jobs",
        "arn:aws:sqs:us-east-1:123456789012:jobs",
        "jobs*",
        "jobs\n",
        "a.b",
        "q" * 81,
        "q" * 76 + ".fifo",
    ],
)
def test_only_a_name_will_do(name: str) -> None:
    with pytest.raises(ValidationError):
        params(name)


@pytest.mark.parametrize(
    ("answer", "text", "kind"),
    [
        (400, "Throttling: Rate exceeded", Temporary),
        (500, "InternalFailure: sorry", Temporary),
        ("reset", "", Temporary),
        (403, "AccessDenied: not authorized", Permanent),
    ],
)
@pytest.mark.parametrize("operation", ["GetQueueUrl", "GetQueueAttributes"])
def test_no_answer_is_an_error_never_a_number(
    moto_server: Moto, answer: int | str, text: str, kind: type[ActionError], operation: str
) -> None:
    queue = Queue(moto_server)
    with FaultyAws(moto_server.url) as aws, reaching(aws.url) as context:
        aws.faults.add(Fault(operation, answer, text=text))
        with pytest.raises(kind):
            CHECK.read(context, params(queue.name))
        assert len(aws.faults.named(operation)) == 1
