"""What a policy may say, and yet is probably a mistake: told as warnings, never refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.model import Mode, span
from remediator.policy.schema import Policy


def lint(policy: Policy) -> Iterator[str]:
    """What a reviewer should look at."""
    verify = policy.verify
    if verify is None or policy.mode is Mode.OBSERVE:
        return
    if verify.within < policy.for_:
        yield (
            f"verify.within is {span(verify.within)} and for is {span(policy.for_)}: what needed that long "
            "to show may need as long to go, so a good fix can be judged too early"
        )
    if policy.limits.cooldown < verify.after + verify.stable_for:
        yield (
            f"limits.cooldown is {span(policy.limits.cooldown)} and verify needs {span(verify.after)} + "
            f"{span(verify.stable_for)} (after, stable_for): another policy may act on the target before "
            "this one can know that it healed"
        )
