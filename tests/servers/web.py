"""The few HTTP requests that starting and asking a server needs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


def answers(url: str, timeout: float = 1) -> bool:
    """Whether GET on this address is answered with 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return 200 <= int(response.status) < 300
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def get(url: str, timeout: float = 5) -> Any:
    """The JSON document at this address."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return json.load(response)


def post(url: str, body: bytes, headers: dict[str, str] | None = None, timeout: float = 10) -> int:
    """POST a JSON body; returns the status, also when it is an error."""
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json", **(headers or {})}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
