"""Asks checks, side by side, and judges what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from remediator.engine.case import Case
from remediator.engine.judge import Judgement, judge
from remediator.errors import ActionError, Refused
from remediator.model import Reason
from remediator.policy.schema import CheckUse
from remediator.policy.template import render


async def look(case: Case, uses: Sequence[CheckUse]) -> list[Judgement]:
    """Judge each condition. A check that fails is no data.

    Raises:
        Refused: a parameter cannot be filled (unknown label, bad value, unknown connection).
    """
    return list(await asyncio.gather(*(_one(case, use) for use in uses)))


async def _one(case: Case, use: CheckUse) -> Judgement:
    check = case.tools.catalogue.check(use.check)
    if check is None:
        raise Refused(Reason.INVALID_PARAMETER, f"no check is named {use.check!r} in this version")
    params = render(use.with_, check.params, case.episode.alert)
    allowed = f"{use.check} {use.is_}"
    try:
        reading = await case.tools.execute.read(check, params, case.now, case.episode)
        if use.is_ is None:
            return Judgement(None, f"{use.check}: nothing to compare with", allowed)
        now = await case.tools.store.now()  # a slow check must not make its own sample look early
        return judge(use.check, reading, check.unit, use.is_, check.max_age, now)
    except Refused:
        raise
    except ActionError as error:
        return Judgement(None, f"{use.check}: not answered: {error}", allowed)


async def evidence(case: Case) -> dict[str, Any]:
    """The policy's read-only look-ups, kept with the run. One that fails is kept as such."""
    found: dict[str, Any] = {}
    for use in case.policy.evidence:
        check = case.tools.catalogue.check(use.check)
        if check is None:
            found[use.check] = "no such check in this version"
            continue
        try:
            params = render(use.with_, check.params, case.episode.alert)
            reading = await case.tools.execute.read(check, params, case.now, case.episode)
        except ActionError as error:
            found[use.check] = f"not answered: {error}"
            continue
        found[use.check] = {
            "unit": reading.unit or check.unit,
            "note": reading.note,
            "samples": [[sample.at, sample.value] for sample in reading.samples[-20:]],
        }
    return found
