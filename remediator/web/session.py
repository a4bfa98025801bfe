"""Who is logged in to the pages: a short-lived signed cookie, of which the daemon keeps nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from remediator.model import Instant, Millis
from remediator.web.access import Caller
from remediator.web.credentials import CallerKeys


class Sessions:
    """Makes and reads cookies: `name.expiry.signature`, each part safe in a cookie.

    The signature also covers the person's present token: a token that is taken out of the settings, or
    replaced, ends every session that began with it. The role is always the one that settings give now.

    Args:
        secrets_: keys that every replica knows, the first signs; none: a key of this process alone.
        callers: the tokens of settings.
        length: how long a session lasts.
        secure: whether the cookie travels over https only.
    """

    def __init__(
        self, secrets_: Sequence[bytes], callers: CallerKeys, length: Millis, *, secure: bool
    ) -> None:
        self._keys = tuple(secrets_) or (secrets.token_bytes(32),)
        self._callers = callers
        self._length = length
        self._secure = secure
        # A browser takes a cookie of the name __Host-… from this host alone, over https.
        self.cookie = "__Host-remediator" if secure else "remediator"

    def begin(self, token: str, now: Instant) -> str | None:
        """The cookie for whoever holds this token; None if nobody does."""
        found = self._callers.caller(b"Bearer " + token.strip().encode())
        return None if found is None else self._signed(self._keys[0], found[0], Instant(now + self._length))

    def read(self, cookie: str, now: Instant) -> Caller | None:
        """Who is logged in; None where the cookie is forged, too old, or its token is gone."""
        name, _, rest = cookie.partition(".")
        expiry, _, _ = rest.partition(".")
        try:
            who = base64.urlsafe_b64decode(name.encode() + b"==").decode()
            until = Instant(int(expiry)) if expiry.isdecimal() and len(expiry) < 20 else Instant(0)
        except (binascii.Error, ValueError):
            return None
        true = [
            hmac.compare_digest(self._signed(key, who, until).encode(), cookie.encode()) for key in self._keys
        ]
        role = self._callers.role(who)
        if not any(true) or role is None or now >= until:
            return None
        return Caller(who, role)

    def form(self, cookie: str, about: str) -> str:
        """What a form about this thing must carry, in this session: another site cannot know it."""
        return _mac(self._keys[0], "form", cookie, about)

    def same_form(self, given: str, cookie: str, about: str) -> bool:
        """Whether a form carries what `form` gave it."""
        true = [
            hmac.compare_digest(_mac(key, "form", cookie, about).encode(), given.encode())
            for key in self._keys
        ]
        return any(true)

    def header(self, value: str) -> str:
        """The Set-Cookie header; an empty value ends the session."""
        age = self._length // 1000 if value else 0
        secure = "; Secure" if self._secure else ""
        return f"{self.cookie}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"

    def _signed(self, key: bytes, name: str, until: Instant) -> str:
        who = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        return f"{who}.{until}.{_mac(key, 'session', name, str(until), self._callers.fingerprint(name))}"


def _mac(key: bytes, *parts: str) -> str:
    said = "\0".join(("remediator", *parts)).encode()
    return base64.urlsafe_b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode().rstrip("=")
