"""The OpenAPI document: FastAPI's, with the errors as problem documents and the webhooks added."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from remediator.web import problem

_SAID = {
    400: "The body cannot be read; it is kept, see `remediator doctor`.",
    401: "The token is missing or unknown.",
    403: "The role does not allow it.",
    404: "There is no such thing.",
    405: "The method is not allowed.",
    408: "The request did not arrive in time.",
    409: "The present state does not allow it.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "A parameter is wrong.",
    503: "The store is out of reach, or the daemon is not ready; send it again.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an operation may answer with; without arguments those of the API."""
    content = {problem.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    chosen = statuses or (400, 401, 403, 404, 405, 409, 413, 422, 503)
    return {status: {"description": _SAID[status], "content": content} for status in chosen}


def document(api: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if not api.openapi_schema:
        made = get_openapi(title=api.title, version=api.version, routes=api.routes)
        components = made.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = problem.SCHEMA
        components.setdefault("securitySchemes", {}).update(
            {
                "SenderBearer": {"type": "http", "scheme": "bearer"},
                "SenderBasic": {"type": "http", "scheme": "basic"},
                "SenderToken": {"type": "apiKey", "in": "query", "name": "auth_token"},
            }
        )
        made["paths"]["/webhooks/{sender}"] = {"post": _webhook()}
        api.openapi_schema = made
    return api.openapi_schema


def _webhook() -> dict[str, Any]:
    counts = ("accepted", "repeated", "resolved", "updated", "rejected", "truncated")
    answer = {
        "type": "object",
        "required": [*counts, "test"],
        "properties": {
            **{name: {"type": "integer", "minimum": 0} for name in counts},
            "test": {"type": "boolean"},
        },
    }
    errors = problems(400, 401, 403, 404, 405, 408, 413, 415, 503)
    return {
        "tags": ["webhooks"],
        "summary": "Take alerts",
        "description": "The body is the sender's own, after senders.<name>.kind. 200 means committed.",
        "operationId": "take_alerts",
        "security": [{"SenderBearer": []}, {"SenderBasic": []}, {"SenderToken": []}],
        "parameters": [
            {"name": "sender", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {
            "200": {
                "description": "What became of the alerts, after their commit.",
                "content": {"application/json": {"schema": answer}},
            },
            **{str(status): said for status, said in errors.items()},
        },
    }
