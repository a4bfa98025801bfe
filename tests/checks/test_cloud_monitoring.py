"""cloud_monitoring.query and .share, with the real client library over gRPC, against a fake that reads
filters, aligns and reduces as the service does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.checks.cloud_monitoring import Query, QueryParams, Share, ShareParams, build_filter
from remediator.clients.connections import CallContext, Connections
from remediator.errors import ActionError, Permanent, Temporary
from remediator.model import Instant
from remediator.settings.connections import GcpConnection
from tests.fakes.cloud_monitoring import FakeCloudMonitoring, parse
from tests.fakes.faults import Fault
from tests.servers.ports import free_port

NOW = Instant(1_795_216_670_000)
MINUTE = 60_000
DEPTH = "pubsub.googleapis.com/subscription/num_undelivered_messages"
REQUESTS = "run.googleapis.com/request_count"


@pytest.fixture
def monitoring() -> Iterator[FakeCloudMonitoring]:
    with FakeCloudMonitoring() as fake:
        yield fake


@contextmanager
def reaching(address: str, timeout: float = 5) -> Iterator[CallContext]:
    settings = GcpConnection(project="example-prod", endpoints={"monitoring": address}, timeout=timeout)
    connections = Connections({"gcp-test": settings})
    try:
        yield CallContext(connections, NOW)
    finally:
        connections.close()


@pytest.fixture
def context(monitoring: FakeCloudMonitoring) -> Iterator[CallContext]:
    with reaching(monitoring.address) as found:
        yield found


def query(**changes: Any) -> QueryParams:
    return QueryParams(
        **({"connection": "gcp-test", "metric": DEPTH, "align": "max", "over": "5m"} | changes)
    )


def share(**changes: Any) -> ShareParams:
    values = {
        "connection": "gcp-test",
        "metric": REQUESTS,
        "resource_labels": {"service_name": "checkout"},
        "metric_labels": {"response_code_class": "5xx"},
        "over": "5m",
    }
    return ShareParams(**(values | changes))


def values(context: CallContext, params: QueryParams) -> list[float]:
    return [sample.value for sample in Query().read(context, params).samples]


# ---------------------------------------------------------------- one number


@pytest.mark.parametrize(
    ("align", "value"), [("max", 90), ("min", 10), ("mean", 50), ("sum", 150), ("delta", 150)]
)
def test_the_window_becomes_one_number(
    monitoring: FakeCloudMonitoring, context: CallContext, align: str, value: float
) -> None:
    before = (NOW - 6 * MINUTE, 1000)
    monitoring.add(DEPTH, [before, (NOW - 4 * MINUTE, 10), (NOW - 2 * MINUTE, 50), (NOW - MINUTE, 90)])
    reading = Query().read(context, query(align=align))
    assert [(sample.at, sample.value) for sample in reading.samples] == [(NOW, value)]


def test_labels_choose_the_series(monitoring: FakeCloudMonitoring, context: CallContext) -> None:
    for name, depth in (("jobs", 120), ("mail", 7)):
        monitoring.add(
            DEPTH,
            [(NOW - MINUTE, depth)],
            resource="pubsub_subscription",
            resource_labels={"subscription_id": name},
            metric_labels={"region": "eu"},
        )
    assert values(context, query(resource_labels={"subscription_id": "jobs"})) == [120]
    assert values(context, query(resource_labels={"subscription_id": "mail"})) == [7]
    assert values(context, query(resource_labels={"subscription_id": "none"})) == []
    assert values(context, query(resource_type="gce_instance")) == []
    assert values(context, query(metric_labels={"region": "eu"}, reduce="max")) == [120]


@pytest.mark.parametrize(
    ("reduce", "expected"), [("none", []), ("sum", [127]), ("max", [120]), ("min", [7]), ("mean", [63.5])]
)
def test_several_series_are_no_number_unless_reduced(
    monitoring: FakeCloudMonitoring, context: CallContext, reduce: str, expected: list[float]
) -> None:
    for name, depth in (("jobs", 120), ("mail", 7)):
        monitoring.add(DEPTH, [(NOW - MINUTE, depth)], resource_labels={"subscription_id": name})
    assert values(context, query(reduce=reduce)) == expected


def test_it_says_why_several_series_are_no_data(
    monitoring: FakeCloudMonitoring, context: CallContext
) -> None:
    for name in ("a", "b", "c"):
        monitoring.add(DEPTH, [(NOW - MINUTE, 1)], resource_labels={"subscription_id": name})
    reading = Query().read(context, query())
    assert reading.samples == ()
    assert "3 series" in reading.note


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "text", None])
def test_what_is_no_number_is_no_data(
    monitoring: FakeCloudMonitoring, context: CallContext, value: Any
) -> None:
    monitoring.add(DEPTH, [(NOW - MINUTE, value)])
    assert values(context, query()) == []


def test_no_points_in_the_window_are_no_data(monitoring: FakeCloudMonitoring, context: CallContext) -> None:
    monitoring.add(DEPTH, [(NOW - 6 * MINUTE, 1)])
    assert values(context, query()) == []


@pytest.mark.parametrize(("value", "number"), [(True, 1), (False, 0), (7, 7), (0.25, 0.25)])
def test_kinds_of_numbers(
    monitoring: FakeCloudMonitoring, context: CallContext, value: Any, number: float
) -> None:
    monitoring.add(DEPTH, [(NOW - MINUTE, value)])
    assert values(context, query()) == [number]


# ---------------------------------------------------------------- a share


def count(monitoring: FakeCloudMonitoring, code: str, requests: int, service: str = "checkout") -> None:
    monitoring.add(
        REQUESTS,
        [(NOW - MINUTE, requests)],
        resource_labels={"service_name": service},
        metric_labels={"response_code_class": code},
    )


def test_the_share_of_requests_that_failed(monitoring: FakeCloudMonitoring, context: CallContext) -> None:
    count(monitoring, "2xx", 940)
    count(monitoring, "5xx", 60)
    count(monitoring, "5xx", 5000, service="another")
    reading = Share().read(context, share())
    assert [sample.value for sample in reading.samples] == [0.06]
    assert reading.note == "60 of 1000"


def test_requests_of_which_none_failed_are_a_share_of_nothing(
    monitoring: FakeCloudMonitoring, context: CallContext
) -> None:
    count(monitoring, "2xx", 940)
    assert [sample.value for sample in Share().read(context, share()).samples] == [0]


def test_no_requests_are_no_data(monitoring: FakeCloudMonitoring, context: CallContext) -> None:
    assert Share().read(context, share()).samples == ()
    count(monitoring, "2xx", 0)
    assert Share().read(context, share()).samples == ()


def test_a_share_needs_to_know_of_what() -> None:
    with pytest.raises(ValidationError):
        share(metric_labels={})


# ---------------------------------------------------------------- hostile values

printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


@given(
    resource=st.dictionaries(keys, printable, max_size=3), metric=st.dictionaries(keys, printable, max_size=3)
)
def test_every_value_stays_one_literal(resource: Mapping[str, str], metric: Mapping[str, str]) -> None:
    text = build_filter(DEPTH, "pubsub_subscription", resource, metric)
    expected = {"metric.type": DEPTH, "resource.type": "pubsub_subscription"}
    expected |= {f"resource.labels.{key}": value for key, value in resource.items()}
    expected |= {f"metric.labels.{key}": value for key, value in metric.items()}
    assert parse(text) == expected


def test_how_a_filter_is_written() -> None:
    hostile = 'x" OR metric.type != "y\\'
    assert build_filter(DEPTH, None, {"name": hostile}, {}) == (
        f'metric.type = "{DEPTH}" AND resource.labels.name = "x\\" OR metric.type != \\"y\\\\"'
    )


def test_a_hostile_label_selects_nothing(monitoring: FakeCloudMonitoring, context: CallContext) -> None:
    monitoring.add(DEPTH, [(NOW - MINUTE, 1)], resource_labels={"subscription_id": "jobs"})
    hostile = 'x" OR resource.labels.subscription_id = "jobs'
    assert values(context, query(resource_labels={"subscription_id": hostile})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource_labels": {'a" OR b': "x"}},
        {"resource_labels": {"a": "x\ny"}},
        {"resource_labels": {"a": ""}},
        {"metric_labels": {"": "x"}},
        {"metric": 'x" OR "y'},
        {"metric": "no-slash"},
        {"resource_type": 'a" OR b'},
        {"over": "30s"},
        {"over": 300},
        {"over": "2d"},
        {"align": "rate"},
        {"reduce": "count"},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        query(**wrong)


# ---------------------------------------------------------------- what can go wrong


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("UNAVAILABLE", Temporary),
        ("RESOURCE_EXHAUSTED", Temporary),
        ("INTERNAL", Temporary),
        ("hang", Temporary),
        ("PERMISSION_DENIED", Permanent),
        ("INVALID_ARGUMENT", Permanent),
        ("NOT_FOUND", Permanent),
    ],
)
def test_no_answer_is_an_error_never_a_number(
    monitoring: FakeCloudMonitoring, answer: str, kind: type[ActionError]
) -> None:
    monitoring.faults.add(Fault("ListTimeSeries", answer))
    with reaching(monitoring.address, timeout=0.5) as context, pytest.raises(kind) as caught:
        Query().read(context, query())
    assert type(caught.value) is kind
    assert len(monitoring.calls) == 1


def test_nobody_listens() -> None:
    with reaching(f"127.0.0.1:{free_port()}", timeout=0.5) as context, pytest.raises(Temporary):
        Query().read(context, query())
