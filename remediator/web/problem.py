"""Problem documents, RFC 9457: every error of the HTTP interface is one."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

CONTENT_TYPE = "application/problem+json"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "An error, after RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Always about:blank: the status says the kind."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, what is allowed, and what to do."},
        "errors": {
            "type": "array",
            "description": "The fields at fault.",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
"""The document's JSON Schema, for the OpenAPI document."""


class Problem(Exception):
    """Raised in a handler to answer with a problem document.

    Args:
        status: the HTTP status.
        detail: what was wrong, what is allowed, and what to do; never a secret.
        headers: more response headers.
        more: further members of the document.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    def body(self) -> bytes:
        return document(self.status, self.detail, **self.more)

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, CONTENT_TYPE)


def document(status: int, detail: str, **more: Any) -> bytes:
    """The document's bytes."""
    head = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return msgspec.json.encode({**head, **more})
