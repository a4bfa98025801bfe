"""The sections of the settings file. The text under a field is its documentation."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from remediator.model import DAY, SECOND, Millis
from remediator.settings.roles import Role
from remediator.settings.values import Address, Credential, Duration, Line, Section, Size, refuse_unquoted

Secret = Annotated[SecretStr, Field(min_length=1)]
Positive = Annotated[Duration, Field(gt=0)]


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _proxies(network: Network) -> Network:
    if network.prefixlen == 0:
        raise ValueError(f"{network} is everybody, so anybody could name any address; name your proxies")
    return network


Proxies = Annotated[Network, AfterValidator(_proxies)]


class Server(Section):
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs authentication everywhere."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    body_limit: Size = Field(default=10 << 20, ge=1 << 10, le=1 << 30)
    """Largest webhook body; a larger one is answered 413 without being read."""
    request_timeout: Positive = Millis(10 * SECOND)
    """How long a client may take to send its request."""
    store_timeout: Positive = Millis(1_800)
    """How long a webhook waits for its commit before it is answered 503."""
    shutdown_timeout: Positive = Millis(10 * SECOND)
    """How long open requests may take to end at shutdown."""
    public_url: Annotated[Address, Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")] | None = None
    """Where people reach the daemon, for links in messages: https://remediator.example.com. With https,
    cookies are sent over https only."""

    trusted_proxies: tuple[Proxies, ...] = ()
    """Networks of the proxies in front of the daemon: 10.0.0.0/8, or one address. Only what they add to
    `X-Forwarded-For` is believed; failed logins are counted by the nearest address that is none of them."""

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _store_url(url: Address) -> Address:
    if not url.startswith(("sqlite:///", "postgresql://")) or url == "sqlite:///":
        raise ValueError(
            "not a store; allowed: sqlite:///absolute/path.db, sqlite:///./relative.db, "
            "postgresql://user@host:port/database"
        )
    if url.startswith("postgresql://"):
        refuse_unquoted(url)
    return url


def _redis_url(url: Address) -> Address:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(
            "not an address of Redis; allowed: redis://host:6379/0, rediss://… (TLS), unix:///path"
        )
    refuse_unquoted(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("its port is no number from 0 to 65535; write redis://host:6379/0") from None
    chosen = [value for key, value in parse_qsl(parts.query, keep_blank_values=True) if key == "db"]
    if parts.scheme != "unix" and parts.path not in ("", "/"):
        chosen.append(parts.path.removeprefix("/"))
    for database in chosen:
        if re.fullmatch("[0-9]{1,4}", database) is None:
            raise ValueError("its database is no number; write redis://host:6379/0")
    return url


class RedisSettings(Section):
    """What replicas share for comfort: counts for `senders.<name>.limit`, and live updates. Losing it changes
    nothing that must be true."""

    url: Annotated[Address, AfterValidator(_redis_url)] | None = None
    """redis://:${REDIS_PASSWORD}@host:6379/0; rediss:// for TLS, unix:// for a socket. None: each process is
    by itself."""
    prefix: str = Field(default="remediator", pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    """Begins every key and channel; another one for each installation that shares the server."""


class StoreSettings(Section):
    """The database."""

    url: Annotated[Address, AfterValidator(_store_url)] = Address(
        "sqlite:///var/lib/remediator/remediator.db"
    )
    """sqlite:///absolute/path (three or four slashes), sqlite:///./relative, or postgresql://…"""

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for another engine. Three slashes mean the root too: a daemon's
        database at a path relative to wherever it was started is never what was meant."""
        if not self.url.startswith("sqlite:///"):
            return None
        rest = self.url.removeprefix("sqlite:///")
        return Path(rest) if rest.startswith(("./", "../")) else Path("/" + rest.lstrip("/"))


class Policies(Section):
    """Where policies come from."""

    dir: Path = Path("policies")
    """The directory of policies, with limits.yaml, windows.yaml and escalation.yaml."""
    reload: Positive = Millis(5 * SECOND)
    """How often the directory is looked at for changes."""


class NotifierSettings(Section):
    """One way to reach people."""

    url: Secret
    """An Apprise URL; it holds credentials, so give it as ${NAME}."""


class Token(Section):
    """One caller of the API."""

    name: Line = Field(min_length=1, max_length=100)
    """Who it is: the actor in the audit log."""
    role: Role
    """viewer, auditor, operator, manager, lead or admin."""
    token: Credential
    """Sent as `Authorization: Bearer`, at least 16 characters; give it as ${NAME}. `openssl rand -base64 32`
    makes one."""


class Access(Section):
    """Who may use the API."""

    tokens: tuple[Token, ...] = ()
    """Without any, the API is open, and the daemon listens on loopback only."""


class Retention(Section):
    """How long rows of each table are kept. Open alerts, runs and leases are never deleted."""

    alert: Positive = Millis(90 * DAY)
    """Alerts that ended."""
    alert_event: Positive = Millis(90 * DAY)
    """Deliveries."""
    run: Positive = Millis(400 * DAY)
    """Ended runs, with their intents and approvals."""
    started: Positive = Millis(90 * DAY)
    """Keys of runs that people started, counted from the end of the run; no longer than `run`."""
    effect: Positive = Millis(400 * DAY)
    """Leases that were returned."""
    outbox: Positive = Millis(30 * DAY)
    """Notifications that were sent."""
    incident: Positive = Millis(400 * DAY)
    """Incidents that were resolved."""
    audit_event: Positive = Millis(400 * DAY)
    """The audit log."""
    policy_revision: Positive = Millis(400 * DAY)
    """Policy sets that no kept row refers to."""
    rejected: Positive = Millis(7 * DAY)
    """Bodies that could not be taken."""


class Engine(Section):
    """The engine's pace. Bounds on actions are not here but in limits.yaml."""

    name: Line = Field(default="", max_length=200)
    """This replica's name, the same after a restart; the host's name if empty."""
    workers: int = Field(default=32, ge=1, le=64)
    """Runs advanced at the same time."""
    action_timeout: Positive = Field(default=Millis(25 * SECOND), le=25 * SECOND)
    """After this an action's call counts as unknown; at most 25s, since its run is claimed for 30s."""
    check_timeout: Positive = Field(default=Millis(10 * SECOND), le=20 * SECOND)
    """After this a check counts as unanswered; at most 20s, for a run may ask no longer than that."""
    shutdown_grace: Positive = Millis(25 * SECOND)
    """How long actions in progress may take to end at shutdown."""


class Log(Section):
    """What the daemon writes to standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least grave level that is written."""
    format: Literal["json", "console"] = "json"
    """json for machines, console for a terminal."""


class Audit(Section):
    """The seal of the audit log."""

    key: Secret | None = None
    """Key of the seal (HMAC-SHA-256); without one the seal is a plain SHA-256 chain."""
