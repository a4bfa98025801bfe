"""The bench measures what it says: its load is real alerts, and its action is reached once for each match."""

from __future__ import annotations

from pathlib import Path

from bench.payload import MATCH, Payloads
from bench.policies import WIDE, policies
from bench.server import Daemon
from bench.table import BEGIN, END, Row, keep
from remediator.model import Instant, Status
from remediator.receivers.alertmanager import Alertmanager
from remediator.settings import Sender

START = "2026-01-15T10:11:12.345Z"
NOW = Instant(1_768_471_900_000)


def test_the_load_is_distinct_alerts_that_the_receiver_takes() -> None:
    receiver = Alertmanager({"bench": Sender(kind="alertmanager")})
    payloads = Payloads(10, "abc123", match_every=5, starts_at=START)
    identities = set()
    matching = []
    for _ in range(3):
        body, ids = payloads.make()
        parsed = receiver.parse("bench", body, NOW)
        assert parsed.bad == ()
        for alert, _ in parsed.alerts:
            assert alert.status is Status.FIRING
            identities.add(alert.fingerprint)
            if alert.labels["alertname"] == MATCH:
                matching.append(alert.labels["bench_id"])
        assert [one for one in matching if one in ids] == ids
    assert len(identities) == 30
    assert len(matching) == 6


def test_the_same_tag_makes_the_same_bytes_again() -> None:
    def first() -> bytes:
        return Payloads(10, "abc123", starts_at=START, repeatable=True).make()[0]

    assert first() == first()
    assert first() != Payloads(10, "abc124", starts_at=START, repeatable=True).make()[0]


def test_each_matching_alert_is_acted_on_once() -> None:
    with Daemon({}, limits=WIDE) as daemon:
        for name, policy in policies(3, str(daemon.actions)).items():
            daemon.write(name, policy)
        daemon.process.stop()
        daemon.process.start()
        report = daemon.load(alerts=10, total=200, match_every=10, settle=20, actions=daemon.actions)
    assert report["alerts"] == 200
    assert report["accepted_matching"] == report["actions"] == 20
    assert report["lost"] == report["twice"] == 0


def test_the_table_is_kept_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    met = Row("intake", "10k alerts/s", "5k alerts/s", 0.5, "≥ 0.5", True)
    missed = Row("memory", "", "200 MB", None, "< 180 MB", False)
    keep([met, missed], page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| intake | 10k alerts/s | 5k alerts/s | 0.50 | ≥ 0.5 | ok |" in text
    assert "| memory |  | 200 MB |  | < 180 MB | MISSED |" in text
