"""The API: what it shows, what it changes, who may, and how it refuses."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from remediator.settings import Role
from tests.web.served import Running, alert, body

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
AM = {"Authorization": "Bearer am-token-for-tests"}


def problem(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert "Traceback" not in response.text
    return str(document["detail"])


def opened(running: Running, fingerprint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A new alert and the run that holds for it."""
    with running.client("viewer-token-for-tests") as client:
        answer = client.post("/webhooks/am", content=body(alert(fingerprint)), headers=AM)
        assert answer.json()["accepted"] == 1
        query = {"filter": f'instance="{fingerprint}"'}
        (found,) = client.get("/api/v1/alerts", params=query).json()["items"]
        (run,) = client.get("/api/v1/runs", params={"alert": found["id"]}).json()["items"]
    return found, run


# ---------------------------------------------------------------- shapes


def test_an_alert_has_its_documented_shape(fresh: Running) -> None:
    found, _ = opened(fresh, "shape")
    assert set(found) >= {"id", "sender", "fingerprint", "status", "labels", "starts_at", "received_at"}
    assert found["labels"] == {"alertname": "Stuck", "instance": "shape", "severity": "P3"}
    assert RFC3339.fullmatch(found["starts_at"])
    with fresh.client() as client:
        assert client.get(f"/api/v1/alerts/{found['id']}").json()["fingerprint"] == "shape"


def test_a_run_has_its_binding_shape(fresh: Running) -> None:
    found, run = opened(fresh, "shape")
    binding = "id policy policy_revision alert target state outcome reason created_at updated_at"
    assert set(run) >= set(binding.split())
    assert (run["policy"], run["alert"], run["state"]) == ("hold-still", found["id"], "HOLD")
    assert run["outcome"] is None
    assert RFC3339.fullmatch(run["created_at"])
    assert RFC3339.fullmatch(run["next_at"])


def test_one_run_comes_with_its_alerts_intents_and_events(fresh: Running) -> None:
    found, run = opened(fresh, "detail")
    with fresh.client() as client:
        detail = client.get(f"/api/v1/runs/{run['id']}").json()
    assert [one["id"] for one in detail["alerts"]] == [found["id"]]
    assert detail["intents"] == []
    assert "run.created" in [event["kind"] for event in detail["events"]]


def test_an_audit_event_has_its_binding_shape(fresh: Running) -> None:
    _, run = opened(fresh, "audit")
    with fresh.client() as client:
        (event,) = client.get("/api/v1/audit", params={"kind": "run.created"}).json()["items"]
    binding = "id at kind actor alert run policy target reason observed allowed data"
    assert set(event) >= set(binding.split())
    assert event["run"] == run["id"]
    assert event["id"].startswith("audit_event:")
    assert RFC3339.fullmatch(event["at"])


def test_the_alerts_own_delivery_is_in_the_audit_log(fresh: Running) -> None:
    found, _ = opened(fresh, "delivery")
    with fresh.client() as client:
        events = client.get("/api/v1/audit", params={"alert": found["id"]}).json()["items"]
    assert "alert.accepted" in [event["kind"] for event in events]


def test_an_explanation_names_the_policy_and_what_comes_next(fresh: Running) -> None:
    found, run = opened(fresh, "explained")
    with fresh.client() as client:
        said = client.get(f"/api/v1/alerts/{found['id']}/explain").json()
        other = client.get(f"/api/v1/alerts/{found['id']}/explain", params={"policy": "absent"})
    assert said["alert"]["id"] == found["id"]
    assert [one["run"]["id"] for one in said["runs"]] == [run["id"]]
    assert said["matched"][0]["policy"] == "hold-still"
    problem(other, 404)


# ---------------------------------------------------------------- asking


def test_alerts_are_filtered_by_matchers_and_paged(fresh: Running) -> None:
    with fresh.client() as client:
        sent = body(*(alert(f"n{n}", "Odd" if n % 2 else "Even") for n in range(7)))
        client.post("/webhooks/am", content=sent, headers=AM)

        def names(**query: Any) -> tuple[list[str], int | None]:
            page = client.get("/api/v1/alerts", params=query).json()
            return [one["fingerprint"] for one in page["items"]], page["next"]

        assert names(filter='alertname="Odd"') == (["n5", "n3", "n1"], None)
        assert names(filter=['alertname="Odd"', 'instance=~"n[13]"']) == (["n3", "n1"], None)
        assert names(filter='alertname="None"') == ([], None)
        first, after = names(filter='alertname="Even"', limit=3)
        assert first == ["n6", "n4", "n2"]
        assert names(filter='alertname="Even"', limit=3, before=after) == (["n0"], None)
        everything, after = names(limit=5)
        assert len(everything) == 5
        assert names(limit=5, before=after) == (["n1", "n0"], None)
        assert names(firing="false") == ([], None)
        problem(client.get("/api/v1/alerts", params={"filter": 'a=~"("'}), 422)
        problem(client.get("/api/v1/alerts", params={"filter": "no matcher"}), 422)


