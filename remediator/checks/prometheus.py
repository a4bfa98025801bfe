"""Any signal that Prometheus has, as one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from remediator.clients import promql
from remediator.clients.prometheus import PrometheusClient, Series
from remediator.contracts import Check, ConnectionOf, Context, Params, Permission, Selector
from remediator.model import MINUTE, Reading, Sample

VALUE = "^[^\\x00-\\x1f\\x7f]{1,256}$"

_REDUCE: Mapping[str, Callable[[Iterable[float]], float]] = {"max": max, "min": min, "sum": sum}


class QueryParams(Params):
    connection: Annotated[str, ConnectionOf("prometheus")]
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    """PromQL. `$name` in the double-quoted value of a label matcher is replaced from `vars`."""
    vars: Annotated[
        dict[
            Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)],
            Annotated[str, Selector(VALUE), Field(pattern=VALUE)],
        ],
        Field(max_length=20, validate_default=True),
    ] = {}
    """What the placeholders stand for; each stays one literal value, in `=~` too."""
    reduce: Literal["only", "max", "min", "sum"] = "only"
    """What to make of several series. `only`: several are no data."""

    @field_validator("query")
    @classmethod
    def _placeholders_are_in_matchers(cls, query: str) -> str:
        promql.placeholders(query)
        return query

    @field_validator("vars")
    @classmethod
    def _vars_are_the_placeholders(cls, values: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if "query" not in info.data:  # it is faulty itself, which is said already
            return values
        used = promql.placeholders(info.data["query"])
        if missing := used - set(values):
            raise ValueError(f"the query has ${min(missing)}, which is not in vars")
        if unused := set(values) - used:
            raise ValueError(f"vars has {min(unused)!r}, which the query does not use as ${min(unused)}")
        return values


class Query(Check[QueryParams]):
    """Series whose value is NaN or infinite are dropped. No series left is no data, never zero.

    Prometheus evaluates at its own present and leaves out series that are stale by its rules.
    """

    name = "prometheus.query"
    summary = "The number that an instant query gives"
    params = QueryParams
    unit = ""
    max_age = MINUTE  # the sample's time is that of the evaluation: a larger gap is a clock that is wrong
    permissions = (Permission("http", "POST /api/v1/query", "evaluate an instant query"),)
    example = {
        "check": "prometheus.query",
        "with": {
            "connection": "prometheus",
            "query": 'sum(rate(http_requests_total{service="$service",code=~"5.."}[5m]))'
            ' / sum(rate(http_requests_total{service="$service"}[5m]))',
            "vars": {"service": "checkout"},
        },
        "is": "> 5%",
    }

    def read(self, context: Context, params: QueryParams) -> Reading:
        client = context.client(PrometheusClient, params.connection)
        result = client.query(promql.fill(params.query, params.vars))
        warned = "; ".join(result.warnings)[:300]
        finite = [series for series in result.series if math.isfinite(series.value)]
        if not finite:
            seen = f"{len(result.series)} series, none with a finite value" if result.series else "no series"
            return Reading(samples=(), note=_joined(seen, warned))
        if params.reduce == "only" and len(result.series) > 1:
            names = ", ".join(_labels(series) for series in result.series[:3])
            return Reading(
                samples=(),
                note=_joined(f"{len(result.series)} series where one is expected: {names}", warned),
            )
        value = _REDUCE.get(params.reduce, max)(series.value for series in finite)
        if not math.isfinite(value):
            return Reading(samples=(), note=_joined("the sum is infinite", warned))
        dropped = len(result.series) - len(finite)
        note = f"{dropped} series without a finite value left out" if dropped else ""
        at = min(series.at for series in finite)
        return Reading(samples=(Sample(at=at, value=value),), note=_joined(note, warned))


def _labels(series: Series) -> str:
    return "{" + ",".join(f'{name}="{value[:40]}"' for name, value in sorted(series.labels.items())[:4]) + "}"


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
