"""What bad input gets: an error that names the thing and says what to do, and nothing else disturbed.

Real daemon processes over HTTP. "Nothing else disturbed" is asked each time: the same daemon goes on taking
alerts and acting on them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.cli.program import Program
from tests.crash.provider import Provider
from tests.e2e.house import AM, House, recorded_alert, resolved
from tests.fakes.http import Answer, FakeHttp, Request

BEARER = {"authorization": f"Bearer {AM}"}
GROW = """
name: grow
mode: enforce
from: [alertmanager-prod]
match: [alertname="QueueHigh"]
remedies:
  - action: recorder.grow
    with: {connection: recorder, name: "${labels.queue}", add: 2, max: 10, url: "URL"}
limits: {cooldown: 0s, per_target: [100 per 1h], budget: [100 per 1h], concurrent: 9, open_runs: 100}
"""
LIMITS = "global: {budget: [100 per 1h], concurrent: 9}\n"
ASK = """
name: ask
mode: enforce
from: [alertmanager-prod]
match: [alertname="Asked"]
when:
  - check: prometheus.query
    with: {connection: prometheus, query: 'queue_depth{queue="$queue"}', vars: {queue: "${labels.queue}"}}
    is: "< 0"
remedies:
  - action: recorder.grow
    with: {connection: recorder, name: a, url: "URL"}
limits: {open_runs: 100}
"""


class Asked(FakeHttp):
    """Prometheus' query API; it keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []

    def respond(self, request: Request) -> Answer:
        self.queries.append(urllib.parse.parse_qs(request.body.decode())["query"][0])
        result = [{"metric": {}, "value": [time.time(), "7"]}]
        body = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return Answer(200, json.dumps(body).encode())


class Place:
    """A daemon with a recording provider, and a Prometheus that is asked."""

    def __init__(self, home: Path, running: ExitStack, **settings: Any) -> None:
        self.provider = running.enter_context(Provider())
        self.prometheus = running.enter_context(Asked())
        policies = {
            "grow": GROW.replace("URL", self.provider.url),
            "ask": ASK.replace("URL", self.provider.url),
        }
        connections = {
            "recorder": {"kind": "http", "url": self.provider.url},
            "prometheus": {"kind": "prometheus", "url": self.prometheus.url},
        }
        self.house = running.enter_context(
            House(home, policies, connections=connections, plugins=["tests.crash.plugin"], **settings)
        )
        (home / "policies" / "limits.yaml").write_text(LIMITS)
        self._fired = 0

    def acts(self) -> None:
        """It still does its work: a new alert leads to one action, at once."""
        self._fired += 1
        name = f"probe-{self._fired}"
        answer = self.house.alertmanager(recorded_alert(alertname="QueueHigh", queue=name))
        assert answer.status_code == 200
        self.house.until(lambda: name in [call["name"] for call in self.provider.calls], "it acts", 5)
        assert self.house.http.get("/readyz").status_code == 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as running:
        found = Place(tmp_path_factory.mktemp("bad"), running)
        found.house.configure("server", request_timeout="1s")
        found.house.start()
        yield found
        assert found.house.process is not None
        assert found.house.process.returncode is None, found.house.process.tail()  # nothing has ended it


