"""Every error of remediator, with one root.

    RemediatorError
    ├── ConfigurationError      settings or policies are wrong: refuse to start, or keep the old set
    │   └── PolicyError         carries file, line and column
    ├── StoreError              the store did not answer, or answered wrongly
    │   ├── StoreUnavailable    nothing was written, as far as can be known: answer 503, act on nothing
    │   ├── LeaseLost           another worker holds this run now: drop it, change nothing
    │   ├── NotFound            there is no such row
    │   └── Conflict            the row is not in a state that allows the change
    ├── AuthenticationError     the caller is not who it claims to be
    ├── NotAllowed              the caller is known, and may not do this (answered 403)
    ├── PayloadError            a webhook body that cannot be read
    ├── NotificationError       a notifier did not take a message: it is tried again, nothing waits for it
    └── ActionError             what an action or a check may raise; `engine.execute` alone interprets it
        ├── Temporary           provably not applied: may be tried again
        ├── Permanent           provably not applied, and trying again will not help
        ├── Refused             the daemon itself declines: a bound, an unknown label, a person's change
        └── Ambiguous           it may or may not have been applied: the run becomes UNKNOWN

A message names the thing, what was seen, what was allowed, and what to do.
It never carries a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remediator.model import Instant, Reason


class RemediatorError(Exception):
    """The root of every error that remediator raises on purpose."""


class ConfigurationError(RemediatorError):
    """Settings that cannot be used; the message names the key and what is allowed."""


class PolicyError(ConfigurationError):
    """One fault in a policy file.

    Args:
        message: what is wrong, and what would be right.
        file: the file's path as the user gave it.
        line: 1-based; 0 where the fault belongs to the whole file.
        column: 1-based; 0 where the fault belongs to the whole line.
    """

    def __init__(self, message: str, file: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        if not self.file:
            return self.message
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{place}: {self.message}"


class StoreError(RemediatorError):
    """The store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store is out of reach, full, or did not answer in time."""


class LeaseLost(StoreError):
    """The run's epoch moved on: this worker no longer owns it and must change nothing."""


class NotFound(StoreError):
    """No row of that id."""


class Conflict(StoreError):
    """The row's present state does not allow this change."""


class Braked(Conflict):
    """A pause or a quarantine is on: what was to be done again is not permitted now.

    Args:
        reason: PAUSED or QUARANTINED.
        observed: which brake, by whom and why.
        allowed: what would have been allowed.
        until: when it ends by itself, if it does.
    """

    def __init__(self, reason: Reason, observed: str, allowed: str, until: Instant | None = None) -> None:
        super().__init__(observed)
        self.reason = reason
        self.observed = observed
        self.allowed = allowed
        self.until = until


class AuthenticationError(RemediatorError):
    """Missing or wrong credentials. The message never repeats them."""


class NotAllowed(RemediatorError):
    """The caller is who it claims to be and may not do this. Names who, what, and what it would take."""


class PayloadError(RemediatorError):
    """A body whose envelope cannot be read at all (answered 400).

    Args:
        message: what was wrong.
        field: the dotted path of the field at fault, or "" for the whole body.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotificationError(RemediatorError):
    """A notifier did not take a message. The text never carries the notifier's address."""


class ActionError(RemediatorError):
    """The root of what actions and checks may raise."""


class Temporary(ActionError):
    """Provably not applied; may be tried again (throttling, connection refused before sending)."""


class Permanent(ActionError):
    """Provably not applied, and would fail again (permission denied, no such thing)."""


class Refused(ActionError):
    """The daemon declines by its own rules.

    Args:
        reason: the enumerated reason, for the log and the metrics.
        message: names the thing.
        observed: what was seen.
        allowed: what would have been allowed.
    """

    def __init__(self, reason: Reason, message: str, observed: str = "", allowed: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.observed = observed
        self.allowed = allowed


class Ambiguous(ActionError):
    """The call was made and its outcome is not known (time-out, reset connection)."""
