"""Places where a test makes the daemon die, to prove that nothing is lost or done twice there.

A fail-point is armed by settings (`REMEDIATOR_FAILPOINT=name` or `name:n` for the n-th pass) and
never otherwise. Hitting it ends the process at once, as `kill -9` would: no handler, no flush.
"""

from __future__ import annotations

import os
import signal

NAMES = frozenset(
    {
        "accept.before_commit",
        "accept.after_commit",
        "move.before_commit",
        "move.after_commit",
        "admit.before_commit",
        "admit.after_commit",
        "decide.before_commit",
        "decide.after_commit",
        "apply.before",
        "apply.after",
        "incident.before_commit",
        "incident.after_commit",
        "outbox.after_send",
    }
)

_armed = ""
_passes = 0


def arm(spec: str) -> None:
    """Arm `name`, or `name:n` to die at the n-th pass (1 is the first). "" disarms.

    Raises:
        ValueError: no such fail-point.
    """
    global _armed, _passes
    name, _, count = spec.partition(":")
    if name and name.split("@")[0] not in NAMES:
        raise ValueError(f"no fail-point is named {name!r}; there are {', '.join(sorted(NAMES))}")
    _armed = name
    _passes = int(count) if count else 1


def hit(name: str, qualifier: str = "") -> None:
    """Die here if `name`, or `name@qualifier` (a state, an action), is armed."""
    global _passes
    if not _armed or _armed not in (name, f"{name}@{qualifier}"):
        return
    _passes -= 1
    if _passes <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
