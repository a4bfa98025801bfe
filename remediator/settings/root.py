"""The whole of the settings, and the rules that span sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from remediator import failpoint
from remediator.model import MANUAL
from remediator.settings.approvals import Approvals
from remediator.settings.connections import Connection
from remediator.settings.notifications import Audiences, Notifications
from remediator.settings.sections import (
    Access,
    Audit,
    Engine,
    Log,
    NotifierSettings,
    Policies,
    RedisSettings,
    Retention,
    Server,
    StoreSettings,
)
from remediator.settings.senders import Sender
from remediator.settings.values import refuse_unknown, suggest

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
"""Names stand in URLs, policies and metrics: lower-case letters, digits, and - _ . inside."""


class Settings(BaseSettings):
    """Deployment settings. Built directly it reads nothing but its arguments; `load` reads the rest."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: Server = Server()
    store: StoreSettings = StoreSettings()
    redis: RedisSettings = RedisSettings()
    policies: Policies = Policies()
    senders: dict[Name, Sender] = {}
    """POST /webhooks/<name>."""
    connections: dict[Name, Connection] = {}
    """What checks and actions name in `connection:`."""
    notifiers: dict[Name, NotifierSettings] = {}
    """What chains in escalation.yaml name in `notify:`."""
    audiences: Audiences = Audiences()
    notifications: Notifications = Notifications()
    access: Access = Access()
    approvals: Approvals = Approvals()
    retention: Retention = Retention()
    engine: Engine = Engine()
    log: Log = Log()
    audit: Audit = Audit()
    plugins: tuple[str, ...] = ()
    """Importable packages with further actions and checks, beside the shipped ones."""
    secrets_dir: Path | None = None
    """A directory with one file for each secret, named as in `${NAME}`."""
    failpoint: str = ""
    """For tests only: where the daemon dies (see remediator/failpoint.py)."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        refuse_unknown(data, list(cls.model_fields))
        return data

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.server.loopback:
            return self
        bare = [f"senders.{name}.auth" for name, sender in self.senders.items() if not sender.auth]
        if not self.access.tokens:
            bare.insert(0, "access.tokens")
        if bare:
            raise ValueError(
                f"server.host is {self.server.host}, which others can reach, but nothing is set for "
                f"{', '.join(bare)}; set it, or listen on 127.0.0.1"
            )
        return self

    @field_validator("failpoint")
    @classmethod
    def _known_failpoint(cls, spec: str) -> str:
        if spec and spec.split(":")[0].split("@")[0] not in failpoint.NAMES:
            raise ValueError(f"no fail-point has that name; allowed: {', '.join(sorted(failpoint.NAMES))}")
        return spec

    @model_validator(mode="after")
    def _known_notifiers(self) -> Self:
        for audience, names in self.audiences.named().items():
            for name in names:
                if name not in self.notifiers:
                    raise ValueError(
                        f"audiences.{audience}: no notifier is named {name[:100]!r}; "
                        f"{suggest(name[:100], list(self.notifiers))}"
                    )
        return self

    @model_validator(mode="after")
    def _names_not_taken(self) -> Self:
        if MANUAL in self.senders:
            raise ValueError(f"senders.{MANUAL}: that is who starts a run by hand; name yours otherwise")
        if "log" in self.notifiers:
            raise ValueError("notifiers.log: that is the daemon's own log; name yours otherwise")
        return self

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [token.name for token in self.access.tokens]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"access.tokens: {', '.join(twice)} stands twice; each name belongs to one token"
            )
        owners: dict[str, str] = {}
        for token in self.access.tokens:
            other = owners.setdefault(token.token.get_secret_value(), token.name)
            if other != token.name:
                raise ValueError(
                    f"access.tokens: {other} and {token.name} have the same token, so nobody could tell who "
                    "did what; give each one of its own"
                )
        if "local" in names or "daemon" in names:
            raise ValueError("access.tokens: the names local and daemon are taken by the daemon itself")
        return self
