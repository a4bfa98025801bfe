"""Labels into selectors: what is put in, what is refused, and values that mean harm."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import StringConstraints

from remediator.contracts import Params, Selector
from remediator.errors import Refused
from remediator.model import Alert, Instant, Reason, Status
from remediator.policy.template import MAX_LENGTH, With, fault, render

SAFE = r"[A-Za-z0-9_-]{1,80}"


class One(Params):
    queue: Annotated[str, Selector(SAFE)]
    fixed: str = ""
    port: Annotated[int, Selector(r"[0-9]{1,5}")] = 80
    anything: Annotated[str, Selector(r"(?s).*")] = ""
    typed: Annotated[str, Selector(".+"), StringConstraints(max_length=5)] = "x"
    maybe: Annotated[str, Selector("[a-z]+")] | None = None
    many: tuple[Annotated[str, Selector("[a-z]+")], ...] = ()
    vars: dict[str, Annotated[str, Selector("[a-z]+")]] = {}


def alert(labels: dict[str, str], annotations: dict[str, str] | None = None) -> Alert:
    return Alert(
        sender="s",
        fingerprint="0af3",
        status=Status.FIRING,
        labels=labels,
        annotations=annotations or {},
        starts_at=Instant(0),
    )


@pytest.mark.parametrize("written", [dict, With])
def test_puts_in_labels_annotations_and_the_fingerprint(written: type[dict[str, object]]) -> None:
    with_ = written(
        {
            "queue": "q-${labels.queue}_${alert.fingerprint}",
            "fixed": "costs 5$$ a${",
            "port": "${annotations.port}",
            "maybe": "${labels.zone}",
            "many": ["a", "${labels.zone}"],
            "vars": {"x": "${labels.zone}", "y": "b"},
        }
    )
    with_["fixed"] = "costs 5$$"
    for queue in ("jobs", "mail"):
        found = render(with_, One, alert({"queue": queue, "zone": "west"}, {"port": "8080"}))
        assert found == One(
            queue=f"q-{queue}_0af3",
            fixed="costs 5$",
            port=8080,
            maybe="west",
            many=("a", "west"),
            vars={"x": "west", "y": "b"},
        )


def test_escaped_dollars_are_dollars() -> None:
    found = render(With(queue="q", anything="$${labels.x} $$$${labels.queue}"), One, alert({}))
    assert found.anything == "${labels.x} $${labels.queue}"
    found = render(
        With(queue="q", anything="$$$${labels.queue}${labels.queue}"), One, alert({"queue": "jobs"})
    )
    assert found.anything == "$${labels.queue}jobs"


@pytest.mark.parametrize("labels", [{}, {"queue": ""}, {"Queue": "x"}])
def test_an_absent_or_empty_label_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"queue needs labels\.queue, which the alert does not carry") as caught:
        render({"queue": "${labels.queue}"}, One, alert(labels))
    assert caught.value.reason is Reason.UNKNOWN_LABEL
    assert caught.value.allowed == "an alert with labels.queue"


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "a'; DROP TABLE jobs; --",
        '"quoted"',
        "a\nb",
        "jobs\n",
        "a\x00b",
        "../../etc/passwd",
        "$(id)",
        "`id`",
        "${labels.queue}",
        "$$",
        "*",
        "a" * 81,
        "é",
        "\u202etxt",
        "\ud800",
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(value: str) -> None:
    with pytest.raises(Refused, match="queue does not fit") as caught:
        render({"queue": "${labels.queue}"}, One, alert({"queue": value}))
    assert caught.value.reason is Reason.INVALID_PARAMETER
    assert caught.value.allowed in (SAFE, "text without control characters")
    assert caught.value.observed.isprintable()
    assert str(caught.value).isprintable()


def test_a_pattern_that_takes_anything_still_gets_no_control_character_and_no_novel() -> None:
    for value in ("a\x00", "a\nb", "\x1b[2J", "a\u2028b", "\x85"):
        with pytest.raises(Refused) as caught:
            render({"queue": "q", "anything": "${labels.x}"}, One, alert({"x": value}))
        assert caught.value.allowed == "text without control characters"
    with pytest.raises(Refused, match=r"\(1000000 characters\)") as caught:
        render({"queue": "q", "anything": "${labels.x}"}, One, alert({"x": "a" * 1_000_000}))
    assert caught.value.allowed == f"at most {MAX_LENGTH} characters"
    assert len(str(caught.value)) < 200


def test_a_value_is_put_in_as_it_is_and_never_read_again() -> None:
    labels = {"x": "${labels.secret} $$ ${alert.fingerprint}", "secret": "s3"}
    found = render({"queue": "q", "anything": "<${labels.x}>"}, One, alert(labels))
    assert found.anything == "<${labels.secret} $$ ${alert.fingerprint}>"


def test_the_type_is_checked_after_the_pattern() -> None:
    with pytest.raises(Refused, match="typed is not usable") as caught:
        render({"queue": "q", "typed": "${labels.x}"}, One, alert({"x": "too long"}))
    assert caught.value.reason is Reason.INVALID_PARAMETER
    assert caught.value.observed == "too long"


def test_a_parameter_that_is_no_selector_takes_nothing_even_if_the_load_let_it_through() -> None:
    with pytest.raises(Refused, match="fixed may not be taken from an alert"):
        render({"queue": "q", "fixed": "${labels.x}"}, One, alert({"x": "y"}))


@given(st.text(max_size=60) | st.text(alphabet="${}labes.x\\\"'\n\x00", max_size=40))
def test_what_comes_out_fits_the_pattern_or_is_refused(value: str) -> None:
    with_ = {"queue": "${labels.x}", "anything": "[${labels.x}]"}
    about = alert({"x": value, "y": "secret"})
    if not value or re.fullmatch(r"[A-Za-z0-9_-]{1,80}", value) is None:
        with pytest.raises(Refused) as caught:
            render(with_, One, about)
        assert str(caught.value).isprintable()
        return
    found = render(with_, One, about)
    assert (found.queue, found.anything) == (value, f"[{value}]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${labels.queue", "has ${ without }"),
        ("${", "has ${ without }"),
        ("${labels.}", "is not known"),
        ("${label.queue}", "did you mean 'labels.queue'?"),
        ("${annotation.x}", "did you mean 'annotations.x'?"),
        ("${alert.fingerprnt}", "did you mean 'alert.fingerprint'?"),
        ("${ labels.x }", "is not known"),
        ("${env.HOME}", "is not known"),
        ("${labels.${labels.x}}", "has ${ without }"),
    ],
)
def test_faults_of_references(text: str, message: str) -> None:
    assert message in fault(text)


@pytest.mark.parametrize(
    "text", ["", "$", "$$", "$x", "$${x", "a${labels.a.b-c/d}", "${alert.fingerprint}", "$$${labels.x}"]
)
def test_good_references(text: str) -> None:
    assert fault(text) == ""