def test_runs_are_filtered(fresh: Running) -> None:
    _, run = opened(fresh, "filtered")
    with fresh.client() as client:

        def ids(**query: Any) -> list[int]:
            return [one["id"] for one in client.get("/api/v1/runs", params=query).json()["items"]]

        assert ids() == ids(open="true") == ids(policy="hold-still") == [run["id"]]
        assert ids(open="false") == ids(before=run["id"]) == []
        for query in ({"policy": "hold-stil"}, {"alert": 999}):
            problem(client.get("/api/v1/runs", params=query), 404)


def test_the_audit_log_is_filtered_by_time_and_order(fresh: Running) -> None:
    opened(fresh, "timed")
    with fresh.client() as client:

        def count(**query: Any) -> int:
            return len(client.get("/api/v1/audit", params=query).json()["items"])

        assert count() > 2
        assert count(since="2999-01-01T00:00:00Z") == 0
        assert count(until="2000-01-01T00:00:00+02:00") == 0
        assert count(limit=1) == 1
        times = [
            event["at"]
            for event in client.get("/api/v1/audit", params={"oldest_first": "true"}).json()["items"]
        ]
        assert times == sorted(times)
        problem(client.get("/api/v1/audit", params={"since": "2026-01-01T00:00:00"}), 422)
        problem(client.get("/api/v1/audit", params={"since": "yesterday"}), 422)


def test_the_sealed_chain_is_whole(fresh: Running) -> None:
    opened(fresh, "sealed")
    head = fresh.run(fresh.daemon.store.seal())
    with fresh.client() as client:
        report = client.get("/api/v1/audit/verify").json()
        assert report["whole"] is True
        assert report["sealed"] > 0
        assert client.get("/api/v1/audit/verify", params={"head": head}).json()["head_found"] is True
        wrong = client.get("/api/v1/audit/verify", params={"head": "0" * 64}).json()
        assert wrong["whole"] is False


def test_policies_are_listed_with_their_text(local: Running) -> None:
    with local.client() as client:
        listed = client.get("/api/v1/policies").json()
        (policy,) = listed["items"]
        assert policy["name"] == "hold-still"
        assert policy["match"] == ['alertname="Stuck"']
        assert policy["hold"] == "1h"
        assert policy["actions"] == ["postgres.cancel_queries"]
        detail = client.get("/api/v1/policies/hold-still").json()
        assert detail["text"].startswith("name: hold-still\n")
        assert detail["revision"] == listed["revision"]
        problem(client.get("/api/v1/policies/absent"), 404)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/alerts/999999", 404),
        ("/api/v1/alerts/999999/explain", 404),
        ("/api/v1/runs/999999", 404),
        ("/api/v1/effects/999999", 404),
        ("/api/v1/runs/x", 422),
        ("/api/v1/runs/0", 422),
        ("/api/v1/runs/99999999999999999999", 422),
        ("/api/v1/runs?limit=0", 422),
        ("/api/v1/runs?limit=1001", 422),
        ("/api/v1/runs?open=perhaps", 422),
        ("/api/v1/runs?polciy=hold-still", 422),
        ("/api/v1/control?scope=", 422),
        ("/api/v1/audit?policy=%00", 422),
        ("/api/v1/audit/verify?head=%27--", 422),
        ("/api/v1/nothing", 404),
        ("/api/v1", 404),
        ("/docs", 404),
    ],
)
def test_wrong_questions_get_a_problem_document(local: Running, path: str, status: int) -> None:
    with local.client() as client:
        problem(client.get(path), status)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"scope": "", "reason": "  "}, "body.reason: say why"),
        ({"scope": "", "reason": ""}, "body.reason: is empty"),
        ({"scope": "polcy:x", "reason": "y"}, "body.scope: write policy:NAME or target:KEY"),
        ({"scope": "", "reason": "y", "expires": "3"}, "body.expires: write how long, such as 30m"),
        ({"scop": "", "reason": "y"}, "body.scop: unknown field"),
    ],
)
def test_a_wrong_body_is_answered_in_words(local: Running, body: dict[str, str], said: str) -> None:
    with local.client() as client:
        assert said in problem(client.post("/api/v1/control/pause", json=body), 422)


def test_a_wrong_method_is_405(local: Running) -> None:
    with local.client() as client:
        problem(client.delete("/api/v1/runs"), 405)
        problem(client.post("/healthz"), 405)


# ---------------------------------------------------------------- changing


