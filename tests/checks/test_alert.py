"""What the alert itself says."""

from __future__ import annotations

import math

import pytest

from remediator.checks.alert import Firing, NoParams, Value
from remediator.clients.connections import CallContext, Connections
from remediator.model import Alert, AlertId, Episode, Instant, Sample, Status

NOW = Instant(2_000_000)


def context(
    status: Status = Status.FIRING, value: float | None = None, seen_at: int | None = None
) -> CallContext:
    alert = Alert(
        sender="am",
        fingerprint="f",
        status=status,
        labels={},
        annotations={},
        starts_at=Instant(0),
        value=value,
    )
    episode = Episode(
        id=AlertId(1), alert=alert, received_at=Instant(1_000_000), resolved_at=None,
        seen_at=None if seen_at is None else Instant(seen_at), policy_revision="r",
    )  # fmt: skip
    return CallContext(Connections({}), NOW, episode)


def test_firing_is_one_and_resolved_is_zero_now() -> None:
    assert Firing().read(context(Status.FIRING), NoParams()).samples == (Sample(at=NOW, value=1.0),)
    assert Firing().read(context(Status.RESOLVED), NoParams()).samples == (Sample(at=NOW, value=0.0),)


def test_closed_is_no_data_for_it_is_no_recovery() -> None:
    reading = Firing().read(context(Status.CLOSED), NoParams())
    assert reading.samples == ()
    assert "no recovery" in reading.note


def test_the_value_is_as_old_as_its_delivery() -> None:
    first = Value().read(context(value=83.5), NoParams())
    again = Value().read(context(value=83.5, seen_at=1_500_000), NoParams())
    assert first.samples == (Sample(at=Instant(1_000_000), value=83.5),)
    assert again.samples == (Sample(at=Instant(1_500_000), value=83.5),)


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_no_value_is_no_data(value: float | None) -> None:
    reading = Value().read(context(value=value), NoParams())
    assert reading.samples == ()
    assert "reported no value" in reading.note


def test_without_an_alert_there_is_no_data() -> None:
    by_hand = CallContext(Connections({}), NOW, None)
    assert Firing().read(by_hand, NoParams()).samples == ()
    assert Value().read(by_hand, NoParams()).samples == ()
