"""What a brake is about: whether its scope names something that is there, before anybody relies on it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from remediator.contracts import Catalogue, Store
from remediator.errors import NotFound
from remediator.model import AlertId, RunId
from remediator.policy.source import SPECIAL

_NAMED = 20
"""Names in one error at most."""


def check_policy(name: str, policies: Collection[str]) -> None:
    """A pause of a policy that does not exist would stop nothing, and nobody would notice.

    Raises:
        NotFound: the active set has no policy of that name.
    """
    if name in policies:
        return
    raise NotFound(f"no policy is named {name!r}; {_near(name, policies)}there are: {_listed(policies)}")


def possible(name: str, catalogue: Catalogue) -> bool:
    """Whether some action here could call its target so."""
    system, colon, rest = name.partition(":")
    return bool(colon and rest) and system in {
        action.name.partition(".")[0] for action in catalogue.actions()
    }


def check_target(name: str, seen: Collection[str], catalogue: Catalogue) -> str:
    """What to tell a person who pauses this target; "" where nothing is odd about it.

    One that no run has met is taken all the same: it may be about to be met for the first time, and a
    person who stops it before must not be turned away. What no action could ever call its target is refused.

    Args:
        seen: names and keys of the targets that runs have met.

    Raises:
        NotFound: it is not `SYSTEM:NAME` of a system that any action or target here belongs to.
    """
    if name in seen:
        return ""
    systems = {action.name.partition(".")[0] for action in catalogue.actions()}
    systems |= {one.partition(":")[0] for one in seen if ":" in one}
    system, colon, rest = name.partition(":")
    if not (colon and rest and system in systems):
        raise NotFound(
            f"{name!r} is no target: {_near(name, seen)}targets are written SYSTEM:NAME, as "
            f"`remediator runs list` shows them; systems are: {_listed(systems)}"
        )
    return (
        f"no run has met {name} so far, so this holds nothing back now; if it is a slip, lift it. "
        f"{_near(name, seen)}It holds as soon as a run meets a target of exactly this name or key"
    )


async def must_exist(
    store: Store,
    *,
    policy: str | None = None,
    target: str | None = None,
    alert: int | None = None,
    run: int | None = None,
) -> None:
    """Asked where nothing was found: a mistyped name must not read as "nothing happened".

    A policy is known if it is, or was, in a set that is kept, or has a run or an event; a target if a run
    has met it or an event names it.

    Raises:
        NotFound: nothing here is, or was, called so.
    """
    if policy is not None and not await store.audit(policy=policy, limit=1):
        names = set(await store.policy_names()) - {file.removesuffix(".yaml") for file in SPECIAL}
        if policy not in names:
            raise NotFound(
                f"no policy is, or was, named {policy!r}; {_near(policy, names)}there are: {_listed(names)}"
            )
    if target is not None and not await store.audit(target=target, limit=1):
        seen = await store.targets()
        if target not in seen:
            raise NotFound(
                f"no run has met a target {target!r}; {_near(target, seen)}met are: {_listed(seen)}"
            )
    if alert is not None and not await store.audit(alert=AlertId(alert), limit=1):
        await store.episode(AlertId(alert))
    if run is not None and not await store.audit(run=RunId(run), limit=1):
        await store.run(RunId(run))


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? " if near else ""


def _listed(names: Collection[str]) -> str:
    some = ", ".join(sorted(names)[:_NAMED]) or "none"
    return some if len(names) <= _NAMED else f"{some} and {len(names) - _NAMED} more"
