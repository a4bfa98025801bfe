"""Clients by connection name: made once, of the right kind, and named in every refusal."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import pytest

from remediator.clients.connections import CallContext, Connections
from remediator.clients.http import HttpClient
from remediator.clients.postgres import PostgresClient
from remediator.clients.prometheus import PrometheusClient
from remediator.errors import Permanent, Refused, Temporary
from remediator.model import Instant, Reason
from remediator.settings import HttpConnection, PostgresConnection, PrometheusConnection

SETTINGS = {
    "orders": PostgresConnection(dsn="postgresql://remediator@127.0.0.1:1/orders"),
    "orders-replica": PostgresConnection(dsn="postgresql://remediator@127.0.0.1:2/orders"),
    "shop": HttpConnection(url="http://127.0.0.1:1"),
    "metrics": PrometheusConnection(url="http://127.0.0.1:1"),
}


@dataclass
class Dial:
    """The settings of a client of the tests' own."""

    kind: str = "dial"


class SlowClient:
    """Takes a while to make, and counts how often."""

    made = 0

    @classmethod
    def connect(cls, name: str, settings: Any) -> Self:
        time.sleep(0.1)
        cls.made += 1
        return cls()

    def identity(self) -> str:
        return "slow"

    def close(self) -> None:
        self.closed = True


class ExtraClient(SlowClient):
    """Its library is not installed."""

    @classmethod
    def connect(cls, name: str, settings: Any) -> Self:
        import a_library_that_nobody_installed  # type: ignore[import-not-found]  # noqa: F401

        return cls()


def test_each_kind_gives_its_client_and_always_the_same_one() -> None:
    made = Connections(SETTINGS)
    context = CallContext(made, Instant(5))
    assert context.client(PostgresClient, "orders") is context.client(PostgresClient, "orders")
    assert context.client(PostgresClient, "orders") is not context.client(PostgresClient, "orders-replica")
    assert isinstance(context.client(HttpClient, "shop"), HttpClient)
    assert isinstance(context.client(PrometheusClient, "metrics"), PrometheusClient)
    assert context.now == 5
    assert context.episode is None
    made.close()


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(Refused, match="no connection is named 'order'; did you mean orders") as raised:
        Connections(SETTINGS).client(PostgresClient, "order")
    assert raised.value.reason is Reason.UNKNOWN_CONNECTION
    with pytest.raises(Refused, match="settings have none"):
        Connections({}).client(PostgresClient, "orders")


def test_a_connection_of_another_kind_is_refused() -> None:
    made = Connections(SETTINGS)
    with pytest.raises(Refused, match="'orders' is of kind postgres, not prometheus") as raised:
        made.client(PrometheusClient, "orders")
    assert (raised.value.observed, raised.value.allowed) == ("postgres", "prometheus")
    made.close()


def test_many_threads_share_one_client() -> None:
    SlowClient.made = 0
    made = Connections({"a": Dial()}, {"dial": f"{__name__}:SlowClient"})
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(made.client(SlowClient, "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SlowClient.made == 1
    assert len(seen) == 8
    assert len(set(map(id, seen))) == 1


def test_a_missing_extra_says_what_to_install() -> None:
    made = Connections({"a": Dial()}, {"dial": f"{__name__}:ExtraClient"})
    with pytest.raises(Permanent, match=r"connection 'a' .*pip install 'remediator\[dial\]'"):
        made.client(ExtraClient, "a")


def test_after_close_no_client_is_made() -> None:
    made = Connections({"a": Dial()}, {"dial": f"{__name__}:SlowClient"})
    client = made.client(SlowClient, "a")
    made.close()
    assert client.closed
    with pytest.raises(Temporary, match="shutting down"):
        made.client(SlowClient, "a")


class StuckClient(SlowClient):
    """Its server does not answer, until `go` is set."""

    go = threading.Event()
    making = threading.Event()

    @classmethod
    def connect(cls, name: str, settings: Any) -> Self:
        cls.making.set()
        cls.go.wait(60)
        return cls()


def test_a_client_that_is_being_made_does_not_keep_the_daemon_from_stopping() -> None:
    settings = {"a": Dial(), "b": Dial("slow")}
    made = Connections(settings, {"dial": f"{__name__}:StuckClient", "slow": f"{__name__}:SlowClient"})
    other = made.client(SlowClient, "b")
    making = threading.Thread(target=lambda: made.open("a"), daemon=True)
    making.start()
    assert StuckClient.making.wait(20)
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 20
    assert making.is_alive()
    assert other.closed
    StuckClient.go.set()
    making.join(20)
