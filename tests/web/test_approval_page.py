"""The page behind a signed link: reading never decides, a person with the role does, once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remediator.clock import SystemClock
from remediator.engine.link import Links
from remediator.model import MINUTE, AuditEvent, Control, ControlKind, Instant, Millis
from remediator.settings import Role, Token
from remediator.web.attempts import MOST, WITHIN, Attempts
from remediator.web.credentials import CallerKeys
from remediator.web.session import Sessions
from tests.web.asking import KEY, LINKS, OLD_KEY, Asking, asking


class Page(HTMLParser):
    """What a browser would find: words, forms and their fields, everything that loads or runs something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fields: dict[str, str] = {}
        self.buttons: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "input" and given.get("name"):
            self.fields[str(given["name"])] = given.get("value") or ""
        if tag == "button":
            self.buttons.append(given.get("value") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


class Person:
    """A browser: keeps cookies, and says where its forms come from."""

    def __init__(self, house: Asking, path: str) -> None:
        self.http = house.client()
        self.path = path
        self.here = {"Origin": house.running.url, "Sec-Fetch-Site": "same-origin"}

    def get(self, **headers: str) -> httpx2.Response:
        return self.http.get(self.path, headers=headers)

    def post(self, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        return self.http.post(self.path, data=fields, headers=self.here if headers is None else headers)

    def log_in(self, token: str) -> Page:
        answer = self.post(what="login", token=token)
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"] == self.path.rpartition("/")[2]
        return Page(self.get().text)

    def decide(self, what: str, comment: str = "seen", **more: Any) -> httpx2.Response:
        page = Page(self.get().text)
        return self.post(what=what, comment=comment, **{"form": page.fields.get("form", ""), **more})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with asking(tmp_path_factory.mktemp("asking")) as made:
        yield made


def decision(house: Asking, asked: dict[str, Any]) -> Any:
    return house.get("approvals", run=asked["run"])["items"][0]["decision"]


def events(house: Asking, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What the audit log says of its run; that people were told comes in its own time."""
    found = house.get("audit", run=asked["run"], limit=500)["items"]
    return [one for one in found if not one["kind"].startswith("message.")]


# ---------------------------------------------------------------- reading


def test_opening_the_link_many_times_changes_nothing(house: Asking) -> None:
    asked = house.ask()
    path = house.path(asked)
    before = events(house, asked)
    bot = house.client()
    for _ in range(20):
        assert bot.get(path).status_code == 200
        assert bot.head(path).status_code == 200
    assert bot.get(path, params={"what": "approve", "comment": "x"}).status_code == 200
    mia = Person(house, path)
    mia.log_in("manager-token-for-tests")
    for _ in range(20):
        assert mia.get().status_code == 200
        assert mia.http.head(path).status_code == 200
    mia.http.get(
        path, params={"what": "approve", "comment": "x", "form": Page(mia.get().text).fields["form"]}
    )
    assert house.get("approvals", run=asked["run"])["items"] == [asked]
    assert events(house, asked) == before
    assert house.turns(asked) == 0


def test_without_login_only_that_there_is_a_question(house: Asking) -> None:
    asked = house.ask(secret_label="nobody-s-business")
    page = Page(Person(house, house.path(asked)).get().text)
    assert "Log in" in page.text
    for leaked in ("valve", "pressure", "mia", "turns", "nobody-s-business", "Approve"):
        assert leaked not in page.text, leaked
    assert page.fields.keys() == {"what", "token"}


def test_the_page_shows_all_that_is_to_be_decided(house: Asking) -> None:
    asked = house.ask(summary="<script>alert(1)</script>")
    page = Person(house, house.path(asked)).log_in("manager-token-for-tests")
    for shown in (
        f"valve.open on {asked['plan']['target']}", "0 → 2", "2 of 10 turns", "it cannot be undone",
        "The pressure is high", "PressureHigh", "from am", "valve.turns", "measured", "left",
        f"{asked['expires_at'][11:19]} UTC",
        f"remediator runs approve {asked['run']} --approval {asked['id']} --comment",
        f"remediator runs reject {asked['run']}", "P2", "mia (manager)", "as of",
    ):  # fmt: skip
        assert shown in page.text, shown
    assert asked["expires_at"] in [given.get("datetime") for tag, given in page.tags if tag == "time"]
    assert page.buttons == ["", "approve", "reject"]
    assert "<script>alert(1)</script>" in page.text  # as text, for the parser has met no such tag
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "img", "style")]
    assert not [name for _, given in page.tags for name in given if name.startswith("on") or name == "style"]
    assert "oading" not in page.text


def test_its_headers_keep_others_out(house: Asking) -> None:
    answer = Person(house, house.path(house.ask())).get()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    style = house.client().get("/static/page.css")
    assert style.status_code == 200
    assert style.headers["content-type"].startswith("text/css")


def test_a_link_followed_from_a_chat_asks_once_more_for_the_cookie(house: Asking) -> None:
    person = Person(house, house.path(house.ask()))
    first = Page(person.get(**{"Sec-Fetch-Site": "cross-site"}).text)
    (again,) = [given["content"] for tag, given in first.tags if given.get("http-equiv") == "refresh"]
    assert again == "0; url=?again"
    second = Page(person.http.get(person.path + "?again", headers={"Sec-Fetch-Site": "cross-site"}).text)
    assert not [tag for tag, given in second.tags if given.get("http-equiv") == "refresh"]


# ---------------------------------------------------------------- deciding


@pytest.mark.parametrize(
    ("what", "said", "outcome"), [("approve", "approved", "succeeded"), ("reject", "rejected", "refused")]
)
def test_a_manager_decides_and_the_link_is_used(house: Asking, what: str, said: str, outcome: str) -> None:
    asked = house.ask()
    mia = Person(house, house.path(asked))
    mia.log_in("manager-token-for-tests")
    answer = mia.decide(what, "I have looked")
    assert answer.status_code == 200
    page = Page(answer.text)
    assert f"{said} by mia at" in page.text
    assert page.buttons == [""]
    assert house.ended(asked["run"])["outcome"] == outcome
    assert house.turns(asked) == (2 if what == "approve" else 0)
    used = mia.get()
    assert used.status_code == 409
    assert f"{said} by mia at" in Page(used.text).text
    assert "I have looked" in Page(used.text).text
    stranger = Person(house, house.path(asked)).get()
    assert stranger.status_code == 409
    assert "mia" not in stranger.text


def test_the_same_form_sent_twice_is_a_conflict(house: Asking) -> None:
    asked = house.ask()
    mia, max_ = Person(house, house.path(asked)), Person(house, house.path(asked))
    forms = [
        person.log_in(token).fields["form"]
        for person, token in ((mia, "manager-token-for-tests"), (max_, "other-manager-token-for-tests"))
    ]
    first = mia.post(what="approve", comment="mine", form=forms[0])
    second = max_.post(what="reject", comment="mine", form=forms[1])
    third = mia.post(what="approve", comment="mine", form=forms[0])
    assert [one.status_code for one in (first, second, third)] == [200, 409, 409]
    assert "was approved by mia at" in Page(second.text).text
    house.ended(asked["run"])
    assert house.turns(asked) == 2


@pytest.mark.parametrize("token", ["viewer-token-for-tests", "operator-token-for-tests"])
def test_who_may_not_sees_no_button_but_who_may(house: Asking, token: str) -> None:
    asked = house.ask()
    person = Person(house, house.path(asked))
    page = person.log_in(token)
    assert page.buttons == [""]  # to log out
    assert "needs the role manager or a higher one" in page.text
    assert "runs approve" not in page.text
    assert "Who may: mia (manager), max (manager), lea (lead)" in page.text
    refused = person.decide("approve")  # by a form that the page has not shown
    assert refused.status_code == 403
    form = _form_of(house, person, asked)
    answer = person.post(what="approve", comment="x", form=form)
    assert answer.status_code == 403
    assert "needs the role manager" in Page(answer.text).text
    assert decision(house, asked) is None


def test_who_started_it_sees_how_to_take_it_back_and_not_how_to_approve(house: Asking) -> None:
    (house.home / "by-hand").write_text("0")
    with house.running.client("manager-token-for-tests") as client:
        start = {"policy": "pressure", "labels": {"valve": "by-hand"}, "reason": "drill"}
        assert client.post("/api/v1/runs", json=start).status_code == 201
    asked = house.asked("by-hand")
    mia = Person(house, house.path(asked))
    page = mia.log_in("manager-token-for-tests")
    assert page.buttons == ["", "reject"]
    assert "You may take it back, not approve it" in page.text
    assert "Who may: max (manager), lea (lead)" in page.text
    assert "runs approve" not in page.text
    assert "runs reject" in page.text
    assert mia.decide("approve").status_code == 403
    assert decision(house, asked) is None
    answer = mia.decide("reject", "no drill today")
    assert answer.status_code == 200
    assert decision(house, asked) == "rejected"
    assert house.ended(asked["run"])["reason"] == "approval_rejected"


def _form_of(house: Asking, person: Person, asked: dict[str, Any]) -> str:
    """What the form would carry, had the page shown one to this person."""
    cookie = person.http.cookies["remediator"]
    sessions = Sessions([KEY.encode()], CallerKeys(()), Millis(MINUTE), secure=False)
    return sessions.form(cookie, house.path(asked).rpartition("/")[2])


def test_a_comment_is_required(house: Asking) -> None:
    asked = house.ask()
    mia = Person(house, house.path(asked))
    mia.log_in("manager-token-for-tests")
    for comment in ("", "   ", "x" * 1_001):
        answer = mia.decide("approve", comment)
        assert answer.status_code == 422
        assert "Write why" in Page(answer.text).text
    assert decision(house, asked) is None


# ---------------------------------------------------------------- what others try


def test_a_form_of_another_site_is_refused(house: Asking) -> None:
    asked = house.ask()
    mia = Person(house, house.path(asked))
    form = mia.log_in("manager-token-for-tests").fields["form"]
    origins: list[dict[str, str]] = [
        {},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": house.running.url, "Sec-Fetch-Site": "cross-site"},
        {"Origin": house.running.url, "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ]
    for headers in origins:
        answer = mia.post(headers, what="approve", comment="x", form=form)
        assert answer.status_code == 403, headers
    assert decision(house, asked) is None
    assert mia.post({"Origin": house.running.url}, what="approve", comment="x", form=form).status_code == 200


@pytest.mark.parametrize("form", ["", "x", "é"])
def test_a_form_without_its_secret_is_refused(house: Asking, form: str) -> None:
    asked = house.ask()
    mia = Person(house, house.path(asked))
    mia.log_in("manager-token-for-tests")
    assert mia.decide("approve", form=form).status_code == 403
    assert decision(house, asked) is None


def test_the_form_of_another_question_or_session_is_refused(house: Asking) -> None:
    asked, other = house.ask(), house.ask()
    mia = Person(house, house.path(asked))
    mia.log_in("manager-token-for-tests")
    there = Page(mia.http.get(house.path(other)).text).fields["form"]
    assert mia.decide("approve", form=there).status_code == 403
    max_ = Person(house, house.path(asked))
    assert (
        mia.decide("approve", form=max_.log_in("other-manager-token-for-tests").fields["form"]).status_code
        == 403
    )
    assert decision(house, asked) is None


def test_nobody_decides_without_a_login(house: Asking) -> None:
    asked = house.ask()
    answer = Person(house, house.path(asked)).post(what="approve", comment="x", form="x")
    assert answer.status_code == 401
    assert "valve" not in answer.text


def test_a_bearer_token_is_no_login(house: Asking) -> None:
    asked = house.ask()
    with house.running.client("manager-token-for-tests") as client:
        assert "valve" not in client.get(house.path(asked)).text


def test_forged_links(house: Asking) -> None:
    asked = house.ask()
    path = house.path(asked)
    number, expiry, mac = path.rpartition("/")[2].split(".")
    other = house.ask()
    forged = [
        f"{other['id']}.{expiry}.{mac}",
        f"{number}.{int(expiry) + 1}.{mac}",
        f"{number}.{expiry}.{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}",
        f"{number}.{expiry}.{'A' * 43}",
        f"{number}.{expiry}",
        f"{number}.{expiry}.{mac}.x",
        f"0{number}.{expiry}.{mac}",
        Links([b"another key, just as long as it"], "").token(asked["id"], Instant(int(expiry))),
        "x",
        "%00",
        "9" * 400,
    ]
    for person in (Person(house, path), Person(house, path)):
        for token in forged:
            for method in ("GET", "POST"):
                answer = person.http.request(method, f"/approvals/{token}", headers=person.here)
                assert answer.status_code == 403, token
                assert "valve" not in answer.text
                assert "pressure" not in answer.text
        person.log_in("manager-token-for-tests")
    assert Person(house, path).get().status_code == 200


def test_a_link_of_the_former_key_still_opens(house: Asking) -> None:
    asked = house.ask()
    expiry = Instant(int(house.path(asked).split(".")[-2]))
    token = Links([OLD_KEY.encode()], "").token(asked["id"], expiry)
    person = Person(house, f"/approvals/{token}")
    assert person.get().status_code == 200
    assert "valve" in person.log_in("manager-token-for-tests").text


def test_a_link_to_what_was_withdrawn_is_gone(house: Asking) -> None:
    asked = house.ask()
    mia = Person(house, house.path(asked))
    form = mia.log_in("manager-token-for-tests").fields["form"]
    cancel = house.running.daemon.store.cancel(asked["run"], AuditEvent(kind="run.cancelled", actor="x"))
    house.running.run(cancel)
    assert mia.get().status_code == 410
    assert "withdrawn" in Page(mia.get().text).text
    assert Page(mia.get().text).buttons == [""]
    assert mia.post(what="approve", comment="x", form=form).status_code == 410
    assert Person(house, house.path(asked)).get().status_code == 410


def test_the_link_of_a_policy_that_is_gone_says_so(tmp_path: Path) -> None:
    with asking(tmp_path) as house:
        asked = house.ask()
        mia = Person(house, house.path(asked))
        mia.log_in("manager-token-for-tests")
        (tmp_path / "policies" / "pressure.yaml").unlink()
        assert house.running.run(house.running.daemon.policies.reload())
        house.running.daemon.wake()
        assert house.ended(asked["run"])["reason"] == "policy_removed"
        assert house.get("approvals", open="true")["items"] == []
        assert mia.get().status_code == 410
        assert "policy pressure is not in the active set" in Page(mia.get().text).text
        refused = house.decide("approve", asked, "manager-token-for-tests")
        assert refused.status_code == 409
        assert "policy pressure is not in the active set" in refused.json()["detail"]


def test_a_link_outlives_a_jump_of_the_clock(house: Asking) -> None:
    """Its question still stands for as long as before, so whoever was sent it can answer."""
    asked = house.ask()
    person = Person(house, house.path(asked))
    store, now = house.running.daemon.store, SystemClock().now()
    pause = Control(kind=ControlKind.PAUSE, scope="policy:other", reason="r", actor="daemon", since=now)
    house.running.run(store.jumped(Millis(MINUTE), pause, AuditEvent(kind="control.paused")))
    assert house.running.run(store.approval(asked["id"])).expires_at > asked_until(person.path)
    assert "manager" in person.log_in("manager-token-for-tests").text
    assert "approve" in Page(person.get().text).buttons


def asked_until(path: str) -> int:
    return int(path.split(".")[1])


def test_an_expired_link_is_gone(tmp_path: Path) -> None:
    with asking(tmp_path, expires="2s") as house:
        asked = house.ask()
        mia = Person(house, house.path(asked))
        form = mia.log_in("manager-token-for-tests").fields["form"]
        house.ended(asked["run"])
        assert mia.get().status_code == 410
        assert Person(house, house.path(asked)).get().status_code == 410
        answer = mia.post(what="approve", comment="x", form=form)
        assert answer.status_code == 410
        assert "has expired" in Page(answer.text).text
        assert house.turns(asked) == 0


def test_without_a_key_the_page_says_why(tmp_path: Path) -> None:
    with asking(tmp_path, keys=False) as house:
        house.ask()
        answer = house.client().get(f"/approvals/{LINKS.token(1, Instant(1))}")
        assert answer.status_code == 404
        assert "approvals.link_key" in answer.text


# ---------------------------------------------------------------- logging in and out


def test_the_cookie_is_for_this_site_alone_and_ends(house: Asking) -> None:
    mia = Person(house, house.path(house.ask()))
    answer = mia.post(what="login", token="manager-token-for-tests")
    said = answer.headers["set-cookie"]
    assert re.fullmatch(r"remediator=\S+; Path=/; Max-Age=900; HttpOnly; SameSite=Strict", said)
    assert "manager-token-for-tests" not in said
    assert "valve" in mia.get().text
    out = mia.post(what="logout")
    assert out.status_code == 303
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert "valve" not in mia.get().text


def test_over_https_the_cookie_is_secure(tmp_path: Path) -> None:
    with asking(tmp_path, public_url="https://r.example.com/ops/") as house:
        mia = Person(house, house.path(house.ask()))
        mia.here = {"Origin": "https://r.example.com", "Sec-Fetch-Site": "same-origin"}
        said = mia.post(what="login", token="manager-token-for-tests").headers["set-cookie"]
        assert said.startswith("__Host-remediator=")
        assert said.endswith("; HttpOnly; SameSite=Strict; Secure")


def test_guessing_tokens_is_slow(tmp_path: Path) -> None:
    with asking(tmp_path) as house:
        mia = Person(house, house.path(house.ask()))
        for _ in range(MOST):
            assert mia.post(what="login", token="guess").status_code == 401
        answer = mia.post(what="login", token="manager-token-for-tests")  # even the right one
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= WITHIN
        assert "valve" not in mia.get().text


def test_attempts_are_counted_by_address_and_forgotten() -> None:
    attempts = Attempts()
    for second in range(MOST):
        assert attempts.wait("a", second) == 0
        attempts.failed("a", second)
    assert attempts.wait("a", MOST) == WITHIN - MOST
    assert attempts.wait("b", MOST) == 0
    assert attempts.wait("a", WITHIN) == 0  # the first of them is a minute old
    attempts.failed("a", WITHIN)
    assert attempts.wait("a", WITHIN) == 1


def tokens(**people: str) -> CallerKeys:
    return CallerKeys([Token(name=name, role=Role.MANAGER, token=token) for name, token in people.items()])  # type: ignore[arg-type]


def sessions(keys: list[bytes], **people: str) -> Sessions:
    return Sessions(keys, tokens(**people), MINUTE, secure=False)


def test_a_session_ends_with_its_time_its_token_or_its_key() -> None:
    now = SystemClock().now()
    old, new = b"one key of the links", b"another of the links"
    cookie = sessions([old], mia="first-token-for-tests").begin("first-token-for-tests", now)
    assert cookie is not None
    reader = sessions([new, old], mia="first-token-for-tests", max="second-token-for-tests")
    found = reader.read(cookie, now)
    assert found is not None
    assert found.name == "mia"
    assert reader.read(cookie, Instant(now + MINUTE - 1)) is not None
    assert reader.read(cookie, Instant(now + MINUTE)) is None
    assert sessions([new], mia="first-token-for-tests").read(cookie, now) is None
    assert sessions([old], mia="replaced-token-for-tests").read(cookie, now) is None
    assert sessions([old], max="first-token-for-tests").read(cookie, now) is None
    assert sessions([old], mia="first-token-for-tests").begin("wrong-token-for-tests", now) is None
    name, until, mac = cookie.split(".")
    forged = [f"{name}.{int(until) + 1}.{mac}", f"bWF4.{until}.{mac}", f"{name}.{'9' * 30}.{mac}"]
    for one in [*forged, f"{name}.{until}.", name, "", "é.1.x", ".."]:
        assert reader.read(one, now) is None, one
    assert (
        sessions([], mia="first-token-for-tests").read(cookie, now) is None
    )  # a process without keys makes its own
