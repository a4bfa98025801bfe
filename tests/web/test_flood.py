"""A sender that posts more than its limit."""

from __future__ import annotations

from tests.web.served import Running, alert, body
from tests.web.test_api import problem

FEW = {"Authorization": "Bearer few-token-for-tests"}


def test_beyond_its_limit_a_sender_is_asked_to_come_back(fresh: Running) -> None:
    with fresh.client() as client:
        for number in range(5):  # who is not the sender does not use its share up
            wrong = client.post("/webhooks/few", content=body(alert(f"w{number}")), headers={})
            assert wrong.status_code == 401
        bodies = [body(alert(f"t{number}")) for number in range(5)]
        taken = [client.post("/webhooks/few", content=one, headers=FEW) for one in bodies]
        assert [answer.status_code for answer in taken] == [200, 200, 200, 503, 503]
        detail = problem(taken[3], 503)  # never 4xx: Alertmanager would drop the alerts
        assert "3 per 1h" in detail
        assert "senders.few.limit" in detail
        assert 3600 < int(taken[3].headers["retry-after"]) <= 3600 + 361
        stored = client.get("/api/v1/alerts", params={"limit": 100}).json()["items"]
        assert sorted(one["fingerprint"] for one in stored) == ["t0", "t1", "t2"]
        metrics = client.get("/metrics").text
        assert 'remediator_alerts_total{result="flooded",sender="few"} 2.0' in metrics
        other = client.post(
            "/webhooks/am", content=body(alert("o")), headers={"Authorization": "Bearer am-token-for-tests"}
        )
        assert other.status_code == 200
    fresh.run(fresh.audited("sender.flooded"))
    (said,) = fresh.events("sender.flooded")
    assert said.event.data["refused"] >= 1
