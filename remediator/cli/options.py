"""The options that every verb takes, before or after its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="REMEDIATOR_CONFIG", help="Settings file.  [default: ./remediator.yaml]"
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Ask this daemon's API instead of the local store."),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="REMEDIATOR_TOKEN", show_envvar=True, help="Token for the API."),
]
OutputOption = Annotated[
    Output | None, typer.Option("--output", "-o", help="How to print.  [default: table]")
]


@dataclass(frozen=True, slots=True)
class Shared:
    """What those options said; None where not given."""

    config: Path | None = None
    server: str | None = None
    token: str | None = None
    output: Output | None = None

    def over(self, below: Shared) -> Shared:
        """These, and where not given those."""
        return Shared(
            config=self.config or below.config,
            server=self.server or below.server,
            token=self.token or below.token,
            output=self.output or below.output,
        )

    def __repr__(self) -> str:
        return f"Shared(config={self.config}, server={self.server}, output={self.output})"
