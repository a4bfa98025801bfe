"""What a check is, and where checks and actions are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol

from remediator.contracts.action import Action, Context, P, Params, Permission
from remediator.model import Millis, Reading


class Check(ABC, Generic[P]):
    """Reads one signal. Empty samples mean no data; a check never invents a value."""

    name: ClassVar[str]
    summary: ClassVar[str]
    params: ClassVar[type[Params]]
    unit: ClassVar[str]
    """The unit of the samples ("" for a plain number, "%", "s", "By"); `is:` is compared in it."""
    max_age: ClassVar[Millis] = Millis(300_000)
    """Samples older than this are stale, which is no data."""
    local: ClassVar[bool] = False
    """Whether it answers from what it is given, at once and without asking anybody: it needs no thread."""
    permissions: ClassVar[tuple[Permission, ...]]
    example: ClassVar[Mapping[str, Any]]
    """{"check": …, "with": {…}, "is": "…"}"""

    @abstractmethod
    def read(self, context: Context, params: P) -> Reading:
        """Ask the source once.

        Raises:
            ActionError: the source did not answer, which is no data.
        """


class Catalogue(Protocol):
    """The actions and checks found by scan."""

    def action(self, name: str) -> Action[Any] | None: ...
    def check(self, name: str) -> Check[Any] | None: ...
    def actions(self) -> Sequence[Action[Any]]: ...
    def checks(self) -> Sequence[Check[Any]]: ...
