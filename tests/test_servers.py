"""The test servers are real, start quickly and leave nothing behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from tests.servers.alertmanager import Alertmanager, webhook_config
from tests.servers.moto import CREDENTIALS, Moto
from tests.servers.ports import free_port, listens
from tests.servers.postgres import Postgres
from tests.servers.postgres import wheel as postgres_wheel
from tests.servers.process import Failed, Missing, Process, find
from tests.servers.prometheus import Prometheus
from tests.servers.redis import Redis, binary, wheel


def test_postgres_comes_back_with_its_data_after_a_crash() -> None:
    with Postgres(max_connections=20) as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
            assert connection.execute("show max_connections").fetchone() == ("20",)
            assert connection.execute("show fsync").fetchone() == ("on",)
            connection.execute("create table kept (value int)")
            connection.execute("insert into kept values (7)")
        server.kill()
        assert not listens(server.port)
        server.start()
        with psycopg.connect(server.superuser_dsn) as connection:
            assert connection.execute("select value from kept").fetchone() == (7,)
    assert not listens(server.port)
    assert not server.directory.exists()


def test_postgres_of_the_wheel_starts_too() -> None:
    with Postgres(bin_dir=postgres_wheel()) as server, psycopg.connect(server.superuser_dsn) as connection:
        assert connection.info.server_version >= 170000


def test_a_rule_that_fires_reaches_alertmanager() -> None:
    with Alertmanager(webhook_config("http://127.0.0.1:9/none")) as alertmanager:
        rule = {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "critical"}}
        with Prometheus(rules=[rule], alertmanager=alertmanager.url) as prometheus:
            deadline = time.monotonic() + 10
            while not (found := alertmanager.alerts()) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert [alert["labels"]["alertname"] for alert in found] == ["Always"]
            assert prometheus.query("vector(2)")[0]["value"][1] == "2"


@pytest.mark.parametrize("find_program", [binary, wheel])
def test_redis_comes_back_empty(find_program: Callable[[], str]) -> None:
    with Redis(find_program()) as server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        server.process.stop()
        server.process.start()
        assert client.get("key") is None


def test_moto_answers_the_real_sdk(moto_server: Moto) -> None:
    import boto3

    client = boto3.client("sqs", region_name="us-east-1", endpoint_url=moto_server.url, **CREDENTIALS)
    url = client.create_queue(QueueName="jobs-of-the-server-test")["QueueUrl"]
    assert url.endswith("/jobs-of-the-server-test")
    client.close()


def test_a_process_that_ends_early_is_named_with_its_log(tmp_path: Path) -> None:
    child = Process(
        [sys.executable, "-c", "print('no such setting'); raise SystemExit(3)"],
        log=tmp_path / "log",
        ready=lambda: False,
    )
    with pytest.raises(Failed, match=r"ended with 3(.|\n)*no such setting"):
        child.start()


def test_a_process_that_ignores_the_request_to_end_is_killed_with_its_children(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"subprocess.Popen([sys.executable, '-m', 'http.server', '--bind', '127.0.0.1', '{port}']);"
        "time.sleep(60)"
    )
    child = Process(
        [sys.executable, "-c", script], log=tmp_path / "log", ready=lambda: listens(port), grace=0.2
    )
    with child:
        assert child.running
    assert child.returncode == -9
    assert not listens(port)


def test_a_missing_program_says_how_to_get_it() -> None:
    with pytest.raises(Missing, match="no-such-program is not on the PATH; apt-get install it"):
        find("no-such-program", hint="apt-get install it")