def test_a_run_is_cancelled_with_a_reason(fresh: Running) -> None:
    _, run = opened(fresh, "cancelled")
    path = f"/api/v1/runs/{run['id']}/cancel"
    with fresh.client() as client:
        problem(client.post(path, json={}), 422)
        problem(client.post(path, json={"reason": ""}), 422)
        problem(client.post("/api/v1/runs/999999/cancel", json={"reason": "x"}), 404)
        done = client.post(path, json={"reason": "not tonight"})
        assert done.status_code == 200
        assert done.json()["outcome"] == "cancelled"
        problem(client.post(path, json={"reason": "again"}), 409)
        (event,) = client.get("/api/v1/audit", params={"kind": "run.cancelled"}).json()["items"]
    assert event["actor"] == "local"
    assert event["data"]["reason"] == "not tonight"


def test_a_run_is_started_by_hand(fresh: Running) -> None:
    with fresh.client() as client:
        problem(client.post("/api/v1/runs", json={"policy": "absent", "reason": "x"}), 404)
        problem(client.post("/api/v1/runs", json={"policy": "hold-still"}), 422)
        problem(client.post("/api/v1/runs", json={"policy": "hold-still", "reason": "x", "force": True}), 422)
        made = client.post(
            "/api/v1/runs", json={"policy": "hold-still", "labels": {"database": "orders"}, "reason": "drill"}
        )
        assert made.status_code == 201
        assert made.json()["origin"] == "hand"
        shown = client.get(f"/api/v1/runs/{made.json()['id']}").json()
    assert shown["alerts"][0]["labels"]["database"] == "orders"


def test_pause_needs_a_reason_and_ends_by_itself_unless_told_otherwise(fresh: Running) -> None:
    with fresh.client() as client:
        path = "/api/v1/control/pause"
        problem(client.post(path, json={}), 422)
        problem(client.post(path, json={"reason": "x", "scope": "everything"}), 422)
        problem(client.post(path, json={"reason": "x", "expires": "soon"}), 422)
        problem(client.post(path, json={"reason": "x", "expires": "0s"}), 422)
        problem(client.post(path, json={"reason": "x", "expires": "999999999d"}), 422)
        assert "hold-still" in problem(client.post(path, json={"reason": "x", "scope": "policy:typo"}), 404)
        control = client.post(path, json={"reason": "maintenance"}).json()
        assert (control["kind"], control["scope"], control["actor"]) == ("pause", "", "local")
        assert RFC3339.fullmatch(control["until"])
        never = client.post(path, json={"reason": "x", "scope": "policy:hold-still", "expires": "never"})
        assert never.json()["until"] is None
        detail = problem(client.post(path, json={"reason": "x", "scope": "policy:hold-stil"}), 404)
        assert "did you mean 'hold-still'?" in detail
        for typo in ("target:orders", "target:postgre:orders", "target:postgres:"):
            assert "is no target" in problem(client.post(path, json={"reason": "x", "scope": typo}), 404)
        assert "hold-still" in str(never.json()["scope"])
        assert never.json()["warning"] == ""
        unseen = {"reason": "x", "scope": "target:postgres:1/orders", "expires": "30m"}
        assert "no run has met postgres:1/orders" in client.post(path, json=unseen).json()["warning"]
        scopes = [one["scope"] for one in client.get("/api/v1/control").json()["items"]]
        assert sorted(scopes) == ["", "policy:hold-still", "target:postgres:1/orders"]
        (target,) = client.get("/api/v1/targets").json()["items"]
        assert target["key"] == "postgres:1/orders"
        assert target["pause"]["reason"] == "x"

        resume = "/api/v1/control/resume"
        assert client.post(resume, json={"reason": "done"}).json() == {"resumed": True}
        assert client.post(resume, json={"reason": "done"}).json() == {"resumed": False}
        kinds = [event["kind"] for event in client.get("/api/v1/audit").json()["items"]]
    assert "control.paused" in kinds
    assert "control.resumed" in kinds


def test_reload_takes_up_what_changed_and_keeps_the_old_set_if_it_is_wrong(fresh: Running) -> None:
    directory = fresh.daemon.settings.policies.dir
    good = (directory / "hold-still.yaml").read_text()
    with fresh.client() as client:
        assert client.post("/-/reload").json()["changed"] is False
        (directory / "hold-still.yaml").write_text(good.replace("for: 1h", "for: 2h"))
        assert client.post("/-/reload").json()["changed"] is True
        assert client.get("/api/v1/policies/hold-still").json()["hold"] == "2h"
        (directory / "hold-still.yaml").write_text(good.replace("match:", "mtach:"))
        assert "mtach" in problem(client.post("/-/reload"), 409)
        listed = client.get("/api/v1/policies").json()
        assert listed["items"][0]["hold"] == "2h"
        assert "mtach" in listed["fault"]


