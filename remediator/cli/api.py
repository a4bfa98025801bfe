"""The daemon's HTTP API as the command line uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from remediator import __version__
from remediator.cli.reading import Json, rfc3339
from remediator.errors import (
    AuthenticationError,
    ConfigurationError,
    Conflict,
    NotAllowed,
    NotFound,
    StoreUnavailable,
)
from remediator.settings.values import Address

TIMEOUT = 30.0
_PAGE = 500


class Api:
    """One daemon's API. A Reader, and the changes that only a daemon may make.

    Args:
        address: `http://host:port`, without /api/v1.
        token: sent as a bearer token; never shown.

    Raises (all methods):
        StoreUnavailable: the daemon cannot be reached, or cannot answer now.
        AuthenticationError: the token is missing or unknown.
        NotAllowed: the token's role does not allow this.
        NotFound, Conflict: as the daemon says.
        ConfigurationError: the daemon refuses the request as wrong.
    """

    def __init__(self, address: str, token: str | None) -> None:
        if not address.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"--server {Address(address).shown}: must start with http:// or https://"
            )
        self._address = address.rstrip("/")
        self._shown = Address(self._address).shown
        self._token = token

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": f"remediator/{__version__}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            self._http = httpx2.AsyncClient(
                base_url=f"{self._address}/api/v1/", headers=headers, timeout=TIMEOUT, trust_env=False
            )
        except (httpx2.InvalidURL, UnicodeEncodeError):
            raise ConfigurationError(f"--server {self._shown}: not an address") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # -- reading

    async def alerts(self, matchers: Sequence[str], firing: bool | None, limit: int) -> list[Json]:
        return await self._pages("alerts", {"filter": list(matchers), "firing": firing}, limit)

    async def explain(self, id: int, policy: str | None) -> Json:
        return await self._ask("GET", f"alerts/{id}/explain", {"policy": policy})

    async def runs(
        self, *, open: bool | None, policy: str | None, alert: int | None, limit: int
    ) -> list[Json]:
        return await self._pages("runs", {"open": open, "policy": policy, "alert": alert}, limit)

    async def run(self, id: int) -> Json:
        return await self._ask("GET", f"runs/{id}")

    async def incidents(self, *, open: bool | None, limit: int) -> list[Json]:
        return await self._pages("incidents", {"open": open}, limit)

    async def incident(self, id: int) -> Json:
        return await self._ask("GET", f"incidents/{id}")

    async def audit(self, filters: Mapping[str, Any], limit: int, oldest_first: bool) -> list[Json]:
        asked = dict(filters)
        for key in ("since", "until"):
            if asked.get(key) is not None:
                asked[key] = rfc3339(asked[key])
        answer = await self._ask("GET", "audit", {**asked, "limit": limit, "oldest_first": oldest_first})
        return _items(answer)

    async def verify(self, head: str | None) -> Json:
        return await self._ask("GET", "audit/verify", {"head": head})

    async def effects(self, open: bool) -> list[Json]:
        return _items(await self._ask("GET", "effects", {"open": open}))

    async def targets(self) -> list[Json]:
        return _items(await self._ask("GET", "targets"))

    async def controls(self) -> list[Json]:
        return _items(await self._ask("GET", "control"))

    async def questions(self) -> list[Json]:
        return _items(await self._ask("GET", "approvals", {"open": True, "limit": _PAGE}))

    # -- changing

    async def start(
        self, policy: str, labels: Mapping[str, str], reason: str, key: str, anyway: bool
    ) -> Json:
        body: Json = {"policy": policy, "labels": dict(labels), "reason": reason, "key": key}
        if anyway:
            body["anyway"] = True
        return await self._ask("POST", "runs", body=body)

    async def cancel(self, run: int, reason: str) -> Json:
        return await self._ask("POST", f"runs/{run}/cancel", body={"reason": reason})

    async def approve(self, run: int, comment: str, approval: int | None) -> Json:
        return await self._ask("POST", f"runs/{run}/approve", body={"comment": comment, "approval": approval})

    async def reject(self, run: int, comment: str, approval: int | None) -> Json:
        return await self._ask("POST", f"runs/{run}/reject", body={"comment": comment, "approval": approval})

    async def acknowledge(self, incident: int, comment: str) -> Json:
        return await self._ask("POST", f"incidents/{incident}/ack", body={"comment": comment})

    async def resolve_incident(self, incident: int, comment: str) -> Json:
        return await self._ask("POST", f"incidents/{incident}/resolve", body={"comment": comment})

    async def pause(self, scope: str, reason: str, expires: str) -> Json:
        return await self._ask(
            "POST", "control/pause", body={"scope": scope, "reason": reason, "expires": expires}
        )

    async def resume(self, scope: str, reason: str) -> bool:
        answer = await self._ask("POST", "control/resume", body={"scope": scope, "reason": reason})
        return bool(answer["resumed"])

    async def restore(self, policy: str, reason: str) -> None:
        await self._ask("POST", f"policies/{quote(policy, safe='')}/restore", body={"reason": reason})

    async def clear_target(self, target: str, reason: str) -> None:
        await self._ask("POST", "targets/clear", body={"target": target, "reason": reason})

    async def renew_effect(self, id: int, longer: str, reason: str) -> Json:
        return await self._ask("POST", f"effects/{id}/renew", body={"expires": longer, "reason": reason})

    async def return_effect(self, id: int, reason: str) -> Json:
        return await self._ask("POST", f"effects/{id}/return", body={"reason": reason})

    # -- HTTP

    async def _pages(self, path: str, query: Mapping[str, Any], limit: int) -> list[Json]:
        found: list[Json] = []
        before: int | None = None
        while len(found) < limit:
            asked = {**query, "before": before, "limit": min(limit - len(found), _PAGE)}
            answer = await self._ask("GET", path, asked)
            found += _items(answer)
            before = answer.get("next")
            if before is None:
                break
        return found

    async def _ask(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Json | None = None
    ) -> Json:
        given = {key: _text(value) for key, value in (query or {}).items() if value is not None}
        try:
            answer = await self._http.request(method, path, params=given, json=body)
        except httpx2.TimeoutException:
            raise StoreUnavailable(f"{self._shown} did not answer within {TIMEOUT:g} s") from None
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
            raise StoreUnavailable(
                f"{self._shown} cannot be reached: {why}; is the daemon running there? (remediator serve)"
            ) from None
        if answer.is_success:
            try:
                found = answer.json()
            except ValueError:
                found = None
            if isinstance(found, dict):
                return found
            raise StoreUnavailable(f"{self._shown} answered, but not as remediator does; check --server")
        raise _refusal(self._shown, answer)


def _refusal(address: str, answer: httpx2.Response) -> Exception:
    detail = _detail(answer)
    status = answer.status_code
    if status == 401:
        return AuthenticationError(
            f"{address}: {detail}; give a token with --token, REMEDIATOR_TOKEN "
            "or in ~/.config/remediator/cli.yml"
        )
    if status == 403:
        # What stands in front of a daemon may refuse too: then nobody has said what the daemon would.
        ours = answer.headers.get("content-type", "").startswith("application/problem+json")
        return NotAllowed(detail) if ours else AuthenticationError(f"{address}: {detail}")
    if status == 404:
        return NotFound(detail)
    if status == 409:
        return Conflict(detail)
    if status < 500:
        return ConfigurationError(detail)
    return StoreUnavailable(f"{address}: {detail}")


def _detail(answer: httpx2.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("detail"), str):
        return str(found["detail"])
    return f"HTTP {answer.status_code}, and the answer does not come from remediator; check --server"


def _items(answer: Json) -> list[Json]:
    found = answer.get("items")
    return found if isinstance(found, list) else []


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
