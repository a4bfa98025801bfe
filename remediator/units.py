"""Units of measured values, and what they are worth in the base unit of what they measure.

Names as in UCUM where senders use those (`By`, `s`, `ms`, `1`), and as people and Kubernetes write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

UNITS: Mapping[str, tuple[str, Decimal]] = {
    "": ("a plain number", Decimal(1)),
    "1": ("a plain number", Decimal(1)),
    "%": ("a plain number", Decimal("0.01")),
    "ns": ("time", Decimal("1e-9")),
    "us": ("time", Decimal("1e-6")),
    "ms": ("time", Decimal("0.001")),
    "s": ("time", Decimal(1)),
    "m": ("time", Decimal(60)),
    "min": ("time", Decimal(60)),
    "h": ("time", Decimal(3600)),
    "d": ("time", Decimal(86400)),
    "B": ("bytes", Decimal(1)),
    "By": ("bytes", Decimal(1)),
    "K": ("bytes", Decimal(10**3)),
    "M": ("bytes", Decimal(10**6)),
    "G": ("bytes", Decimal(10**9)),
    "T": ("bytes", Decimal(10**12)),
    "Ki": ("bytes", Decimal(2**10)),
    "Mi": ("bytes", Decimal(2**20)),
    "Gi": ("bytes", Decimal(2**30)),
    "Ti": ("bytes", Decimal(2**40)),
}
"""Unit → (what it measures, how much of the base unit: a plain number, a second, a byte)."""
