"""The Cloud Monitoring API v3 as far as reading needs it: ListTimeSeries with filters, alignment and
reduction over points that a test puts in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud import monitoring_v3

from tests.fakes.rpc import FakeRpc, Rejected

_FOLD: Mapping[str, Callable[[Sequence[float]], float]] = {
    "MEAN": lambda values: sum(values) / len(values),
    "MAX": max,
    "MIN": min,
    "SUM": sum,
    "DELTA": sum,
}


@dataclass
class Stored:
    """One time series: what identifies it, and its points as (milliseconds, value)."""

    fields: dict[str, str]
    points: list[tuple[int, Any]]


class FakeCloudMonitoring(FakeRpc):
    """Serves MetricService, for `endpoints: {monitoring: <address>}`."""

    def __init__(self) -> None:
        super().__init__(
            {
                "google.monitoring.v3.MetricService": {
                    "ListTimeSeries": (
                        self._list,
                        monitoring_v3.ListTimeSeriesRequest,
                        monitoring_v3.ListTimeSeriesResponse,
                    )
                }
            }
        )
        self._lock = threading.Lock()
        self._series: list[Stored] = []

    def add(
        self,
        metric: str,
        points: Sequence[tuple[int, Any]],
        *,
        resource: str = "global",
        resource_labels: Mapping[str, str] | None = None,
        metric_labels: Mapping[str, str] | None = None,
    ) -> None:
        """A time series. A point's value may be a number, a bool, a text, or None for a distribution."""
        fields = {"metric.type": metric, "resource.type": resource}
        fields |= {f"resource.labels.{key}": value for key, value in (resource_labels or {}).items()}
        fields |= {f"metric.labels.{key}": value for key, value in (metric_labels or {}).items()}
        with self._lock:
            self._series.append(Stored(fields, list(points)))

    def forget(self) -> None:
        """The data stops, and what there was is out of every window."""
        with self._lock:
            self._series.clear()

    def _list(self, request: monitoring_v3.ListTimeSeriesRequest) -> monitoring_v3.ListTimeSeriesResponse:
        wanted = parse(request.filter)
        if "metric.type" not in wanted:
            raise Rejected("INVALID_ARGUMENT", "The filter must specify a single metric type")
        start, end = (_millis(at) for at in (request.interval.start_time, request.interval.end_time))
        period = request.aggregation.alignment_period.total_seconds()
        if period < 60 or not start < end:
            raise Rejected("INVALID_ARGUMENT", "The alignment period must be at least 60 seconds")
        align = request.aggregation.per_series_aligner.name.removeprefix("ALIGN_")
        reduce = request.aggregation.cross_series_reducer.name.removeprefix("REDUCE_")
        aligned: list[Any] = []
        with self._lock:
            for one in self._series:
                if any(one.fields.get(key) != value for key, value in wanted.items()):
                    continue
                inside = [value for at, value in one.points if start < at <= end]
                if inside:
                    aligned.append(_fold(align, inside))
        if aligned and reduce != "NONE":
            aligned = [_fold(reduce, aligned)]
        return monitoring_v3.ListTimeSeriesResponse(
            time_series=[
                monitoring_v3.TimeSeries(
                    points=[
                        monitoring_v3.Point(
                            interval={"end_time": request.interval.end_time}, value=_typed(value)
                        )
                    ]
                )
                for value in aligned
            ]
        )


def parse(text: str) -> dict[str, str]:
    """Read a filter of comparisons with `=`, joined by AND.

    Raises:
        Rejected: (INVALID_ARGUMENT) it is not that.
    """
    found: dict[str, str] = {}
    at = 0
    while True:
        equals = text.find(' = "', at)
        key = text[at:equals]
        if equals < 0 or not key or any(one in key for one in ' "\\'):
            raise Rejected("INVALID_ARGUMENT", f"Could not parse filter {text!r} at {at}")
        value, at = _literal(text, equals + 4)
        found[key] = value
        if at == len(text):
            return found
        if not text.startswith(" AND ", at):
            raise Rejected("INVALID_ARGUMENT", f"Could not parse filter {text!r} at {at}")
        at += len(" AND ")


def _literal(text: str, at: int) -> tuple[str, int]:
    """The text of a quoted literal whose first character is at `at`, and where it ends."""
    value = ""
    while at < len(text):
        if text[at] == '"':
            return value, at + 1
        if text[at] == "\\":
            at += 1
        value += text[at : at + 1]
        at += 1
    raise Rejected("INVALID_ARGUMENT", f"Unterminated string in filter {text!r}")


def _fold(how: str, values: list[Any]) -> Any:
    if how not in _FOLD:
        raise Rejected("INVALID_ARGUMENT", f"{how} is not in this fake")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _FOLD[how](values)
    return values[-1]


def _typed(value: Any) -> monitoring_v3.TypedValue:
    kinds = {bool: "bool_value", int: "int64_value", float: "double_value", str: "string_value"}
    if type(value) in kinds:
        return monitoring_v3.TypedValue(**{kinds[type(value)]: value})
    return monitoring_v3.TypedValue(distribution_value={"count": 1, "mean": 2.0})


def _millis(at: Any) -> int:
    return int(at.timestamp() * 1000)