def problem(answer: httpx2.Response, status: int) -> str:
    """The problem document's detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    return str(body["detail"])


def post(place: Place, body: Any, sender: str = "alertmanager-prod") -> httpx2.Response:
    return place.house.http.post(f"/webhooks/{sender}", content=body, headers=BEARER)


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"version": "4", "alerts": [', "truncated"),
        (b"\xff\xfe\x00", "JSON"),
        (b"", "truncated"),
        (b'{"version": "3", "alerts": []}', "version is '3'"),
        (b'{"alerts": []}', "missing required field `version`"),
        (b'{"version": "4"}', "alerts"),
        (b'[{"version": "4"}]', "object"),
    ],
)
def test_a_body_that_cannot_be_read_is_400_and_kept(place: Place, body: bytes, named: str) -> None:
    before = len(place.house.kinds(kind="alert.rejected"))
    detail = problem(post(place, body), 400)
    assert named in detail
    assert "Alertmanager" in detail
    rejected = place.house.events(kind="alert.rejected")
    assert len(rejected) == before + 1
    assert named in rejected[-1]["observed"]
    place.acts()


@pytest.mark.parametrize("field", ["labels", "status", "startsAt"])
def test_an_alert_without_a_field_is_named_and_the_others_are_taken(place: Place, field: str) -> None:
    good = recorded_alert(alertname="Other", beside=field)
    bad = recorded_alert(alertname="Other")
    del bad[field]
    answer = place.house.alertmanager(bad, good)
    assert answer.status_code == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 1)
    observed = place.house.events(kind="alert.rejected")[-1]["observed"]
    assert observed.startswith("alerts[0]: ")
    assert f"`{field}`" in observed


def test_an_unknown_sender_is_404_and_leaves_nothing(place: Place) -> None:
    before = len(place.house.get("alerts", limit=500)["items"])
    detail = problem(post(place, json.dumps({"version": "4", "alerts": []}), sender="nobody"), 404)
    assert "'nobody'" in detail
    assert "senders" in detail
    assert len(place.house.get("alerts", limit=500)["items"]) == before


@pytest.mark.parametrize("declared", [True, False])
def test_a_hundred_megabytes_are_refused_and_do_not_grow_the_daemon(place: Place, declared: bool) -> None:
    assert place.house.process is not None
    daemon = psutil.Process(place.house.process.pid)
    before = daemon.memory_info().rss
    framing = b"Content-Length: 104857600" if declared else b"Transfer-Encoding: chunked"
    part = b"x" * (1 << 20)
    piece = part if declared else b"100000\r\n" + part + b"\r\n"
    head = (
        b"POST /webhooks/alertmanager-prod HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer " + AM.encode() + b"\r\n" + framing + b"\r\n\r\n"
    )
    if declared:  # whoever waits for an answer before the body has it at once
        with socket.create_connection(("127.0.0.1", place.house.port), timeout=10) as line:
            line.sendall(head)
            assert line.recv(65_536).startswith(b"HTTP/1.1 413 ")
    sent = 0
    with socket.create_connection(("127.0.0.1", place.house.port), timeout=10) as line:
        line.sendall(head)
        try:
            for _ in range(100):
                line.sendall(piece)
                sent += 1
        except (BrokenPipeError, ConnectionResetError):
            pass  # hung up on: it need not read what it will not take
        grown = daemon.memory_info().rss - before
    assert sent < 40  # the limit is 10 MiB, and the rest is in buffers
    assert grown < 40 << 20
    place.acts()


def test_slow_clients_are_hung_up_on_and_keep_nobody_waiting(place: Place) -> None:
    lines = [socket.create_connection(("127.0.0.1", place.house.port), timeout=10) for _ in range(40)]
    try:
        for line in lines:
            line.sendall(
                b"POST /webhooks/alertmanager-prod HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n"
                b"Authorization: Bearer " + AM.encode() + b"\r\n\r\n{"
            )
        began = time.monotonic()
        place.acts()
        assert time.monotonic() - began < 1
        for line in lines:
            answer = b""
            while part := line.recv(65_536):
                answer += part
            assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 4
    finally:
        for line in lines:
            line.close()


# ---------------------------------------------------------------- labels

ATTACKS = [
    "a'; DROP TABLE run; --",
    'a" OR "1"="1',
    "$(reboot)",
    "`reboot`",
    "a;reboot",
    "${labels.alertname}",
    "${REMEDIATOR_STORE__URL}",
    "../../etc/passwd",
    "a%00b",
    ".*",
    "*",
    "a\nb",
    'a\n{"event": "forged", "level": "info"}',
    "\x1b[2J",
    "\u202eevil",
    "A",
    "",
    "x" * 5_000,
]


@pytest.mark.parametrize("value", ATTACKS, ids=repr)
def test_a_label_named_like_an_attack_reaches_no_provider(place: Place, value: str) -> None:
    house = place.house
    calls = len(place.provider.calls)
    alert = recorded_alert(alertname="QueueHigh", queue=value)
    answer = house.alertmanager(alert)
    assert answer.status_code == 200
    if answer.json()["rejected"]:  # too long to be any label
        assert "labels" in house.events(kind="alert.rejected")[-1]["observed"]
        return
    (id,) = (one["id"] for one in house.get("alerts", limit=1)["items"])
    (run,) = house.get("runs", alert=id)["items"]
    house.until(lambda: house.run(run["id"])["outcome"] is not None, "it is refused", 5)
    run = house.run(run["id"])
    assert run["outcome"] == "refused"
    assert run["reason"] == ("unknown_label" if value == "" else "invalid_parameter")
    assert run["target"] is None
    assert run["intents"] == []
    assert len(place.provider.calls) == calls


@pytest.mark.parametrize(
    "value",
    [
        'x"} or vector(99) or queue_depth{queue="x',
        "x\\",
        'x\\" or vector(99) # ',
        "$queue ${labels.queue} $$",
        "'; DROP TABLE run; --",
        ".+|.*",
        "$(reboot) `reboot`",
    ],
)
def test_a_label_stays_one_literal_in_a_query(place: Place, value: str) -> None:
    alert = recorded_alert(alertname="Asked", queue=value)
    asked = len(place.prometheus.queries)
    assert place.house.alertmanager(alert).json()["accepted"] == 1
    place.house.until(lambda: len(place.prometheus.queries) > asked, "Prometheus is asked", 5)
    # In printable ASCII a PromQL string is escaped as a JSON string is.
    assert place.prometheus.queries[-1] == f"queue_depth{{queue={json.dumps(value)}}}"
    place.house.alertmanager(resolved(alert))
    place.house.until(
        lambda: not place.house.get("runs", policy="ask", open=True)["items"], "its run is cancelled", 5
    )


def test_after_all_of_that_the_log_is_one_json_document_a_line(place: Place) -> None:
    assert not [line for line in place.house.log() if line["event"] == "forged"]
    listed = place.house.remediator("alerts", "list", "alertname=QueueHigh", "--output", "table").out
    assert "\x1b" not in listed
    assert "\u202e" not in listed
    alerts = place.house.get("alerts", filter='alertname="QueueHigh"', limit=500)["items"]
    assert len(listed.strip().splitlines()) == len(alerts) + 1  # and the heading
    assert place.house.get("audit/verify")["changed"] == []
    place.acts()


# ---------------------------------------------------------------- policies and settings


def test_a_policy_with_a_typo_changes_nothing_and_is_seen_everywhere(tmp_path: Path) -> None:
    with ExitStack() as running:
        place = Place(tmp_path, running)
        house = place.house
        house.start()
        file = tmp_path / "policies" / "grow.yaml"
        good = file.read_text()
        revision = house.get("policies")["revision"]
        file.write_text(good.replace("match:", "macth:"))
        house.until(lambda: house.metric("remediator_policies_rejected") == 1, "the typo is noticed", 5)

        (event,) = house.events(kind="policy.rejected")
        (line,) = [line for line in house.log() if line["event"] == "policies.rejected"]
        for said in (event["observed"], line["fault"], house.get("policies")["fault"]):
            assert "grow.yaml:5:1" in said
            assert "macth" in said
            assert "match" in said.replace("macth", "")
        assert line["level"] == "error"
        assert house.get("policies")["revision"] == revision
        assert house.metric("remediator_policies") == 2
        place.acts()
        reload = house.http.post("/-/reload")
        assert "macth" in problem(reload, 409)
        house.quiet(0.5)
        assert len(house.kinds(kind="policy.rejected")) == 1  # told once, not at every look

        # A restart in this state goes on with the set that was in force.
        assert house.stop() == 0
        house.start()
        assert house.metric("remediator_policies_rejected") == 1
        place.acts()

        file.write_text(good.replace("add: 2", "add: 3"))
        house.until(lambda: house.metric("remediator_policies_rejected") == 0, "it is mended", 5)
        assert house.get("policies")["revision"] != revision
        assert house.get("policies")["fault"] == ""
        place.acts()
        assert place.provider.calls[-1]["after"] == 4


def test_a_settings_file_with_an_unknown_key_is_exit_2_with_a_suggestion(tmp_path: Path) -> None:
    house = House(tmp_path, {})
    house.config.write_text(house.config.read_text() + "notifers: {}\n")
    said = Program(tmp_path, {})("serve", "--config", str(house.config))
    house.close()
    assert said.code == 2
    assert "notifers" in said.err
    assert "did you mean 'notifiers'" in said.err
    assert "Traceback" not in said.err
    assert not house.database.exists()


# ---------------------------------------------------------------- places that are taken, full or closed


def test_a_second_daemon_refuses_and_the_first_goes_on(place: Place, tmp_path: Path) -> None:
    house = place.house
    second = Program(tmp_path, {})
    same_file = second("serve", "--config", str(house.config), REMEDIATOR_SERVER__PORT="0")
    assert same_file.code == 1
    assert f"remediator.db is held by process {house.process.pid}" in same_file.err  # type: ignore[union-attr]
    same_port = second(
        "serve", "--config", str(house.config), REMEDIATOR_STORE__URL=f"sqlite:///{tmp_path}/other.db"
    )
    assert same_port.code == 1
    assert f"port {house.port}: Address already in use" in same_port.err
    assert "Traceback" not in same_file.err + same_port.err
    place.acts()


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Any]:
    """Mounts small file systems, and always unmounts them."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted: list[Path] = []

    def mount(name: str, options: str) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
        mounted.append(directory)
        return directory

    yield mount
    for directory in mounted:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_store_directory_that_cannot_be_written_is_named(tmp_path: Path, tmpfs: Any) -> None:
    closed = tmpfs("closed", "ro,size=1m")
    for directory, named in (
        (closed, f"the directory {closed} is not writable"),
        (tmp_path / "no", "does not exist"),
    ):
        said = Program(tmp_path, {})(
            "serve",
            "--config",
            str(House(tmp_path, {}).config),
            REMEDIATOR_STORE__URL=f"sqlite:///{directory}/remediator.db",
        )
        assert said.code == 1
        assert named in said.err
        assert "Traceback" not in said.err


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def test_a_full_disk_is_503_and_nothing_acts_until_there_is_space(tmp_path: Path, tmpfs: Any) -> None:
    small = tmpfs("small", "size=2m")
    with ExitStack() as running:
        place = Place(tmp_path / "home", running)
        house = place.house
        house.configure("store", url=f"sqlite:///{small}/remediator.db")
        policy = tmp_path / "home" / "policies" / "grow.yaml"
        policy.write_text(policy.read_text() + "for: 2s\n")
        house.start()
        held = recorded_alert(alertname="QueueHigh", queue="held")
        assert house.alertmanager(held).status_code == 200
        fired = time.monotonic()

        ballast = small / "ballast"
        fill(ballast)
        taken = []
        for number in range(200):
            name = f"a{number}"
            began = time.monotonic()
            alert = recorded_alert(alertname="Other", name=name)
            alert["annotations"] = {"text": "x" * 8_000}
            answer = house.alertmanager(alert)
            assert time.monotonic() - began < 2.5
            if answer.status_code == 503:
                break
            taken.append(name)
        detail = problem(answer, 503)
        assert "full" in detail
        assert "free space" in detail
        assert int(answer.headers["retry-after"]) > 0
        assert house.metric('remediator_alerts_total{result="unavailable",sender="alertmanager-prod"}') >= 1

        house.quiet(max(0.0, fired + 3.2 - time.monotonic()))
        assert place.provider.calls == []  # its hold has ended, and its intent cannot be written
        assert house.http.get("/healthz").status_code == 200
        assert len(house.runs()) == 1  # what was accepted can still be read

        revision = house.get("policies")["revision"]
        policy.write_text(policy.read_text().replace("max: 10", "max: 9"))
        house.quiet(0.5)  # it looks every 200 ms
        assert house.get("policies")["revision"] == revision

        ballast.unlink()
        house.until(lambda: house.get("policies")["revision"] != revision, "the new policies are taken", 5)
        again = house.alertmanager(alert)
        assert (again.status_code, again.json()["accepted"]) == (200, 1)
        taken.append(name)
        house.until(lambda: len(place.provider.calls) == 1, "it acts once there is space", 20)
        assert place.provider.calls[0]["name"] == "held"
        assert house.ended()["outcome"] == "succeeded"
        stored = house.get("alerts", filter='alertname="Other"', limit=500)["items"]
        assert sorted(one["labels"]["name"] for one in stored) == sorted(taken)

        fill(ballast)
        house.alertmanager(recorded_alert(alertname="Other", name="x" * 4_000))  # whatever comes of it
        assert house.stop() == 0
        assert house.log()[-1]["event"] == "stopped"
        ballast.unlink()
        house.start()
        house.until(lambda: house.get("audit/verify")["unsealed"] == 0, "all is sealed", 5)
        assert house.stop() == 0
        assert house.remediator("audit", "verify").code == 0
