"""Logging: one JSON object a line on standard output, and nothing secret in it.

Libraries that log through the standard library (uvicorn, SQLAlchemy) come out the same way.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from pydantic import SecretStr

from remediator.settings.values import Address

_QUERY = re.compile(r"(/[^\s?\"']*)\?[^\s\"'#]+")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}")
_SENSITIVE = re.compile(r"(?i)(password|passwd|secret|token|authorization|api_?key)$")
_CLIENTS = ("httpx2", "httpcore2", "urllib3", "botocore", "boto3", "kubernetes", "google", "grpc")
HIDDEN = "***"


def configure(level: str = "info", format: str = "json", stream: TextIO | None = None) -> None:
    """Set logging up; called once, at start.

    Args:
        level: debug, info, warning or error.
        format: `json`, or `console` for a terminal.
        stream: where to; standard output if None.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=str)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    # JSON gets a traceback as one field; the console prints it itself.
    traceback = [structlog.processors.format_exc_info] if format == "json" else []
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *traceback,
            redact,
            renderer,
        ],
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        # Left unset, uvicorn takes the level for "trace" and formats messages that nobody reads.
        logger.setLevel(level.upper())
        # The access log would show query strings, and says nothing that the metrics do not.
        logger.propagate = name != "uvicorn.access"
    for name in _CLIENTS:
        # Each writes a line for every request, at level debug with headers and bodies: what was asked of
        # the outside is in the audit log, and what stands in a body is nobody's business here.
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secrets by type, by key, and query strings and Authorization values inside texts."""
    for key in list(event):
        event[key] = HIDDEN if _SENSITIVE.search(key) else _clean(event[key])
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, str):
        text = value.shown if isinstance(value, Address) else Address(value).shown
        return _AUTHORIZATION.sub(rf"\1 {HIDDEN}", _QUERY.sub(rf"\1?{HIDDEN}", text))
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if isinstance(key, str) and _SENSITIVE.search(key) else _clean(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return value
