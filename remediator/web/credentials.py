"""Who is calling: compares what a request carries with what settings allow.

Only hashes are kept and compared, each in constant time and all of them always, so that neither
the time nor the memory of the process tells a token.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import parse_qsl

from remediator.settings import Auth, Role, Token

QUERY_TOKEN = "auth_token"  # noqa: S105 - the parameter's name


def _hash(kind: str, secret: bytes) -> bytes:
    return hashlib.sha256(kind.encode() + b"\0" + secret).digest()


def presented(authorization: bytes | None, query: bytes) -> list[bytes]:
    """Hashes of every credential a request carries."""
    found: list[bytes] = []
    if authorization is not None:
        scheme, _, value = authorization.strip().partition(b" ")
        if scheme.lower() == b"bearer":
            found.append(_hash("bearer", value.strip()))
        elif scheme.lower() == b"basic":
            with contextlib.suppress(binascii.Error):
                found.append(_hash("basic", base64.b64decode(value.strip(), validate=True)))
    if query and QUERY_TOKEN.encode() in query:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8")
        found += [_hash("query", value.encode()) for name, value in pairs if name == QUERY_TOKEN]
    return found


def _equal_any(allowed: Sequence[bytes], given: Sequence[bytes]) -> int:
    """Index of the last allowed hash that is among the given, or -1; always compares all."""
    hit = -1
    for index, one in enumerate(allowed):
        for other in given[:4]:
            if hmac.compare_digest(one, other):
                hit = index
    return hit


class SenderKeys:
    """The credentials that one sender may use; any of them will do.

    Args:
        auth: none at all means that everybody may post (settings allow that on loopback only).
    """

    def __init__(self, auth: Sequence[Auth]) -> None:
        self.open = not auth
        self._allowed: list[bytes] = []
        schemes: set[str] = set()
        for one in auth:
            if one.bearer is not None:
                self._allowed.append(_hash("bearer", one.bearer.get_secret_value().encode()))
                schemes.add("Bearer")
            elif one.basic is not None:
                pair = f"{one.basic.username}:{one.basic.password.get_secret_value()}"
                self._allowed.append(_hash("basic", pair.encode()))
                schemes.add("Basic")
            elif one.query_token is not None:
                self._allowed.append(_hash("query", one.query_token.get_secret_value().encode()))
        # A sender with basic credentials sends them only when it is asked to.
        ordered = sorted(schemes) or ["Bearer"]
        self.challenge = ", ".join(f'{scheme} realm="remediator"' for scheme in ordered)

    def admit(self, authorization: bytes | None, query: bytes) -> bool:
        if self.open:
            return True
        return _equal_any(self._allowed, presented(authorization, query)) >= 0


class CallerKeys:
    """The tokens of the API."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.open = not tokens
        self._callers = [(token.name, token.role) for token in tokens]
        self._allowed = [_hash("bearer", token.token.get_secret_value().encode()) for token in tokens]

    def caller(self, authorization: bytes | None) -> tuple[str, Role] | None:
        """(name, role), or None for an unknown or missing token."""
        hit = _equal_any(self._allowed, presented(authorization, b""))
        return self._callers[hit] if hit >= 0 else None

    def role(self, name: str) -> Role | None:
        """The role of a caller by its name; None if settings have none of that name."""
        return dict(self._callers).get(name)

    def fingerprint(self, name: str) -> str:
        """What changes when a caller's token does; never the token, "" where there is none."""
        for place, (known, _) in enumerate(self._callers):
            if known == name:
                return self._allowed[place].hex()
        return ""

    def at_least(self, role: Role) -> list[tuple[str, Role]]:
        """Who has this role or a higher one."""
        return [(name, has) for name, has in self._callers if has.rank >= role.rank]
