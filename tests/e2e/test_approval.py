"""From the alert to the verified action by way of a person: the shipped policy in mode approve, its message,
the page behind the link, the word, and what becomes of it. AWS is moto over HTTP behind boto3."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.house import House, resolved, shipped
from tests.e2e.pager import ESCALATION, Pager
from tests.e2e.test_queue_depth import ACCOUNT, ON_AWS, REGION, SHORT, Aws, queue_alert
from tests.servers.moto import CREDENTIALS, Moto

KEY = "a key of the links, for the tests"
PEOPLE = [
    {"name": "vera", "role": "viewer", "token": "viewer-token-for-tests"},
    {"name": "otto", "role": "operator", "token": "operator-token-for-tests"},
    {"name": "mary", "role": "manager", "token": "manager-token-for-tests"},
]


@pytest.fixture(autouse=True)
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where boto3 looks for them, as on the machine of an installation."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def house_that_asks(home: Path, moto: Moto, pager: Pager, expires: str = "15m") -> House:
    policy = shipped(ON_AWS, mode="approve", **SHORT)
    policy += f"approval: {{role: manager, expires: {expires}}}\n"
    house = House(
        home,
        {ON_AWS: policy},
        escalation=ESCALATION,
        connections={
            "aws-prod": {"kind": "aws", "region": REGION, "account": ACCOUNT, "endpoint_url": moto.url}
        },
        notifiers=pager.notifiers,
        access={"tokens": PEOPLE},
        approvals={"link_key": KEY},
    )
    house.configure("server", public_url=house.url)
    house.http.headers["authorization"] = "Bearer viewer-token-for-tests"
    return house


def test_alert_link_approve_act_verify(tmp_path: Path, moto_server: Moto) -> None:
    aws = Aws(moto_server, desired=3)
    with Pager() as pager, house_that_asks(tmp_path, moto_server, pager) as house:
        house.start()
        alert = queue_alert()
        assert house.alertmanager(alert).json()["accepted"] == 1
        house.until(lambda: bool(pager.messages), "somebody is told")
        told = pager.messages[0]
        assert "Approve? autoscaling.set_capacity" in told["title"]
        assert "desired=3 → desired=5" in told["message"]
        (link,) = re.findall(rf"{house.url}/approvals/\S+", told["message"])

        with httpx2.Client(timeout=10) as bot:  # the chat service makes a preview of it
            for _ in range(20):
                preview = bot.get(link)
                assert preview.status_code == 200
                assert "prod-gpu-workers" not in preview.text
                bot.head(link)
        assert house.run()["state"] == "APPROVAL"
        assert aws.desired == 3

        answer = visit(house, link, "operator-token-for-tests")
        assert "otto is operator" in answer.text
        assert aws.desired == 3
        answer = visit(house, link, "manager-token-for-tests", "approve", "queue is real")
        assert answer.status_code == 200
        assert "approved" in answer.text

        house.until(lambda: aws.desired == 5, "two workers are added")
        aws.drain()
        house.until(lambda: house.run()["outcome"] is not None, "the run ends")
        run = house.run()
        assert (run["outcome"], run["reason"]) == ("succeeded", "healed")
        (asked,) = run["approvals"]
        assert (asked["decision"], asked["actor"], asked["comment"]) == ("approved", "mary", "queue is real")
        assert visit(house, link, "manager-token-for-tests", "reject", "too late").status_code == 409
        explained = house.remediator(
            "alerts", "explain", run["alert"], "--server", house.url, "--token", "viewer-token-for-tests"
        )
        assert "approved by mary" in explained.out
        house.alertmanager(resolved(alert))


def test_nobody_answers_and_the_chain_hears_of_it(tmp_path: Path, moto_server: Moto) -> None:
    aws = Aws(moto_server, desired=3)
    with Pager() as pager, house_that_asks(tmp_path, moto_server, pager, expires="1s") as house:
        house.start()
        house.alertmanager(queue_alert())
        run = house.ended()
        assert (run["outcome"], run["reason"]) == ("refused", "approval_expired")
        house.until(
            lambda: any("incidents ack" in one["message"] for one in pager.messages), "the chain is called"
        )
        assert aws.desired == 3


def visit(house: House, link: str, token: str, what: str = "", comment: str = "") -> httpx2.Response:
    """A browser: log in at the link, and post the form that the page shows."""
    here: dict[str, Any] = {"Origin": house.url, "Sec-Fetch-Site": "same-origin"}
    with httpx2.Client(timeout=10, headers=here) as browser:
        assert browser.post(link, data={"what": "login", "token": token}).status_code == 303
        shown = browser.get(link)
        if not what or shown.status_code != 200:
            return shown
        (form,) = re.findall(r'name="form" value="([^"]+)"', shown.text)
        return browser.post(link, data={"what": what, "comment": comment, "form": form})
