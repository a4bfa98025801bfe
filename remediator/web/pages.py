"""What every page has: the templates, the headers that keep scripts and frames out, and who may post."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

_HERE = Path(__file__).parent
_FORM = "application/x-www-form-urlencoded"
FIELDS = 20
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

router = APIRouter(include_in_schema=False)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["clock"] = clock
    return made


def clock(at: str) -> str:
    """2026-01-15T10:11:12.345Z as people read it: `2026-01-15 10:11:12 UTC`, not broken over two lines."""
    return f"{at[:10]} {at[11:19]} UTC".replace(" ", "\u00a0")


def page(name: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """A template as a response. Every value is escaped."""
    body = _environment().get_template(name).render(status=status, **values)
    return Response(body, status, {**HEADERS, **(headers or {})}, "text/html; charset=utf-8")


@router.api_route("/static/page.css", methods=["GET", "HEAD"])
async def style() -> Response:
    """The one style sheet."""
    headers = {**HEADERS, "Cache-Control": "max-age=300"}
    return Response(_style(), 200, headers, "text/css; charset=utf-8")


@cache
def _style() -> bytes:
    return (_HERE / "static" / "page.css").read_bytes()


async def form(request: Request) -> dict[str, str]:
    """The fields of a posted form, each once; empty for any other body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    try:
        text = (await request.body()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        return {}


def from_here(request: Request, public: str | None) -> bool:
    """Whether a browser posts this from one of our own pages, by what browsers say and pages cannot forge.

    Args:
        public: server.public_url.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    ours = {f"http://{host}", f"https://{host}"}
    if public is not None:
        parts = urlsplit(public)
        ours = {f"{parts.scheme}://{parts.netloc}".lower(), *ours}
    return origin.lower() in {one.lower() for one in ours}
