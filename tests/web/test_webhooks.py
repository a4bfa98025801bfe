"""Webhooks over real HTTP: who may post, what is answered, and that 2xx means committed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
import socket
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from remediator.contracts import Claimant, Delivery, Match, Receipt
from remediator.errors import StoreUnavailable
from remediator.model import Instant
from tests.web.served import PAYLOADS, Running, alert, body, serving

BEARER = {"Authorization": "Bearer am-token-for-tests"}


def post(running: Running, path: str, content: bytes, **headers: str) -> httpx2.Response:
    with running.client() as client:
        return client.post(f"/webhooks/{path}", content=content, headers=headers)


def problem(response: httpx2.Response, status: int) -> str:
    """The detail of a problem document of this status."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    return str(document["detail"])


def metric(running: Running, line: str) -> float:
    with running.client() as client:
        for found in client.get("/metrics").text.splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
    raise AssertionError(f"no metric {line}")


# ---------------------------------------------------------------- what is taken


def test_an_alert_is_committed_before_the_answer_and_opens_its_run(local: Running) -> None:
    answer = post(local, "am", body(alert("one"), alert("two", "Other")), **BEARER)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    path = local.daemon.settings.store.path
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        (runs,) = database.execute("select count(*) from run").fetchone()
    assert runs == 1
    with local.client() as client:
        (run,) = client.get("/api/v1/runs", params={"open": "true"}).json()["items"]
    assert run["policy"] == "hold-still"
    assert run["state"] == "HOLD"
    assert run["target"] == "postgres:orders"


