"""The signed link to an approval's page: it says which approval and until when, and nothing decides by it.

Whoever has the link may see that there is a question; to see the plan and to decide they log in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from remediator.model import Instant
from remediator.settings import Settings

_TOKEN = re.compile(r"([1-9][0-9]{0,18})\.([1-9][0-9]{0,18})\.([A-Za-z0-9_-]{43})", re.ASCII)


class Links:
    """Makes and reads tokens. HMAC-SHA-256 over (approval, expiry).

    Args:
        keys: the first signs, all are accepted (to rotate them). None: no link can be made or read.
        base: where people reach the daemon; None: tokens can be read, and no link can be made.
    """

    def __init__(self, keys: Sequence[bytes] = (), base: str | None = None) -> None:
        self._keys = tuple(keys)
        self._base = base.rstrip("/") if base else None

    @classmethod
    def of(cls, settings: Settings) -> Links:
        """Those of an installation."""
        keys = [key.get_secret_value().encode() for key in settings.approvals.link_key]
        return cls(keys, settings.server.public_url)

    def __repr__(self) -> str:
        return f"Links(keys={len(self._keys)}, base={self._base!r})"

    @property
    def readable(self) -> bool:
        """Whether there is a key."""
        return bool(self._keys)

    def url(self, approval: int, expires_at: Instant) -> str:
        """The link, or "" where settings give no key or no address."""
        if not self._keys or self._base is None:
            return ""
        return f"{self._base}/approvals/{self.token(approval, expires_at)}"

    def token(self, approval: int, expires_at: Instant) -> str:
        """`approval.expiry.signature`, safe in a URL."""
        return f"{approval}.{expires_at}.{_sign(self._keys[0], approval, expires_at)}"

    def read(self, token: str) -> tuple[int, Instant] | None:
        """(approval, expiry) if one of the keys signed it; None for anything else.

        Every key is tried, each in constant time, whether or not an earlier one fits.
        """
        found = _TOKEN.fullmatch(token)
        if found is None:
            return None
        approval, expires_at = int(found[1]), Instant(int(found[2]))
        true = [hmac.compare_digest(_sign(key, approval, expires_at), found[3]) for key in self._keys]
        return (approval, expires_at) if any(true) else None


def _sign(key: bytes, approval: int, expires_at: Instant) -> str:
    said = f"remediator approval link\0{approval}\0{expires_at}".encode()
    mac = hmac.new(key, said, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")
