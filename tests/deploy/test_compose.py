"""The try-out with Compose: its files are taken by the programs that read them, and fit together."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from remediator.clients.connections import Connections
from remediator.policy.load import read_dir
from remediator.policy.set import compile_set
from remediator.settings import PostgresConnection, Settings
from remediator.settings.load import assemble
from remediator.wiring import vocabulary
from tests.servers.postgres import Postgres, binaries
from tests.servers.process import Missing, find

ROOT = Path(__file__).parents[2]
HERE = ROOT / "deploy" / "compose"
SECRETS = "/run/remediator-secrets"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def mounts(service: str) -> dict[str, str]:
    """Place in the container → source."""
    return {
        entry.split(":")[1]: entry.split(":")[0]
        for entry in compose()["services"][service].get("volumes", [])
    }


def fits(stored: str, password: str) -> bool:
    """Whether a stored SCRAM-SHA-256 verifier is this password's (RFC 5802, section 3)."""
    _, rounds_and_salt, keys = stored.split("$")
    rounds, salt = rounds_and_salt.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client).digest() == base64.b64decode(keys.split(":")[0])


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    subprocess.run([sys.executable, "-I", str(HERE / "make_secrets.py"), str(directory)], check=True)
    return directory


def settings(secrets: Path) -> Settings:
    text = (HERE / "remediator.yaml").read_text()
    assert f"secrets_dir: {SECRETS}\n" in text
    return assemble(text.replace(SECRETS, str(secrets)), "remediator.yaml", {}, Path("/etc/remediator"))


def test_it_is_a_compose_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_that_it_names_is_there() -> None:
    found = compose()
    for name, service in found["services"].items():
        assert re.search(r":(v?\d[\w.]+|local)$", service["image"]), f"{name}: pin the image"
        for source in mounts(name).values():
            assert (ROOT / source).is_file() if source.startswith("./") else source in found["volumes"], (
                source
            )
        for other in service.get("depends_on", {}):
            assert other in found["services"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: open to this machine only"


def test_secrets_are_made_once(secrets: Path) -> None:
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    assert len(set(before.values())) == len(before) > 3
    assert all(len(text) >= 40 for text in before.values())
    assert all(not stat.S_IMODE(file.stat().st_mode) & 0o222 for file in secrets.iterdir())
    subprocess.run([sys.executable, "-I", str(HERE / "make_secrets.py"), str(secrets)], check=True)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


def test_the_daemon_takes_its_settings_and_policies(secrets: Path, tmp_path: Path) -> None:
    found = settings(secrets)
    mounted = mounts("remediator")
    assert mounted["/etc/remediator/remediator.yaml"] == "./deploy/compose/remediator.yaml"
    assert found.store.path is not None
    assert mounted[str(found.store.path.parent)] == "data"
    assert mounted[SECRETS] == "secrets"
    directory = tmp_path / "policies"
    directory.mkdir()
    for place, source in mounted.items():
        if place.startswith(f"{found.policies.dir}/"):
            (directory / Path(place).name).write_text((ROOT / source).read_text())
    policies = compile_set(read_dir(directory), vocabulary(found))
    assert list(policies.policies) == ["connection-pool-cancel-long-queries"]


def test_addresses_are_those_of_services(secrets: Path) -> None:
    services = compose()["services"]
    found = settings(secrets)
    prometheus = yaml.safe_load((HERE / "prometheus.yml").read_text())
    alertmanager = yaml.safe_load((HERE / "alertmanager.yml").read_text())
    (hook,) = alertmanager["receivers"][1]["webhook_configs"]
    assert hook["url"] == f"http://remediator:{found.server.port}/webhooks/{next(iter(found.senders))}"
    scraped = {one["job_name"]: one["static_configs"] for one in prometheus["scrape_configs"]}
    assert scraped == {
        "remediator": [{"targets": [f"remediator:{found.server.port}"]}],  # the alerts look for this name
        "orders": [{"targets": ["exporter:9187"]}],
    }
    assert "exporter" in services
    (am,) = prometheus["alerting"]["alertmanagers"]
    assert am["static_configs"][0]["targets"][0].split(":")[0] in services
    orders = found.connections["orders"]
    assert isinstance(orders, PostgresConnection)
    assert str(orders.dsn) == "postgresql://remediator@postgres:5432/orders"
    assert services["postgres"]["environment"]["POSTGRES_DB"] == "orders"
    token = hook["http_config"]["authorization"]["credentials_file"]
    assert (secrets / Path(token).name).is_file()
    assert mounts("alertmanager")[str(Path(token).parent)] == "secrets"


def test_prometheus_takes_its_file(tmp_path: Path) -> None:
    program = find("promtool", hint="apt-get install prometheus")
    mounted = mounts("prometheus")
    rules = tmp_path / "rules"
    rules.mkdir()
    for place, source in mounted.items():
        if place.startswith("/etc/prometheus/rules/"):
            (rules / Path(place).name).write_text((ROOT / source).read_text())
    text = (ROOT / mounted["/etc/prometheus/prometheus.yml"]).read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/rules", str(rules)))
    done = subprocess.run(
        [program, "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_alertmanager_takes_its_file_and_keeps_the_daemons_own_alerts_from_it() -> None:
    program = find("amtool", hint="apt-get install prometheus-alertmanager")
    file = ROOT / mounts("alertmanager")["/etc/alertmanager/alertmanager.yml"]
    done = subprocess.run([program, "check-config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    routes = {}
    for alert in ("PostgresConnectionPoolHigh", "RemediatorDown"):
        done = subprocess.run(
            [program, "config", "routes", "test", f"--config.file={file}", f"alertname={alert}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        routes[alert] = done.stdout.strip()
    assert routes == {"PostgresConnectionPoolHigh": "remediator", "RemediatorDown": "people"}


def test_the_databases_role_sees_and_ends_sessions_and_owns_nothing(secrets: Path, tmp_path: Path) -> None:
    psql = binaries() / "psql"
    if not psql.exists():
        raise Missing("psql is not beside the PostgreSQL that the tests use; apt-get install postgresql")
    script = tmp_path / "orders.sql"
    text = (HERE / "orders.sql").read_text()
    assert SECRETS in text
    script.write_text(text.replace(SECRETS, str(secrets)))
    with Postgres() as server:
        subprocess.run(
            [
                str(psql),
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                f"--file={script}",
                server.superuser_dsn,
            ],
            check=True,
        )
        orders = settings(secrets).connections["orders"]
        assert isinstance(orders, PostgresConnection)
        assert orders.password is not None
        with psycopg.connect(server.superuser_dsn) as connection:
            stored, limit, superuser = connection.execute(
                "select rolpassword, rolconnlimit, rolsuper from pg_authid where rolname = 'remediator'"
            ).fetchone() or (None, None, None)
            granted = connection.execute(
                "select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid"
                " where m.member = 'remediator'::regrole order by 1"
            ).fetchall()
        assert fits(str(stored), orders.password.get_secret_value())
        assert (limit, superuser) == (5, False)
        assert granted == [("pg_read_all_stats",), ("pg_signal_backend",)]
        dsn = f"host=127.0.0.1 port={server.port} user=remediator dbname=postgres"
        reached = PostgresConnection(dsn=dsn, password=orders.password)
        connections = Connections({"orders": reached})
        try:
            assert connections.open("orders").identity().endswith("/postgres")
        finally:
            connections.close()