class GoesAway:
    """The store; once a delivery is committed it answers nothing any more."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def offer(
        self, delivery: Delivery, match: Match, claimant: Claimant | None = None
    ) -> Receipt | asyncio.Future[Receipt]:
        taken: Receipt | asyncio.Future[Receipt] = self._store.offer(delivery, match, claimant)
        self._away = True
        return taken

    async def now(self) -> Instant:
        self._look()
        now: Instant = await self._store.now()
        return now

    def told(self) -> Instant | None:
        self._look()
        told: Instant | None = self._store.told()
        return told

    def _look(self) -> None:
        if self._away:
            raise StoreUnavailable("the store did not answer within 2s; try again")


def test_what_is_committed_is_answered_so_although_the_store_goes_away(fresh: Running) -> None:
    fresh.daemon.store = GoesAway(fresh.daemon.store)  # type: ignore[assignment]
    answer = post(fresh, "am", body(alert("one")), **BEARER)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


def test_a_repeat_is_counted_as_one_and_a_resolve_ends_it(local: Running) -> None:
    first = alert("again", "Other")
    assert post(local, "am", body(first), **BEARER).json()["accepted"] == 1
    assert post(local, "am", body(first, groupKey="a peer"), **BEARER).json()["repeated"] == 1
    gone = {**first, "status": "resolved", "endsAt": first["startsAt"]}
    assert post(local, "am", body(gone), **BEARER).json()["resolved"] == 1
    with local.client() as client:
        (found,) = client.get("/api/v1/alerts", params={"filter": 'instance="again"'}).json()["items"]
    assert found["status"] == "resolved"


def test_an_alert_ended_when_its_sender_says(local: Running) -> None:
    first = alert("ends", "Other")
    assert post(local, "am", body(first), **BEARER).json()["accepted"] == 1
    with local.client() as client:
        (found,) = client.get("/api/v1/alerts", params={"filter": 'instance="ends"'}).json()["items"]
        ended = datetime.fromisoformat(found["received_at"]) + timedelta(milliseconds=1)
        while datetime.now(UTC) <= ended:  # what ends later than it is known counts as ended then
            time.sleep(0.001)
        said = ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        gone = {**first, "status": "resolved", "endsAt": said}
        assert post(local, "am", body(gone), **BEARER).json()["resolved"] == 1
        (found,) = client.get("/api/v1/alerts", params={"filter": 'instance="ends"'}).json()["items"]
    assert found["ends_at"] == said


def test_a_sender_whose_clock_is_ahead_opens_one_episode_not_two(local: Running) -> None:
    """It is known again by the startsAt that was sent, although it counts from its receipt."""
    ahead = alert("ahead", "Other", startsAt=datetime.fromtimestamp(time.time() + 20, UTC).isoformat())
    assert post(local, "am", body(ahead), **BEARER).json()["accepted"] == 1
    assert post(local, "am", body(ahead, groupKey="a peer"), **BEARER).json()["repeated"] == 1
    assert post(local, "am", body({**ahead, "status": "resolved"}), **BEARER).json()["resolved"] == 1
    late = post(local, "am", body(ahead, groupKey="a late peer"), **BEARER).json()
    assert (late["accepted"], late["repeated"]) == (0, 1)


def test_good_alerts_are_taken_although_another_is_bad(local: Running) -> None:
    answer = post(local, "am", body(alert("good", "Other"), alert("bad", status="odd")), **BEARER)
    assert answer.status_code == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 1)
    event = local.events("alert.rejected")[0].event
    assert "alerts[1].status" in event.observed
    assert event.actor == "sender:am"


def test_a_body_that_cannot_be_read_is_400_and_kept(local: Running) -> None:
    before = metric(local, 'remediator_alerts_total{result="rejected",sender="am"}')
    detail = problem(post(local, "am", b"{not json at all", **BEARER), 400)
    assert "Alertmanager" in detail
    path = local.daemon.settings.store.path
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        kept = [row[0] for row in database.execute("select body from rejected")]
    assert b"{not json at all" in kept
    assert metric(local, 'remediator_alerts_total{result="rejected",sender="am"}') == before + 1


def test_a_wrong_version_is_400_and_named(local: Running) -> None:
    response = post(local, "am", b'{"version":"1","alerts":[]}', **BEARER)
    assert "version" in problem(response, 400)
    assert response.json()["errors"][0]["field"] == "version"


def test_cloud_monitorings_test_notification_is_recorded_and_nothing_else(local: Running) -> None:
    answer = post(local, "gcp", (PAYLOADS / "gcp-monitoring-test.json").read_bytes())
    assert answer.status_code == 200
    assert answer.json()["test"] is True
    assert local.events("alert.test")[0].event.actor == "sender:gcp"
    with local.client() as client:
        found = client.get("/api/v1/alerts").json()["items"]
    assert [one for one in found if one["sender"] == "gcp"] == []


def test_truncated_alerts_show_in_metric_and_audit(local: Running) -> None:
    name = 'remediator_truncated_alerts_total{sender="am"}'
    before = metric(local, name)
    post(local, "am", body(alert("trunc", "Other"), truncatedAlerts=5), **BEARER)
    assert metric(local, name) == before + 5
    accepted = [record.event for record in local.events("alert.accepted")]
    assert [event.data["truncated"] for event in accepted if event.data.get("truncated")] == [5]


def test_the_store_is_timed(local: Running) -> None:
    name = 'remediator_store_duration_seconds_count{operation="accept"}'
    before = metric(local, name)
    post(local, "am", body(alert("timed", "Other")), **BEARER)
    assert metric(local, name) == before + 1
    assert metric(local, 'remediator_store_duration_seconds_count{operation="write"}') > 0


def test_a_count_beyond_all_columns_spoils_no_alert(local: Running) -> None:
    answer = post(local, "am", body(alert("huge", "Other"), truncatedAlerts=10**400), **BEARER)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


def test_the_recorded_payloads_are_taken(local: Running) -> None:
    firing = (PAYLOADS / "alertmanager-v4-firing.json").read_bytes()
    assert post(local, "am", firing, **BEARER).json()["accepted"] == 1
    resolved = (PAYLOADS / "alertmanager-v4-resolved.json").read_bytes()
    assert post(local, "am", resolved, **BEARER).json()["resolved"] == 1
    incident = (PAYLOADS / "gcp-monitoring-1.2-open.json").read_bytes()
    assert post(local, "gcp", incident).json()["accepted"] == 1


# ---------------------------------------------------------------- who may post


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer am-token-for-tests",
        "bearer am-token-for-tests",
        "Bearer next-token-for-tests",
        basic("am", "p:w-for-the-tests"),
    ],
)
def test_any_configured_credential_will_do(local: Running, credential: str) -> None:
    assert post(local, "am", body(), Authorization=credential).status_code == 200


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer am-token2",
        "Bearer query-token-for-tests",
        "am-token-for-tests",
        basic("am", "wrong"),
        basic("am", ""),
        "Basic !!!",
        "Basic am-token-for-tests",
        "Digest am-token-for-tests",
    ],
)
def test_a_wrong_credential_is_401_with_a_challenge(local: Running, credential: str) -> None:
    response = post(local, "am", body(alert("forged")), Authorization=credential)
    detail = problem(response, 401)
    assert "senders.am.auth" in detail
    assert "am-token-for-tests" not in detail
    assert "Bearer" in response.headers["www-authenticate"]
    assert "Basic" in response.headers["www-authenticate"]


def test_credentials_are_asked_for_before_the_body_is_looked_at(local: Running) -> None:
    before = metric(local, 'remediator_alerts_total{result="unauthenticated",sender="am"}')
    problem(post(local, "am", b"not json"), 401)
    assert metric(local, 'remediator_alerts_total{result="unauthenticated",sender="am"}') == before + 1


def test_the_query_token_works_and_no_other_does(local: Running) -> None:
    assert post(local, "token?auth_token=query-token-for-tests", body()).status_code == 200
    assert post(local, "token?x=1&auth_token=query-token-for-tests", body()).status_code == 200
    problem(post(local, "token?auth_token=wrong", body()), 401)
    problem(post(local, "token", body()), 401)
    problem(post(local, "am?auth_token=am-token-for-tests", body()), 401)


def test_an_unknown_sender_is_404_by_name(local: Running) -> None:
    assert "'nobody'" in problem(post(local, "nobody", body(), **BEARER), 404)
    problem(post(local, "am/extra", body(), **BEARER), 404)
    problem(post(local, "", body(), **BEARER), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(local: Running, method: str) -> None:
    with local.client() as client:
        response = client.request(method, "/webhooks/am", headers=BEARER)
    problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_head_is_405_without_a_body(local: Running) -> None:
    with local.client() as client:
        response = client.head("/webhooks/am")
    assert response.status_code == 405
    assert response.content == b""


def test_a_web_page_cannot_post_where_nobody_authenticates(local: Running) -> None:
    problem(post(local, "gcp", b"{}", Origin="https://evil.example"), 403)


# ---------------------------------------------------------------- hostile bodies


def test_a_compressed_body_is_415(local: Running) -> None:
    packed = gzip.compress(body())
    problem(post(local, "am", packed, **BEARER, **{"Content-Encoding": "gzip"}), 415)


def test_a_large_body_is_413_by_its_declared_length_before_it_is_sent(local: Running) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=5) as connection:
        connection.sendall(
            b"POST /webhooks/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer am-token-for-tests\r\n"
            b"Content-Length: 100000000\r\n\r\n"
        )
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"server.body_limit" in answer


def test_a_large_body_without_length_is_413_after_the_limit(local: Running) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=5) as connection:
        connection.sendall(
            b"POST /webhooks/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer am-token-for-tests\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(b"12000\r\n" + b"x" * 0x12000 + b"\r\n")
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_hundred_megabytes_do_not_grow_the_process(local: Running) -> None:
    psutil = pytest.importorskip("psutil")
    before = psutil.Process().memory_info().rss

    def flood() -> Any:
        for _ in range(1_600):
            yield b"x" * 65_536

    with local.client() as client:
        try:
            response = client.post("/webhooks/am", content=flood(), headers=BEARER)
            assert response.status_code == 413
        except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
            pass  # hung up on before it had sent everything
    assert psutil.Process().memory_info().rss - before < 30 << 20
    assert post(local, "am", body(), **BEARER).status_code == 200


def test_exactly_the_limit_is_taken_and_one_more_is_not(local: Running) -> None:
    limit = local.daemon.settings.server.body_limit
    fitting = body().ljust(limit)
    assert post(local, "am", fitting, **BEARER).status_code == 200
    problem(post(local, "am", fitting + b" ", **BEARER), 413)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /webhooks/am HTTP/1.1\r\nHo",
        b"POST /webhooks/am HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer am-token-for-tests\r\nContent-Length: 9\r\n\r\n{",
        b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_a_slow_client_is_hung_up_on(local: Running, sent: bytes) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", local.port), timeout=10) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert 0.8 < time.monotonic() - began < 5
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 408


def test_an_endless_head_is_431(local: Running) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=5) as connection:
        connection.sendall(b"POST /webhooks/am HTTP/1.1\r\n" + b"a: bcdefgh\r\n" * 7_000)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 431 ")


def test_a_client_that_goes_away_is_no_matter(local: Running) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", local.port), timeout=5) as connection:
            connection.sendall(
                b"POST /webhooks/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer am-token-for-tests\r\n"
                b"Content-Length: 900\r\n\r\nabc"
            )
    assert post(local, "am", body(), **BEARER).status_code == 200


def test_requests_on_one_connection_are_answered_in_order(local: Running) -> None:
    raw = body()
    one = (
        b"POST /webhooks/am HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer am-token-for-tests\r\n"
        b"Content-Length: " + str(len(raw)).encode() + b"\r\n\r\n" + raw
    )
    with socket.create_connection(("127.0.0.1", local.port), timeout=5) as connection:
        connection.sendall(one * 3)
        answer = b""
        while answer.count(b"HTTP/1.1 200 OK") < 3 or not answer.endswith(b"}"):
            part = connection.recv(65_536)
            assert part
            answer += part


# ---------------------------------------------------------------- the store is away


def test_a_store_that_is_closed_is_503_and_worth_a_retry(fresh: Running) -> None:
    fresh.run(fresh.daemon.store.close())
    response = post(fresh, "am", body(alert("late")), **BEARER)
    assert "send it again" in problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert metric(fresh, 'remediator_alerts_total{result="unavailable",sender="am"}') >= 1
    fresh.run(fresh.daemon.store.open())
    assert post(fresh, "am", body(alert("late")), **BEARER).json()["accepted"] == 1


def test_a_locked_database_is_503_in_time(fresh: Running) -> None:
    """Another writer holds the database; the daemon's own lock does not keep sqlite3 out."""
    path = fresh.daemon.settings.store.path
    assert path is not None
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("begin immediate")
        began = time.monotonic()
        response = post(fresh, "am", body(alert("blocked")), **BEARER)
        took = time.monotonic() - began
        problem(response, 503)
        assert took < 3
    finally:
        blocker.close()


def test_what_was_answered_200_is_there_after_a_restart(tmp_path: Any) -> None:
    with serving(tmp_path) as first:
        assert post(first, "am", body(alert("kept")), **BEARER).json()["accepted"] == 1
    shutil.rmtree(tmp_path / "policies")
    with serving(tmp_path) as second, second.client() as client:
        (found,) = client.get("/api/v1/alerts").json()["items"]
    assert found["fingerprint"] == "kept"


def test_each_answer_says_when_it_was_made(local: Running) -> None:
    seen = set()
    until = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < until:
        before = int(time.time())
        response = post(local, "am", body(alert("a")), **BEARER)
        (said,) = response.headers.get_list("date")
        assert before <= parsedate_to_datetime(said).timestamp() <= time.time()
        seen.add(said)
    assert len(seen) == 2
