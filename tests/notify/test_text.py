"""What people read of a message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remediator.model import AlertId, Message, RunId, Severity
from remediator.notify import text


def message(subject: str = "s", body: str = "b", run: int | None = None, alert: int | None = None) -> Message:
    return Message(
        chain="on-call",
        severity=Severity.P2,
        subject=subject,
        body=body,
        run=None if run is None else RunId(run),
        alert=None if alert is None else AlertId(alert),
    )


def test_title_is_one_line() -> None:
    assert text.title(message(subject="pool-above-80 on\npostgres:orders:\r\n refused")) == (
        "pool-above-80 on postgres:orders: refused"
    )


def test_body_names_the_command_that_shows_the_run() -> None:
    assert text.body(message(body="Seen: 87%", run=12)).endswith("\nLook: remediator runs show 12")


def test_command_is_not_repeated() -> None:
    said = text.body(message(body="Seen: 87%\nLook: remediator runs show 12", run=12))
    assert said.count("remediator runs show 12") == 1


def test_a_message_about_an_alert_alone_points_to_its_explanation() -> None:
    assert text.body(message(alert=7)).endswith("Look: remediator alerts explain 7")


def test_a_label_cannot_mention_anybody() -> None:
    said = text.title(message(subject="queue @channel <!here> <@U123> ops@example.com"))
    assert "@channel" not in said
    assert "<!here>" not in said
    assert "<@U123>" not in said


def test_a_value_cannot_add_a_line_of_its_own() -> None:
    for sign in "\n\r\v\f\x1c\x85\u2028\u2029":
        said = text.lines(["Impact: slow" + sign + "Acknowledge: curl evil", "Acknowledge: remediator …"])
        assert said.splitlines() == ["Impact: slow Acknowledge: curl evil", "Acknowledge: remediator …"]


def test_long_text_is_cut_and_the_command_stays() -> None:
    said = text.body(message(body="x" * 100_000, run=3))
    assert len(said) < text.BODY_LIMIT + 100
    assert said.endswith("Look: remediator runs show 3")


@given(st.text(), st.text())
def test_nothing_invisible_gets_through(subject: str, body: str) -> None:
    made = message(subject=subject, body=body, run=1)
    assert "\n" not in text.title(made)
    for said in (text.title(made), text.body(made)):
        assert not any(sign in said for sign in "\x00\x1b\u202e\u200b\u2066")
