"""What all values are made of."""

from __future__ import annotations

from typing import NewType

import msgspec


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all values: frozen, keyword-only, cheap to encode."""


AlertId = NewType("AlertId", int)
RunId = NewType("RunId", int)
IncidentId = NewType("IncidentId", int)
