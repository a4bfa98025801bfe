"""docs/cli.md says every verb, and nothing that is not there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from remediator.cli.app import GROUPS
from remediator.cli.invocation import client_options

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ remediator (.+)$", TEXT, re.MULTILINE)


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb as people write it, with its command."""
    for name, (where, _) in GROUPS.items():
        module, _, attribute = where.partition(":")
        command = typer.main.get_command(getattr(import_module(module), attribute))
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {verb}", one) for verb, one in inner.items())


VERBS = dict(verbs())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_described(verb: str) -> None:
    assert f"`remediator {verb}" in TEXT


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_call_that_is_understood(example: str) -> None:
    words = shlex.split(example)
    name = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
    command = VERBS[name]
    rest = words[len(name.split()) :]
    # Parsing fails on an unknown option or a missing one; nothing is run.
    command.make_context(name, rest)


def test_the_example_of_the_clients_own_file_is_true() -> None:
    (text,) = re.findall(r"^```text\n(server: .+?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    said = client_options(text, "cli.yml")
    assert said.server == "https://remediator.example.com"
    assert said.output == "table"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 15
