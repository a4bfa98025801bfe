"""Queues of Amazon SQS."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from remediator.clients.aws import AwsClient
from remediator.contracts import Check, ConnectionOf, Context, Params, Permission, Selector
from remediator.model import Reading, Sample

# A name of up to 80 characters, `.fifo` included; never a URL, which could name another account.
QUEUE = r"[A-Za-z0-9_-]{1,75}(?:\.fifo|[A-Za-z0-9_-]{0,5})"


class DepthParams(Params):
    """Parameters of `sqs.depth`."""

    connection: Annotated[str, ConnectionOf("aws")]
    queue: Annotated[str, Selector(QUEUE), StringConstraints(pattern=f"^{QUEUE}$")]
    """The queue's name."""
    include_in_flight: bool = False
    """Count messages too that a consumer has received and not yet deleted."""


class Depth(Check[DepthParams]):
    """How many messages wait in a queue. Both counts are approximate: they may lag by a minute.

    Source of facts: Amazon SQS API Reference, GetQueueUrl and GetQueueAttributes.
    """

    name = "sqs.depth"
    summary = "Messages that wait in an SQS queue"
    params = DepthParams
    unit = ""
    permissions = (
        Permission("aws", "sqs:GetQueueUrl", "find the queue by its name"),
        Permission("aws", "sqs:GetQueueAttributes", "read how many messages wait"),
    )
    example = {
        "check": "sqs.depth",
        "with": {"connection": "aws-prod", "queue": "${labels.queue}"},
        "is": "> 50",
    }

    def read(self, context: Context, params: DepthParams) -> Reading:
        client = context.client(AwsClient, params.connection)
        url = client.read("sqs", "get_queue_url", QueueName=params.queue)["QueueUrl"]
        counted = ["ApproximateNumberOfMessages"]
        if params.include_in_flight:
            counted.append("ApproximateNumberOfMessagesNotVisible")
        answer = client.read("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=counted)
        attributes = answer.get("Attributes", {})
        if not all(name in attributes for name in counted):
            return Reading(samples=(), note=f"SQS left out {', '.join(counted)}")
        depth = sum(int(attributes[name]) for name in counted)
        return Reading(samples=(Sample(at=context.now, value=float(depth)),))
