"""The shipped actions with everything as it is but the time in which a lost call can still land."""

from __future__ import annotations

from remediator.actions.autoscaling import SetCapacity
from remediator.actions.kubernetes import Scale
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
