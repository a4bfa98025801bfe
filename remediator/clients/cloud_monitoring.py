"""Cloud Monitoring: time series, aligned and reduced by the service itself.

Source of facts: Cloud Monitoring API v3, MetricService.ListTimeSeries and Aggregation
(https://cloud.google.com/monitoring/api/ref_v3/rpc/google.monitoring.v3).
"""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from remediator.model import SECOND, Instant, Millis, Sample

if TYPE_CHECKING:
    from remediator.clients.gcp import GcpClient

Align = Literal["mean", "max", "min", "sum", "delta"]
Reduce = Literal["none", "mean", "max", "min", "sum"]
Series = tuple[Sample, ...]

MOST = 1000
"""Series read at most."""


class CloudMonitoring:
    """The metrics of one project."""

    def __init__(self, gcp: GcpClient) -> None:
        self._gcp = gcp
        self._lock = threading.Lock()
        self._made: Any = None

    def series(
        self, filter: str, *, end: Instant, over: Millis, align: Align, reduce: Reduce
    ) -> tuple[Series, ...]:
        """One value per time series: the window of length `over` that ends at `end`, made one point.

        Args:
            filter: a monitoring filter; see `checks.cloud_monitoring.build_filter`.
            over: at least a minute, which is the shortest alignment period.
            align: what to make of the points of one series; reduce: of several series.

        Returns:
            The series that have points of a numeric value, newest first in each; at most `MOST`.

        Raises:
            ActionError: there was no answer.
        """
        from google.cloud import monitoring_v3

        gcp = self._gcp
        kinds = monitoring_v3.Aggregation
        request = monitoring_v3.ListTimeSeriesRequest(
            name=f"projects/{gcp.project}",
            filter=filter,
            interval=monitoring_v3.TimeInterval(
                start_time=_timestamp(Instant(end - over)), end_time=_timestamp(end)
            ),
            aggregation=kinds(
                alignment_period={"seconds": over // SECOND},
                per_series_aligner=getattr(kinds.Aligner, f"ALIGN_{align.upper()}"),
                cross_series_reducer=getattr(kinds.Reducer, f"REDUCE_{reduce.upper()}"),
            ),
        )
        with gcp.calling("monitoring ListTimeSeries"):
            pages = self._client().list_time_series(request=request, timeout=gcp.timeout, retry=None)
            found = [_samples(one.points) for one in islice(pages, MOST)]
        return tuple(samples for samples in found if samples)

    def _client(self) -> Any:
        from google.cloud import monitoring_v3
        from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

        channel = self._gcp.channel("monitoring")
        with self._lock:
            if self._made is None:
                transport = MetricServiceGrpcTransport(channel=channel)
                self._made = monitoring_v3.MetricServiceClient(transport=transport)
            return self._made


def _timestamp(at: Instant) -> dict[str, int]:
    seconds, millis = divmod(at, SECOND)
    return {"seconds": seconds, "nanos": millis * 1_000_000}


def _samples(points: Any) -> Series:
    samples = []
    for point in points:
        kind = type(point.value).pb(point.value).WhichOneof("value")
        if kind not in ("double_value", "int64_value", "bool_value"):
            continue  # a distribution or a text is not one number
        at = Instant(int(point.interval.end_time.timestamp() * 1000))
        samples.append(Sample(at=at, value=float(getattr(point.value, kind))))
    return tuple(sorted(samples, key=lambda sample: sample.at, reverse=True))