def test_a_body_for_the_api_is_bounded(local: Running) -> None:
    with local.client() as client:
        problem(client.post("/api/v1/runs", content=b"x" * (2 << 20)), 413)


# ---------------------------------------------------------------- who may

READS = [
    "/api/v1/alerts",
    "/api/v1/runs",
    "/api/v1/incidents",
    "/api/v1/audit",
    "/api/v1/policies",
    "/api/v1/effects",
    "/api/v1/targets",
    "/api/v1/control",
]
CHANGES = [
    "/api/v1/runs",
    "/api/v1/runs/1/cancel",
    "/api/v1/incidents/1/ack",
    "/api/v1/incidents/1/resolve",
    "/api/v1/control/pause",
    "/api/v1/policies/hold-still/restore",
    "/api/v1/effects/1/renew",
    "/api/v1/effects/1/return",
    "/-/reload",
]


MORE = {"/api/v1/runs": {"policy": "hold-still"}, "/api/v1/effects/1/renew": {"expires": "2h"}}


@pytest.mark.parametrize("path", READS)
def test_reading_needs_a_token(guarded: Running, path: str) -> None:
    with guarded.client() as client:
        response = client.get(path)
        problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")
    with guarded.client("wrong-token") as client:
        assert "wrong-token" not in problem(client.get(path), 401)
    with guarded.client("am-token-for-tests") as client:
        problem(client.get(path), 401)
    with guarded.client("viewer-token-for-tests") as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", CHANGES)
def test_changing_needs_an_operator(guarded: Running, path: str) -> None:
    json = {"reason": "x"}
    with guarded.client() as client:
        problem(client.post(path, json={"policy": "hold-still", **json}), 401)
    for token, name in (("viewer-token-for-tests", "vera"), ("auditor-token-for-tests", "alma")):
        with guarded.client(token) as client:
            given = {**json, **MORE.get(path, {})}
            detail = problem(client.post(path, json=given), 403)
            assert name in detail
            assert "operator" in detail


def test_verifying_the_log_needs_an_auditor(guarded: Running) -> None:
    with guarded.client("viewer-token-for-tests") as client:
        problem(client.get("/api/v1/audit/verify"), 403)
    for token in ("auditor-token-for-tests", "operator-token-for-tests"):
        with guarded.client(token) as client:
            assert client.get("/api/v1/audit/verify").status_code == 200


def test_the_callers_name_is_the_actor(guarded: Running) -> None:
    with guarded.client("operator-token-for-tests") as client:
        assert client.post("/api/v1/control/pause", json={"reason": "x"}).json()["actor"] == "otto"
        client.post("/api/v1/control/resume", json={"reason": "x"})
        (event,) = client.get("/api/v1/audit", params={"kind": "control.resumed"}).json()["items"]
    assert event["actor"] == "otto"


def test_roles_are_ordered_as_documented() -> None:
    assert [role.value for role in sorted(Role, key=lambda role: role.rank)] == [
        "viewer",
        "auditor",
        "operator",
        "manager",
        "lead",
        "admin",
    ]


@pytest.mark.parametrize("path", ["/healthz", "/-/healthy", "/readyz", "/-/ready", "/metrics"])
def test_health_and_metrics_need_no_token(guarded: Running, path: str) -> None:
    with guarded.client() as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_without_tokens_a_web_page_is_kept_out(local: Running, headers: dict[str, str]) -> None:
    with local.client() as client:
        problem(client.get("/api/v1/runs", headers=headers), 403)
        problem(client.post("/api/v1/control/pause", json={"reason": "x"}, headers=headers), 403)


def test_without_tokens_this_machine_is_let_in(local: Running) -> None:
    with local.client() as client:
        for host in (f"127.0.0.1:{local.port}", f"localhost:{local.port}", f"[::1]:{local.port}"):
            headers = {"Host": host, "Origin": f"http://{host}"}
            assert client.get("/api/v1/runs", headers=headers).status_code == 200


# ---------------------------------------------------------------- the daemon itself


def test_metrics_are_prometheus_text_with_zeros_from_the_start(fresh: Running) -> None:
    with fresh.client() as client:
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert 'remediator_truncated_alerts_total{sender="token"} 0.0' in lines
    assert 'remediator_alerts_total{result="accepted",sender="token"} 0.0' in lines
    assert any(line.startswith("remediator_build_info{version=") for line in lines)
    assert 'remediator_refusals_total{reason="bound_exceeded"} 0.0' in lines


def test_a_stopped_store_is_503_for_the_api_too(fresh: Running) -> None:
    fresh.run(fresh.daemon.store.close())
    with fresh.client() as client:
        problem(client.get("/api/v1/runs"), 503)
    fresh.run(fresh.daemon.store.open())
