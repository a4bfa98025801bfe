"""Any metric of Google Cloud Monitoring, as one number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from remediator.clients.cloud_monitoring import Align, Reduce, Series
from remediator.clients.gcp import GcpClient
from remediator.contracts import Check, ConnectionOf, Context, Params, Permission, Selector
from remediator.model import DAY, MINUTE, Instant, Millis, Reading, Sample
from remediator.quantity import Duration

VALUE = r"^[^\x00-\x1f\x7f]{1,256}$"

Labels = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")],
        Annotated[str, Selector(VALUE), Field(pattern=VALUE)],
    ],
    Field(max_length=20),
]


class SeriesParams(Params):
    """Which time series."""

    connection: Annotated[str, ConnectionOf("gcp")]
    metric: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,99}/[A-Za-z0-9_./-]{1,200}$")]
    """The metric's type: `run.googleapis.com/request_count`."""
    resource_type: Annotated[str, Field(pattern=r"^[a-z0-9_./-]{1,100}$")] | None = None
    """The monitored resource's type: `cloud_run_revision`."""
    resource_labels: Labels = {}
    """Labels of the monitored resource and the value each must have."""
    over: Annotated[Millis, Duration(MINUTE, DAY)]
    """The window that ends now and is made one number."""


class QueryParams(SeriesParams):
    """Parameters of `cloud_monitoring.query`."""

    metric_labels: Labels = {}
    """Labels of the metric and the value each must have."""
    align: Align
    """What to make of the points of one series: `delta` for counters, `mean` or `max` for gauges."""
    reduce: Reduce = "none"
    """What to make of several series. `none`: several are no data."""


class ShareParams(SeriesParams):
    """Parameters of `cloud_monitoring.share`."""

    metric_labels: Annotated[Labels, Field(min_length=1)]
    """The labels that the counted part has."""


PERMISSIONS = (Permission("gcp", "monitoring.timeSeries.list", "read the metric's points"),)


class Query(Check[QueryParams]):
    """The newest point of one time series. Several without `reduce`, NaN, or none at all, are no data.

    Most metrics of Google Cloud arrive one to four minutes late: choose `over` accordingly.
    Source of facts: Cloud Monitoring API v3, projects.timeSeries.list, "Monitoring filters".
    """

    name = "cloud_monitoring.query"
    summary = "The number that a metric of Cloud Monitoring has over a window"
    params = QueryParams
    unit = ""
    permissions = PERMISSIONS
    example = {
        "check": "cloud_monitoring.query",
        "with": {
            "connection": "gcp-prod",
            "metric": "pubsub.googleapis.com/subscription/num_undelivered_messages",
            "resource_labels": {"subscription_id": "${labels.subscription_id}"},
            "align": "max",
            "over": "5m",
        },
        "is": "> 50",
    }

    def read(self, context: Context, params: QueryParams) -> Reading:
        found = context.client(GcpClient, params.connection).monitoring.series(
            build_filter(params.metric, params.resource_type, params.resource_labels, params.metric_labels),
            end=context.now,
            over=params.over,
            align=params.align,
            reduce=params.reduce,
        )
        if len(found) > 1:
            return Reading(samples=(), note=f"{len(found)} series; narrow the labels or choose a reduce")
        value = _newest(found)
        return Reading(samples=(value,) if value else (), note=f"{len(found)} series")


class Share(Check[ShareParams]):
    """What share of a counter carries certain labels, such as the share of requests that failed.

    The whole is the same metric without `metric_labels`. Where the whole is counted and the part is not
    there, the share is 0: a series exists only once something was counted in it. Without a whole, or
    with a whole of 0, there is no data.
    Source of facts: Cloud Monitoring API v3, projects.timeSeries.list; Cloud Run metrics list.
    """

    name = "cloud_monitoring.share"
    summary = "The share of a counter of Cloud Monitoring that carries certain labels"
    params = ShareParams
    unit = ""
    permissions = PERMISSIONS
    example = {
        "check": "cloud_monitoring.share",
        "with": {
            "connection": "gcp-prod",
            "metric": "run.googleapis.com/request_count",
            "resource_type": "cloud_run_revision",
            "resource_labels": {"service_name": "${labels.service_name}", "location": "${labels.location}"},
            "metric_labels": {"response_code_class": "5xx"},
            "over": "5m",
        },
        "is": "> 5%",
    }

    def read(self, context: Context, params: ShareParams) -> Reading:
        whole = self._sum(context, params, {})
        if whole is None or whole.value <= 0:
            return Reading(samples=(), note="nothing was counted at all")
        part = self._sum(context, params, params.metric_labels)
        counted = part.value if part else 0.0
        return Reading(
            samples=(Sample(at=whole.at, value=counted / whole.value),),
            note=f"{counted:g} of {whole.value:g}",
        )

    def _sum(self, context: Context, params: ShareParams, labels: Mapping[str, str]) -> Sample | None:
        found = context.client(GcpClient, params.connection).monitoring.series(
            build_filter(params.metric, params.resource_type, params.resource_labels, labels),
            end=Instant(context.now),
            over=params.over,
            align="delta",
            reduce="sum",
        )
        return _newest(found)


def build_filter(
    metric: str,
    resource_type: str | None,
    resource_labels: Mapping[str, str],
    metric_labels: Mapping[str, str],
) -> str:
    """A monitoring filter in which every value is one quoted literal, whatever it contains.

    Source of the syntax: Cloud Monitoring, "Monitoring filters": a string stands in double quotes, in
    which a backslash escapes a double quote and a backslash.
    """
    parts = [f"metric.type = {_quoted(metric)}"]
    if resource_type is not None:
        parts.append(f"resource.type = {_quoted(resource_type)}")
    parts += [f"resource.labels.{key} = {_quoted(value)}" for key, value in resource_labels.items()]
    parts += [f"metric.labels.{key} = {_quoted(value)}" for key, value in metric_labels.items()]
    return " AND ".join(parts)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _newest(found: tuple[Series, ...]) -> Sample | None:
    if not found or not math.isfinite(found[0][0].value):
        return None
    return found[0][0]
