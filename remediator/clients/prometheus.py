"""A Prometheus, or anything that speaks its query API (Thanos, Mimir, VictoriaMetrics, Google's frontend)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from remediator.clients.http import address, reason, session
from remediator.errors import Permanent, Temporary
from remediator.model import Instant

if TYPE_CHECKING:
    from remediator.settings import PrometheusConnection

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer; a check that needs more asks for far too much."""


@dataclass(frozen=True, slots=True)
class Series:
    """One element of an instant query's result. A scalar has no labels."""

    labels: dict[str, str]
    at: Instant
    value: float


@dataclass(frozen=True, slots=True)
class Result:
    series: tuple[Series, ...]
    warnings: tuple[str, ...]


class PrometheusClient:
    """Asks instant queries (https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries)."""

    def __init__(self, name: str, settings: PrometheusConnection) -> None:
        self.name = name
        self._settings = settings
        self._client = session(settings)

    @classmethod
    def connect(cls, name: str, settings: PrometheusConnection) -> Self:
        """Make the client; Prometheus is reached with the first query."""
        return cls(name, settings)

    def query(self, promql: str) -> Result:
        """Evaluate a query now.

        Returns:
            The series of a scalar or vector, NaN and infinities included.

        Raises:
            Temporary: out of reach, overloaded, too slow.
            Permanent: the query is wrong, access was denied, or this is not Prometheus' API.
        """
        answer = self._post("/api/v1/query", {"query": promql, "timeout": f"{self._settings.timeout:g}s"})
        try:
            data = answer["data"]
            warnings = tuple(str(warning) for warning in answer.get("warnings") or ())
            if data["resultType"] == "scalar":
                return Result((_series({}, data["result"]),), warnings)
            if data["resultType"] == "vector":
                series = tuple(_series(item["metric"], item["value"]) for item in data["result"])
                return Result(series, warnings)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise Permanent(f"{self._name} answered in a form that is not known: {error!r}") from error
        raise Permanent(
            f"{self._name}: the query gives a {str(data['resultType'])[:20]}; "
            "a check needs a number (a scalar or an instant vector)"
        )

    def identity(self) -> str:
        """The address, after a query was answered."""
        self.query("vector(1)")
        return address(self._settings.url)

    def close(self) -> None:
        self._client.close()

    @property
    def _name(self) -> str:
        return f"prometheus:{self.name}"

    def _post(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        import httpx2

        # Thanos would otherwise answer with what the stores that are up happen to have.
        form = {**form, "partial_response": "false"}
        url = self._settings.url.rstrip("/") + path
        try:
            with self._client.stream("POST", url, data=form) as response:
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > LARGEST:
                        raise Permanent(
                            f"{self._name}: the answer is larger than {LARGEST} bytes; ask for less"
                        )
                status = response.status_code
        except httpx2.TransportError as error:
            raise Temporary(f"{self._name}: {reason(error)}") from error
        except httpx2.DecodingError as error:
            raise Permanent(f"{self._name} sent a body that cannot be decoded") from error
        return self._understood(status, body)

    def _understood(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        said = ""
        if isinstance(answer, dict):
            if status == 200 and answer.get("status") == "success":
                return answer
            said = f"{answer.get('errorType', 'error')}: {answer.get('error', '')}"[:300]
        if status in (408, 429) or status >= 500:
            raise Temporary(f"{self._name} answered {status} {said}".rstrip())
        if status in (401, 403):
            raise Permanent(
                f"{self._name} answered {status}: check the connection's bearer or basic credentials"
            )
        if status in (400, 422) and said:
            raise Permanent(f"{self._name} cannot evaluate the query: {said}")
        raise Permanent(
            f"{self._name} answered {status}, and not as Prometheus' API does: check the connection's url"
        )


def _series(labels: dict[str, str], pair: list[Any]) -> Series:
    at, value = pair  # seconds as a number, the value as text
    return Series(dict(labels), Instant(round(float(at) * 1000)), float(value))
