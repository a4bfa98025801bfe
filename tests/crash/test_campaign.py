"""A short campaign on each store; `make crash` runs a long one, by any seed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.crash.campaign import Plan, Result, campaign
from tests.servers.postgres import Postgres


def nothing_broken(result: Result) -> None:
    assert {name: found for name, found in result.violations.items() if found} == {}
    assert result.counts["calls that arrived"] > 10
    assert result.counts["outcomes unknown"] > 0


@pytest.mark.slow
def test_a_short_campaign_on_sqlite(tmp_path: Path) -> None:
    """The daemon is alone, and stopped in a call for longer than its lease: it then meets itself."""
    plan = Plan(seed=4, alerts=40, kills=4, long_stops=1, lease=3, pace=1.3, brief=True)
    result = campaign(plan, tmp_path, None)
    nothing_broken(result)
    assert result.counts["kill -9"] == 4
    assert result.counts["… for longer than a lease"] == 1


@pytest.mark.slow
def test_a_short_campaign_on_postgres(tmp_path: Path) -> None:
    """Three replicas, and one of them stopped for longer than its lease, which is shortened for that."""
    with Postgres() as server:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as link:
            link.execute("CREATE DATABASE crash")
        plan = Plan(seed=7, alerts=40, kills=3, replicas=3, long_stops=1, lease=3, pace=1.3, brief=True)
        result = campaign(plan, tmp_path, server.dsn(dbname="crash"))
    nothing_broken(result)
    assert result.counts["kill -9"] == 3
    assert result.counts["… for longer than a lease"] == 1
