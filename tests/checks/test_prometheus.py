"""Instant queries against a real Prometheus that scrapes a real exporter."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from remediator.checks.prometheus import Query, QueryParams
from remediator.clients.connections import CallContext, Connections
from remediator.clients.prometheus import PrometheusClient
from remediator.errors import Permanent, Temporary
from remediator.model import Instant, Reading
from remediator.settings import PrometheusConnection
from tests.servers.ports import free_port
from tests.servers.prometheus import Prometheus

CHECK = Query()
METRICS = rb"""
depth{queue="prod-jobs"} 120
depth{queue="prod-mail"} 30
depth{queue="a\"b\\c"} 7
odd{kind="nan"} NaN
odd{kind="inf"} +Inf
odd{kind="one"} 1
"""


class Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, *args: Any) -> None:
        pass


class Rude(BaseHTTPRequestHandler):
    """Not a Prometheus: answers with what the path's first part says."""

    def do_POST(self) -> None:
        status = int(self.path.split("/")[1])
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"<html>sign in</html>")

    def log_message(self, *args: Any) -> None:
        pass


def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def exporter() -> Iterator[int]:
    yield from serve(Exporter)


@pytest.fixture(scope="module")
def rude() -> Iterator[int]:
    yield from serve(Rude)


@pytest.fixture(scope="module")
def prometheus(exporter: int) -> Iterator[Prometheus]:
    with Prometheus(targets=[f"127.0.0.1:{exporter}"], interval="200ms") as server:
        deadline = time.monotonic() + 10
        while not server.query("depth"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server


def read(url: str, query: str, **params: Any) -> Reading:
    made = Connections({"metrics": PrometheusConnection(url=url)})
    try:
        wanted = QueryParams.model_validate({"connection": "metrics", "query": query} | params)
        return CHECK.read(CallContext(made, Instant(0)), wanted)
    finally:
        made.close()


def value(reading: Reading) -> float:
    (sample,) = reading.samples
    return sample.value


def test_a_single_series_and_a_scalar_are_a_number_with_prometheus_time(prometheus: Prometheus) -> None:
    before = time.time() * 1000 - 1000
    reading = read(prometheus.url, 'depth{queue="prod-jobs"}')
    assert value(reading) == 120
    assert before < reading.samples[0].at < time.time() * 1000 + 1000
    assert value(read(prometheus.url, "scalar(sum(depth))")) == 157


def test_labels_select_what_they_name_and_nothing_else(prometheus: Prometheus) -> None:
    def depth(queue: str, operator: str = "=") -> Reading:
        return read(prometheus.url, f'depth{{queue{operator}"$queue"}}', vars={"queue": queue})

    assert value(depth("prod-mail")) == 30
    assert value(depth('a"b\\c')) == 7
    assert value(depth('a"b\\c', "=~")) == 7
    for hostile in ('x"} or depth{queue="prod-jobs', ".*", "prod-.+", "prod-jobs|prod-mail", "prod.jobs"):
        assert depth(hostile).samples == ()
        assert depth(hostile, "=~").samples == ()


def test_several_series_are_no_data_unless_reduced(prometheus: Prometheus) -> None:
    query = 'depth{queue=~"prod-.+"}'
    several = read(prometheus.url, query)
    assert several.samples == ()
    assert "2 series where one is expected" in several.note
    assert value(read(prometheus.url, query, reduce="max")) == 120
    assert value(read(prometheus.url, query, reduce="min")) == 30
    assert value(read(prometheus.url, query, reduce="sum")) == 150


def test_nothing_nan_and_infinity_are_no_data(prometheus: Prometheus) -> None:
    assert read(prometheus.url, "no_such_metric").note == "no series"
    for kind in ("nan", "inf"):
        reading = read(prometheus.url, f'odd{{kind="{kind}"}}')
        assert reading.samples == ()
        assert "none with a finite value" in reading.note
    assert read(prometheus.url, "vector(0)/0").samples == ()
    largest = read(prometheus.url, "odd", reduce="max")
    assert (value(largest), largest.note) == (1, "2 series without a finite value left out")


def test_a_wrong_query_is_permanent_and_says_why(prometheus: Prometheus) -> None:
    with pytest.raises(
        Permanent, match=r"prometheus:metrics cannot evaluate the query: bad_data: .*parse error"
    ):
        read(prometheus.url, "depth{")
    with pytest.raises(Permanent, match="gives a matrix; a check needs a number"):
        read(prometheus.url, "depth[1m]")


def test_out_of_reach_is_temporary() -> None:
    with pytest.raises(Temporary, match="prometheus:metrics: ConnectError"):
        read(f"http://127.0.0.1:{free_port()}", "up")


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (200, Permanent, "not as Prometheus' API does"),
        (302, Permanent, "not as Prometheus' API does"),
        (401, Permanent, "credentials"),
        (403, Permanent, "credentials"),
        (404, Permanent, "check the connection's url"),
        (429, Temporary, "answered 429"),
        (502, Temporary, "answered 502"),
    ],
)
def test_what_stands_in_front_of_prometheus_is_told_apart(
    rude: int, status: int, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        read(f"http://127.0.0.1:{rude}/{status}", "up")


def test_identity_is_the_address_without_credentials(prometheus: Prometheus) -> None:
    secret = prometheus.url.replace("http://", "http://ada:hunter2@")
    client = PrometheusClient.connect("metrics", PrometheusConnection(url=secret, bearer=SecretStr("t")))
    assert client.identity().rstrip("/") == prometheus.url
    client.close()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"query": "depth{queue=$q}", "vars": {"q": "x"}}, "only in the double-quoted value"),
        ({"query": 'depth{queue="$q"}'}, "has \\$q, which is not in vars"),
        ({"query": "depth", "vars": {"q": "x"}}, "vars has 'q'"),
        ({"query": ""}, "at least 1"),
        ({"query": "x" * 4097}, "at most 4096"),
        ({"query": 'depth{a="$q"}', "vars": {"q": ""}}, "pattern"),
        ({"query": 'depth{a="$q"}', "vars": {"q": "a\nb"}}, "pattern"),
        ({"query": 'depth{a="$q"}', "vars": {"q": "x" * 257}}, "pattern"),
        ({"query": "depth", "reduce": "avg"}, "'only', 'max', 'min' or 'sum'"),
    ],
)
def test_a_faulty_use_is_refused_when_the_policy_loads(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        QueryParams.model_validate({"connection": "metrics"} | params)
