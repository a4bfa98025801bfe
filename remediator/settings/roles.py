"""Roles of callers, from the one that only reads to the one that may do everything."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a caller of the API may do; each role includes those before it."""

    VIEWER = "viewer"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    MANAGER = "manager"
    LEAD = "lead"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)
