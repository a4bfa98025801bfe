"""What the alert itself says: whether it fires, and the value that its sender reported."""

from __future__ import annotations

import math

from remediator.contracts import Check, Context, Params, Permission
from remediator.model import MINUTE, Millis, Reading, Sample, Status

RECEIVING = (Permission("remediator", "from: a sender of the policy", "the alert was delivered by it"),)


class NoParams(Params):
    """Takes no parameters: it is about the alert that the policy was started by."""


class Value(Check[NoParams]):
    """In the base unit of what it measures: 12% is 0.12 (`> 5%` compares right), 300ms is 0.3, 2Gi is bytes.
    It is as old as the last delivery."""

    name = "alert.value"
    summary = "The value that the sender reported with the alert's last delivery"
    params = NoParams
    unit = ""
    max_age = Millis(15 * MINUTE)
    local = True
    permissions = RECEIVING
    example = {"check": "alert.value", "is": "> 80"}

    def read(self, context: Context, params: NoParams) -> Reading:
        episode = context.episode
        if episode is None:
            return Reading(samples=(), note="this run was not started by an alert")
        value = episode.alert.value
        if value is None or not math.isfinite(value):
            return Reading(
                samples=(), note="the sender reported no value; see `value:` of the sender in settings"
            )
        return Reading(samples=(Sample(at=episode.seen_at or episode.received_at, value=value),))


class Firing(Check[NoParams]):
    name = "alert.firing"
    summary = "1 while the alert fires, 0 once its sender said that it resolved"
    params = NoParams
    unit = ""
    local = True
    permissions = RECEIVING
    example = {"check": "alert.firing", "is": "== 0"}

    def read(self, context: Context, params: NoParams) -> Reading:
        episode = context.episode
        if episode is None:
            return Reading(samples=(), note="this run was not started by an alert")
        status = episode.alert.status
        if status is Status.CLOSED:
            return Reading(
                samples=(), note="the incident was closed because its data stopped; that is no recovery"
            )
        return Reading(samples=(Sample(at=context.now, value=1.0 if status is Status.FIRING else 0.0),))
