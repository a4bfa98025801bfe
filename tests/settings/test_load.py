"""Settings from a file, the environment and a secrets directory; and what refuses to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.errors import ConfigurationError
from remediator.model import Severity
from remediator.settings import (
    AwsConnection,
    PostgresConnection,
    Role,
    Settings,
    StoreSettings,
    load,
)
from remediator.settings.load import assemble
from remediator.settings.values import Address, parse_duration

EXAMPLE = """\
server: {host: 127.0.0.1, port: 8080}
store: {url: "sqlite:///var/lib/remediator/remediator.db"}
policies: {dir: policies, reload: 5s}
senders:
  alertmanager-prod: {kind: alertmanager, auth: {bearer: "${ALERTMANAGER_TOKEN}"}}
  gcp-prod: {kind: cloud_monitoring, auth: {basic: {username: gcp, password: "${GCP_PASSWORD}"}}}
connections:
  prometheus: {kind: prometheus, url: "http://prometheus:9090"}
  orders: {kind: postgres, dsn: "postgresql://remediator@db:5432/orders", password: "${ORDERS_PASSWORD}"}
  aws-prod: {kind: aws, region: us-east-1, account: "123456789012"}
  gcp-prod: {kind: gcp, project: example-prod}
  cluster: {kind: kubernetes, context: prod}
notifiers:
  primary: {url: "${PRIMARY_APPRISE_URL}"}
access:
  tokens: [{name: alice, role: operator, token: "${ALICE_TOKEN}"}]
