"""Help is instant, whole, and plain."""

from __future__ import annotations

import importlib
import re
import resource
import subprocess
import sys

import pytest

from remediator.cli.app import GROUPS
from tests.cli.program import Program

HEAVY = ("pydantic", "sqlalchemy", "fastapi", "rich", "msgspec", "structlog", "httpx2", "asyncio", "yaml")


def cpu(program: Program, *argv: str) -> float:
    """Seconds of CPU that a command takes, the least of five."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(argv, env=program.env(), cwd=program.directory, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def test_help_costs_little_more_than_the_library_that_prints_it(program: Program) -> None:
    """0.1 s of CPU. Seconds of the clock would say who else uses the machine, and a bound in seconds of CPU
    how fast it is; so it is compared with what it cannot do without."""
    library = cpu(program, sys.executable, "-c", "import typer.main")
    help = cpu(program, *program.argv("--help"))
    assert help < 2 * library, f"{help:.3f} s of CPU, the library alone {library:.3f} s"


def test_help_imports_nothing_heavy(program: Program) -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "remediator", "--help"]
    done = subprocess.run(argv, env=program.env(), cwd=program.directory, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert [name for name in HEAVY if name in imported] == []


def test_help_names_every_group(program: Program) -> None:
    said = program("--help").out
    for name, (_, line) in GROUPS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", said, re.MULTILINE), name


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_loads(name: str) -> None:
    where, line = GROUPS[name]
    module, _, attribute = where.partition(":")
    assert hasattr(importlib.import_module(module), attribute)
    assert line.endswith(".")


@pytest.mark.parametrize("words", [["runs", "show"], ["policies", "check"], ["pause"], ["init"]])
def test_a_verb_explains_itself_and_takes_the_shared_options(program: Program, words: list[str]) -> None:
    said = program(*words, "--help")
    assert said.code == 0
    for option in ("--config", "--server", "--token", "--output"):
        assert option in said.out


def test_version(program: Program) -> None:
    from remediator import __version__

    assert program("--version").out == f"remediator {__version__}\n"


def test_a_mistyped_command_is_wrong_usage_with_a_suggestion(program: Program) -> None:
    said = program("polcies")
    assert said.code == 2
    assert "Did you mean 'policies'?" in said.err


def test_no_command_shows_the_help(program: Program) -> None:
    said = program()
    assert "Commands:" in said.out + said.err


def test_output_is_plain_when_piped(program: Program) -> None:
    said = program("--help")
    assert "\x1b[" not in said.out
    assert not set("╭│╰─") & set(said.out)


def test_completion_offers_groups_and_verbs(program: Program) -> None:
    first = program(_REMEDIATOR_COMPLETE="complete_bash", COMP_WORDS="remediator ru", COMP_CWORD="1")
    assert first.out.split() == ["runs"]
    second = program(_REMEDIATOR_COMPLETE="complete_bash", COMP_WORDS="remediator runs ", COMP_CWORD="2")
    assert set(second.out.split()) == {"list", "show", "start", "approve", "reject", "cancel"}
