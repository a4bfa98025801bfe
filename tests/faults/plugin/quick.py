"""The shipped actions with everything as it is but the time in which a lost call can still land."""

from __future__ import annotations

from remediator.actions.autoscaling import SetCapacity
from remediator.actions.cloud_run import ShiftTraffic
from remediator.actions.kubernetes import Scale
from remediator.actions.postgres import TerminateQueries
from remediator.model import Millis

LANDING = Millis(3_000)


class QuickScale(Scale):
    """`kubernetes.scale` at a provider that carries out nothing after three seconds."""

    name = "quick.scale"
    landing_time = LANDING
    example = {**Scale.example, "action": name}


class QuickCapacity(SetCapacity):
    """`autoscaling.set_capacity` at such a provider."""

    name = "quick.capacity"
    landing_time = LANDING
    example = {**SetCapacity.example, "action": name}


class QuickTraffic(ShiftTraffic):
    """`cloud_run.shift_traffic` at such a provider."""

    name = "quick.traffic"
    landing_time = LANDING
    example = {**ShiftTraffic.example, "action": name}


class QuickTerminate(TerminateQueries):
    """`postgres.terminate_queries` at such a server."""

    name = "quick.terminate"
    landing_time = LANDING
    example = {**TerminateQueries.example, "action": name}
