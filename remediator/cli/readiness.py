"""How the daemon itself is: what its /readyz says. It needs no token."""

from __future__ import annotations

from typing import TypedDict

import httpx2

from remediator.settings.values import Address

TIMEOUT = 5.0


class Readiness(TypedDict):
    """ready: whether it takes alerts and acts on them; None if it does not answer.
    said: why not, or which of its tasks fail.
    """

    ready: bool | None
    said: list[str]


async def readiness(address: str) -> Readiness:
    """Ask a daemon how it is.

    Args:
        address: `http://host:port`.
    """
    shown = Address(address).shown
    try:
        async with httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
            answer = await http.get(f"{address.rstrip('/')}/readyz")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = str(error) or type(error).__name__
        return {"ready": None, "said": [f"{shown} does not answer: {why}"]}
    if answer.status_code == 200:
        first, *faults = answer.text.splitlines() or [""]
        if first == "ready":
            return {"ready": True, "said": faults}
    elif answer.status_code == 503:
        return {"ready": False, "said": [_detail(answer)]}
    return {"ready": None, "said": [f"{shown} answered, but not as remediator does"]}


def _detail(answer: httpx2.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        found = None
    detail = found.get("detail") if isinstance(found, dict) else None
    return detail if isinstance(detail, str) else f"HTTP {answer.status_code}"