"""
SECRETS = {
    "ALERTMANAGER_TOKEN": "am-s3cret-for-the-tests",
    "GCP_PASSWORD": "gcp-s3cret-for-the-tests",
    "ORDERS_PASSWORD": "pg-s3cret",
    "PRIMARY_APPRISE_URL": "json://app-s3cret@host",
    "ALICE_TOKEN": "alice-s3cret-for-tests",
}


def settings(text: str, **environment: str) -> Settings:
    return assemble(text, "remediator.yaml", environment, Path("/etc/remediator"))


def refusal(text: str, **environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(text, **environment)
    return str(caught.value)


def test_the_designs_example_loads() -> None:
    loaded = settings(EXAMPLE, **SECRETS)
    assert loaded.server.port == 8080
    assert loaded.policies.reload == 5_000
    assert loaded.policies.dir == Path("/etc/remediator/policies")
    (auth,) = loaded.senders["alertmanager-prod"].auth
    assert auth.bearer is not None
    assert auth.bearer.get_secret_value() == "am-s3cret-for-the-tests"
    orders = loaded.connections["orders"]
    assert isinstance(orders, PostgresConnection)
    assert orders.password is not None
    assert orders.password.get_secret_value() == "pg-s3cret"
    aws = loaded.connections["aws-prod"]
    assert isinstance(aws, AwsConnection)
    assert aws.account == "123456789012"
    assert loaded.access.tokens[0].role is Role.OPERATOR


def test_no_secret_shows_in_the_repr() -> None:
    text = EXAMPLE + '  # \naudit: {key: "${ALICE_TOKEN}"}\n'
    shown = repr(settings(text.replace("remediator@db", "remediator:dsn-s3cret@db"), **SECRETS))
    assert "s3cret" not in shown
    assert "db:5432/orders" in shown


def test_everything_has_a_default() -> None:
    assert settings("") == Settings()
    assert Settings().server.loopback


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/r.db", "/var/lib/r.db"),
        ("sqlite:////var/lib/r.db", "/var/lib/r.db"),
        ("sqlite:///./r.db", "r.db"),
        ("sqlite:///../r.db", "../r.db"),
    ],
)
def test_sqlite_urls_are_absolute_unless_they_start_with_a_dot(url: str, path: str) -> None:
    assert StoreSettings(url=Address(url)).path == Path(path)


def test_paths_in_the_file_start_at_the_file() -> None:
    loaded = settings(
        "store: {url: 'sqlite:///./r.db'}\npolicies: {dir: p}\n"
        "connections: {c: {kind: kubernetes, kubeconfig: k}}"
    )
    assert loaded.store.path == Path("/etc/remediator/r.db")
    assert loaded.policies.dir == Path("/etc/remediator/p")
    assert "kubeconfig=PosixPath('/etc/remediator/k')" in repr(loaded.connections["c"])
    assert settings("", REMEDIATOR_POLICIES__DIR="p").policies.dir == Path("p")


# ---------------------------------------------------------------- environment


def test_the_environment_overrides_the_file() -> None:
    loaded = settings(
        EXAMPLE,
        **SECRETS,
        REMEDIATOR_SERVER__PORT="9999",
        REMEDIATOR_SENDERS__ALERTMANAGER_PROD__AUTH__BEARER="another-token-for-tests",
        REMEDIATOR_ACCESS__TOKENS='[{"name": "bob", "role": "viewer", "token": "${ALICE_TOKEN}"}]',
        REMEDIATOR_RETENTION__AUDIT_EVENT="30d",
        REMEDIATOR_FAILPOINT="admit.before_commit:2",
    )
    assert loaded.server.port == 9999
    assert set(loaded.senders) == {"alertmanager-prod", "gcp-prod"}
    bearer = loaded.senders["alertmanager-prod"].auth[0].bearer
    assert bearer is not None
    assert bearer.get_secret_value() == "another-token-for-tests"
    assert [token.name for token in loaded.access.tokens] == ["bob"]
    assert loaded.access.tokens[0].token.get_secret_value() == "alice-s3cret-for-tests"
    assert loaded.retention.audit_event == 30 * 86_400_000
    assert loaded.failpoint == "admit.before_commit:2"


def test_variables_that_kubernetes_sets_for_a_service_are_left_alone() -> None:
    assert (
        settings(
            "",
            REMEDIATOR_PORT="tcp://10.0.0.1:8080",
            REMEDIATOR_SERVICE_HOST="10.0.0.1",
            REMEDIATOR_PORT_8080_TCP="tcp://10.0.0.1:8080",
        )
        == Settings()
    )


def test_a_variable_with_a_typo_is_refused_by_name() -> None:
    message = refusal("", REMEDIATOR_SEVER__PORT="1")
    assert "REMEDIATOR_SEVER__PORT" in message
    assert "'server'" in message
    message = refusal("", REMEDIATOR_SERVER__PROT="1")
    assert "REMEDIATOR_SERVER__PROT" in message
    assert "'port'" in message


def test_a_bad_value_in_a_variable_names_the_variable() -> None:
    message = refusal("", REMEDIATOR_SERVER__PORT="http")
    assert "REMEDIATOR_SERVER__PORT" in message
    assert "server.port" in message
    assert "http" in message
    assert "REMEDIATOR_SENDERS" in refusal("", REMEDIATOR_SENDERS__A="{not json")
    assert "set server.port as a whole" in refusal("server: {port: 1}", REMEDIATOR_SERVER__PORT__DEEPER="1")


def test_load_reads_the_process_environment_and_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "remediator.yaml").write_text("server: {port: 1234}\n")
    (tmp_path / "other.yaml").write_text("server: {port: 77}\n")
    show = "from remediator.settings import load; s = load(); print(s.server.port, s.log.level)"

    def run(**environment: str) -> str:
        path = {"PYTHONPATH": os.getcwd(), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", show],
            cwd=tmp_path,
            env={**path, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert run() == "1234 info"
    assert run(REMEDIATOR_LOG__LEVEL="debug") == "1234 debug"
    assert run(REMEDIATOR_CONFIG="other.yaml") == "77 info"


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml.*--config"):
        load(tmp_path / "absent.yaml")


# ---------------------------------------------------------------- secrets


def test_a_secret_comes_from_the_directory_first(tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_text("token-from-file-0\n")
    text = f"secrets_dir: {tmp_path}\naccess: {{tokens: [{{name: a, role: admin, token: '${{TOKEN}}'}}]}}"
    assert (
        settings(text, TOKEN="token-from-environment").access.tokens[0].token.get_secret_value()
        == "token-from-file-0"
    )
    (tmp_path / "TOKEN").unlink()
    assert (
        settings(text, TOKEN="token-from-environment").access.tokens[0].token.get_secret_value()
        == "token-from-environment"
    )


def test_a_missing_or_empty_secret_refuses_to_start() -> None:
    text = "senders:\n  a: {kind: alertmanager, auth: {bearer: '${NOPE}'}}"
    message = refusal(text)
    assert "remediator.yaml:2: senders.a.auth.bearer" in message
    assert "NOPE" in message
    assert "empty" in refusal(text, NOPE="")


def test_all_that_is_missing_is_said_at_once() -> None:
    text = "audit: {key: '${FIRST}'}\naccess: {tokens: [{name: a, role: admin, token: '${SECOND}'}]}"
    assert ["FIRST" in refusal(text), "SECOND" in refusal(text)] == [True, True]
    assert len(refusal(text).splitlines()) == 2


def test_a_secrets_name_cannot_leave_the_directory() -> None:
    assert "../x" in refusal("secrets_dir: /tmp\naudit: {key: '${../x}'}")


def test_a_secret_is_not_expanded_again_and_a_dollar_can_be_written() -> None:
    text = "audit: {key: '${A}'}\nconnections: {p: {kind: http, url: 'http://h/$${B}'}}"
    loaded = settings(text, A="${B}", B="no")
    assert loaded.audit.key is not None
    assert loaded.audit.key.get_secret_value() == "${B}"
    assert "http://h/${B}" in repr(loaded.connections["p"])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("server: {prot: 1}", ["remediator.yaml:1", "server.prot", "did you mean 'port'?"]),
        ("bogus: {}", ["bogus", "unknown key", "senders"]),
        ("server: {port: 99999}", ["server.port", "99999", "65535"]),
        ("server: {port: [1]}", ["server.port"]),
        ("\n\nserver:\n  port: 1\n  port: 2", ["remediator.yaml:5", "'port' stands twice", "line 4"]),
        ("engine: {check_timeout: 30}", ["engine.check_timeout", "30", "30s"]),
        ("engine: {check_timeout: 0s}", ["engine.check_timeout", "0s: must be greater than 0s"]),
        ("engine: {check_timeout: 1m}", ["engine.check_timeout", "1m: must be less than or equal to 20s"]),
        ("connections: {a: {kind: http, url: 'http://h', timeout: 10m}}", ["timeout: 10m: must be", " 5m"]),
        ("connections: {a: {kind: postgrs, dsn: d}}", ["connections.a.kind: postgrs", "mean 'postgres'?"]),
        ("store: {url: ''}", ["store.url", "is empty"]),
        ("approvals: {link_key: [short]}", ["approvals.link_key.0", "at least 16 characters"]),
        (
            "access: {tokens: [{name: a, role: admin, token: fifteen-letters}]}",
            ["access.tokens.0.token", "***", "at least 16 characters"],
        ),
        (
            "senders: {a: {kind: alertmanager, auth: {bearer: x}}}",
            ["senders.a.auth", "bearer", "at least 16"],
        ),
        (
            "senders: {a: {kind: alertmanager, auth: [{query_token: x}]}}",
            ["senders.a.auth.0.query_token", "at least 16 characters"],
        ),
        (
            "senders: {a: {kind: alertmanager, auth: [{basic: {username: u, password: x}}]}}",
            ["senders.a.auth.0.basic.password", "at least 16 characters"],
        ),
        ("engine: {check_timeout: '30 seconds'}", ["engine.check_timeout", "30 seconds"]),
        ("server: {body_limit: 10MB}", ["server.body_limit", "10MB", "MiB"]),
        ("store: {url: 'mysql://u:hunter2@h/d'}", ["store.url", "mysql://u:***@h/d", "postgresql://"]),
        ("connections: {a: {kind: aws, region: r, account: 12}}", ["connections.a.account", "12"]),
        ("connections: {a: {kind: awz}}", ["connections.a", "awz", "kubernetes"]),
        ("connections: {a: {region: r}}", ["connections.a", "kind"]),
        ("connections: {a: {kind: postgres}}", ["connections.a.dsn", "required"]),
        ("connections: {a: {kind: prometheus, url: 'file:///etc'}}", ["connections.a.url", "http"]),
        (
            "connections: {a: {kind: http, url: 'http://h', bearer: a, basic: {username: u, password: p}}}",
            ["both"],
        ),
        ("senders: {a: {kind: alertmanagr}}", ["senders.a.kind", "alertmanagr", "cloud_monitoring"]),
        ("senders: {'A b': {kind: alertmanager}}", ["senders.A b"]),
        (
            "senders: {a: {kind: alertmanager, "
            "auth: {bearer: token-of-tests-x, query_token: token-of-tests-y}}}",
            ["senders.a.auth", "exactly one"],
        ),
        ("senders: {a: {kind: alertmanager, auth: {}}}", ["senders.a.auth", "exactly one"]),
        ("senders: {a: {kind: cloud_monitoring, value: {annotation: v}}}", ["senders.a", "value.unit"]),
        ("senders: {a: {kind: alertmanager, severities: {page: P9}}}", ["severities.page", "P9", "'P4'"]),
        (
            "access: {tokens: [{name: a, role: boss, token: a-token-for-tests}]}",
            ["access.tokens.0.role", "boss", "'admin'"],
        ),
        ("access: {tokens: [{name: local, role: admin, token: a-token-for-tests}]}", ["local"]),
        ("senders: {manual: {kind: alertmanager}}", ["senders.manual", "otherwise"]),
        ("notifiers: {log: {url: 'json://h'}}", ["notifiers.log", "the daemon's own log"]),
        (
            "access: {tokens: [{name: a, role: admin, token: a-token-for-tests}, "
            "{name: a, role: admin, token: another-token-for-tests}]}",
            ["stands twice"],
        ),
        (
            "access: {tokens: [{name: a, role: admin, token: a-token-for-tests}, "
            "{name: b, role: viewer, token: a-token-for-tests}]}",
            ["access.tokens", "a and b have the same token"],
        ),
        ("redis: {url: 'redis://h:port/0'}", ["redis.url", "port", "0 to 65535"]),
        ("redis: {url: 'redis://:a@b@h/0'}", ["redis.url", "%40"]),
        ("store: {url: 'postgresql://u:a/b@h/d'}", ["store.url", "%2F"]),
        ("redis: {url: 'redis://h/notadb'}", ["redis.url", "database is no number", "redis://host:6379/0"]),
        ("redis: {url: 'redis://h?db=x'}", ["redis.url", "database is no number"]),
        ('engine: {name: "a\\0b"}', ["engine.name", "\\x00", "printable"]),
        (
            'access: {tokens: [{name: "a\\nb", role: admin, token: a-token-for-tests}]}',
            ["access.tokens.0.name", "printable"],
        ),
        ('notifications: {channel: "a\\0"}', ["notifications.channel", "printable"]),
        ("approvals: {session: 36500d}", ["approvals.session", "36500d", "1d"]),
        ("server: {body_limit: 2GiB}", ["server.body_limit", "2GiB", "1073741824"]),
        ("server: {trusted_proxies: [10.0.0.1/8]}", ["server.trusted_proxies.0", "10.0.0.1/8"]),
        ("server: {trusted_proxies: [0.0.0.0/0]}", ["server.trusted_proxies.0", "is everybody"]),
        ("server: {trusted_proxies: [proxy.local]}", ["server.trusted_proxies.0", "proxy.local"]),
        (
            "notifiers: {pager: {url: 'json://h'}}\naudiences: {on-call: [pagr]}",
            ["audiences.on-call", "'pagr'", "did you mean 'pager'?"],
        ),
        ("audiences: {costumers: []}", ["audiences.costumers", "did you mean 'customers'?"]),
        ("notifications: {declared: {oncall: P1}}", ["notifications.declared", "oncall", "on-call"]),
        ("notifications: {updated: {customers: P9}}", ["notifications.updated.customers", "P9", "'P4'"]),
        ("notifications: {status_every: 1s}", ["notifications.status_every", "1s"]),
        ("log: {level: loud}", ["log.level", "loud", "'debug'"]),
        ("failpoint: nowhere", ["failpoint", "nowhere", "admit.before_commit"]),
        ("- a", ["remediator.yaml:1", "mapping"]),
        ("server: {port: 1", ["remediator.yaml:1", "not YAML"]),
        ("a: &x 1\nb: *x", ["remediator.yaml", "alias"]),
        ("server: !!python/object:os.system {}", ["not allowed"]),
    ],
)
def test_a_bad_file_is_refused_with_place_key_value_and_what_is_allowed(text: str, parts: list[str]) -> None:
    message = refusal(text)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "text",
    [
        "access: {tokens: [{name: a, role: admin, token: {x: hunter2}}]}",
        "access: {tokens: [{name: a, role: admin, token: [hunter2]}]}",
        "access: {tokens: [{name: a, rule: admin, token: hunter2}]}",
        "senders: {a: {kind: alertmanager, auth: {basic: {username: u, password: 5, x: hunter2}}}}",
        "senders: {a: {kind: alertmanager, auth: hunter2}}",
        "notifiers: {a: {url: {b: 'json://hunter2'}}}",
        "connections: {a: {kind: postgres, dsn: 'postgresql://u:hunter2@h/d', timeout: never}}",
        "connections: {a: {kind: http, url: 'ftp://u:hunter2@h/'}}",
        "audit: {key: {a: hunter2}}",
        "access: {tokens: hunter2}",
        "access: {tokens: [{name: a, role: admin, token: hunter2}]}",
        "senders: {a: {kind: alertmanager, auth: {bearer: hunter2}}}",
        "senders: {a: {kind: alertmanager, auth: {query_token: hunter2}}}",
        "senders: {a: {kind: alertmanager, auth: {basic: {username: u, password: hunter2}}}}",
        "access: {tokens: [{name: a, role: admin, token: &t hunter2-hunter2-hunter2}, "
        "{name: b, role: viewer, token: *t}]}",
        "redis: {url: 'http://:a/hunter2@h:1'}",
        "redis: {url: 'redis://:hunter2@h:port/0'}",
        "redis: {url: 'redis://:a@hunter2@h:1/0'}",
        "store: {url: 'postgresql://u:a/hunter2@h/d'}",
        "store: {url: 'postgresql://u:a@hunter2@h/d'}",
    ],
)
def test_no_error_shows_a_secret(text: str) -> None:
    assert "hunter2" not in refusal(text)


def test_no_error_shows_what_a_reference_stands_for() -> None:
    message = refusal("store: {url: '${URL}'}", URL="mysql://u@h/hunter2")
    assert "hunter2" not in message
    assert "${URL}" in message


def test_all_faults_are_told_at_once() -> None:
    message = refusal("server: {port: x}\nlog: {level: y}")
    assert "server.port" in message
    assert "log.level" in message


@pytest.mark.parametrize("text", ["no", "off", "yes", "5:30", "1_000", "2026-01-01", "0x1f"])
def test_scalars_are_yaml_1_2(text: str) -> None:
    loaded = settings(f"access: {{tokens: [{{name: {text}, role: admin, token: a-token-for-tests}}]}}")
    assert loaded.access.tokens[0].name == text


# ---------------------------------------------------------------- listening beyond loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "remediator.example.com"])
def test_without_authentication_it_listens_on_loopback_only(host: str) -> None:
    message = refusal(f"server: {{host: '{host}'}}\nsenders: {{am: {{kind: alertmanager}}}}")
    assert host in message
    assert "access.tokens" in message
    assert "senders.am.auth" in message


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_none(host: str) -> None:
    loaded = settings(f"server: {{host: '{host}'}}\nsenders: {{am: {{kind: alertmanager}}}}")
    assert loaded.server.loopback


def test_with_authentication_it_listens_anywhere() -> None:
    assert not settings("server: {host: 0.0.0.0}\n" + EXAMPLE.partition("\n")[2], **SECRETS).server.loopback


# ---------------------------------------------------------------- values


def test_what_others_ask_of_the_daemon_may_be_as_short_as_they_like() -> None:
    text = "connections: {a: {kind: http, url: 'http://h', basic: {username: u, password: p}}}"
    assert settings(text).connections["a"].kind == "http"


def test_auth_may_be_a_list_for_rotation() -> None:
    both = "[{bearer: old-token-for-tests}, {bearer: new-token-for-tests}]"
    text = f"senders: {{a: {{kind: alertmanager, auth: {both}}}}}"
    assert len(settings(text).senders["a"].auth) == 2


def test_severity_words_are_added_to_the_built_in_ones() -> None:
    words = settings("senders: {a: {kind: alertmanager, severities: {Page: P2}}}").senders["a"].severities
    assert words["page"] is Severity.P2
    assert words["critical"] is Severity.P1


@pytest.mark.parametrize(
    ("text", "millis"),
    [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("90d", 7_776_000_000), ("0s", 0)],
)
def test_durations(text: str, millis: int) -> None:
    assert parse_duration(text) == millis


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-5s", "1.5h", "5S", "5w", True, None, 5, ["5s"]])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration; write"):
        parse_duration(text)


def test_addresses_hide_their_password_where_they_are_shown() -> None:
    for text in (
        "postgresql://u:hunter2@h/d",
        "host=h user=u password=hunter2",
        "postgresql://h/d?user=u&password=hunter2",
        "https://u:hunter2@h/",
        "postgresql://u:a/hunter2@h/d",
        "redis://:a@hunter2@h/0",
    ):
        assert "hunter2" not in Address(text).shown
        assert "hunter2" not in repr(Address(text))
        assert "hunter2" in str(Address(text))


@pytest.mark.parametrize(
    "url",
    ["postgresql//u:hunter2@h/d", "postgres:u:hunter2@h/d", "mysql://u:hunt er2:hunter2@h/d", "u:hunter2@h"],
)
def test_a_store_that_is_written_wrongly_is_refused_without_its_password(url: str) -> None:
    message = refusal(f"store: {{url: '{url}'}}")
    assert "hunt" not in message
    assert "***@h" in message
    assert "postgresql://user@host" in message


def test_a_call_may_not_take_longer_than_its_run_is_claimed(tmp_path: Path) -> None:
    file = tmp_path / "remediator.yaml"
    file.write_text("engine: {action_timeout: 40s}\n")
    with pytest.raises(ConfigurationError, match="action_timeout"):
        load(file)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1  # type: ignore[misc]
