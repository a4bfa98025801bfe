"""What one call of the command line has to work with: options, settings, a reader, a printer."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from remediator.cli.options import Output, Shared

if TYPE_CHECKING:
    from remediator.cli.api import Api
    from remediator.cli.reading import Reader
    from remediator.contracts import Catalogue
    from remediator.settings import Settings


class Invocation:
    """One call.

    Args:
        said: the options of the command line, which win over `~/.config/remediator/cli.yml`.
    """

    def __init__(self, said: Shared) -> None:
        self._said = said

    @cached_property
    def shared(self) -> Shared:
        """The options, with the client's own file below them."""
        return self._said.over(_client_file())

    @property
    def json(self) -> bool:
        return self.shared.output is Output.JSON

    @cached_property
    def settings(self) -> Settings:
        """The deployment's settings.

        Raises:
            ConfigurationError: they cannot be used.
        """
        from remediator.settings import load

        return load(self.shared.config)

    @property
    def has_settings(self) -> bool:
        """Whether there is a settings file, named or in this directory."""
        return self.shared.config is not None or Path("remediator.yaml").exists()

    @property
    def without(self) -> str:
        """What to add to an answer that rests on no settings file, and so on the defaults."""
        if self.has_settings or self.shared.server is not None:
            return ""
        return "\nThere is no remediator.yaml here, so the defaults were used: name it with --config"

    @property
    def catalogue(self) -> Catalogue:
        """The actions and checks, with those of the settings' plugins where there are settings."""
        from remediator.wiring import catalogue

        return catalogue(self.settings.plugins if self.has_settings else ())

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        """Where reading verbs read: the API with `--server`, else the store, read-only.

        Raises:
            StoreUnavailable: neither can be reached.
        """
        if self.shared.server is not None:
            async with self.api() as api:
                yield api
            return
        from remediator.cli.reading import local

        async with local(self.settings) as reader:
            yield reader

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Api]:
        """The daemon's API: `--server`, else the address of the settings."""
        from remediator.cli.api import Api

        token = self.shared.token
        if self.shared.server is None:
            token = token or _operator(self.settings)
        async with Api(self.address, token) as api:
            yield api

    @property
    def address(self) -> str:
        """The daemon's: `--server`, else the one in the settings."""
        return self.shared.server if self.shared.server is not None else _address(self.settings)

    def print(self, value: Any, table: str) -> None:
        """Print JSON or the table, as asked for."""
        if self.json:
            import json

            table = json.dumps(value, ensure_ascii=False, default=str)
        typer.echo(table)

    def warn(self, text: str) -> None:
        typer.echo(text, err=True)


def _address(settings: Settings) -> str:
    host = settings.server.host
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - what a server listens on is not where to call it
        host = "127.0.0.1"
    return (
        f"http://[{host}]:{settings.server.port}" if ":" in host else f"http://{host}:{settings.server.port}"
    )


def _operator(settings: Settings) -> str | None:
    """The first token of settings that may change something."""
    from remediator.settings import Role

    for token in settings.access.tokens:
        if token.role.rank >= Role.OPERATOR.rank:
            return token.token.get_secret_value()
    return None


def _client_file() -> Shared:
    """`~/.config/remediator/cli.yml`: config, server, token, output.

    Raises:
        ConfigurationError: it cannot be used.
    """
    linux = sys.platform == "linux"  # where XDG_CONFIG_HOME is heeded
    folder = Path(typer.get_app_dir("remediator")) if linux else Path.home() / ".config/remediator"
    file = folder / "cli.yml"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Shared()
    except (OSError, UnicodeDecodeError) as error:
        from remediator.errors import ConfigurationError

        raise ConfigurationError(f"{file}: cannot be read: {error}") from None
    return client_options(text, str(file))


def client_options(text: str, file: str) -> Shared:
    """Read the client's file.

    Raises:
        ConfigurationError: an unknown key, or a value that is not allowed.
    """
    from remediator.errors import ConfigurationError
    from remediator.settings.document import read

    data, lines = read(text, file)
    allowed = ("config", "server", "token", "output")
    for key, value in data.items():
        where = f"{file}:{lines.get((key,), 1)}"
        if key not in allowed:
            raise ConfigurationError(f"{where}: unknown key {key!r}; allowed: {', '.join(allowed)}")
        if not isinstance(value, str):
            raise ConfigurationError(f"{where}: {key} must be text")
    output = data.get("output")
    if output is not None and output not in list(Output):
        raise ConfigurationError(f"{file}: output is {output!r}; allowed: {', '.join(Output)}")
    config = data.get("config")
    return Shared(
        config=Path(config).expanduser() if config else None,
        server=data.get("server"),
        token=data.get("token"),
        output=Output(output) if output else None,
    )
