"""`docs/invariants.md` names every invariant that the oracle asks, and only places that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.sabotage import SABOTAGE

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "invariants.md"


def _rows() -> list[tuple[str, str, str]]:
    found = re.findall(r"^\| ([^|*]+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in found if row[0] != "invariant"]


def _asked() -> set[str]:
    """The names that the oracle may report."""
    names: set[str] = set()
    for path in (ROOT / "tests" / "simulation").glob("oracle*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "fail"
            ):
                (name, *_) = node.args
                assert isinstance(name, ast.Constant), f"{path.name}:{node.lineno} names no invariant"
                assert isinstance(name.value, str)
                names.add(name.value)
    return names


@cache
def _defined(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    names.add(f"{node.name}.{inner.name}")
    return frozenset(names)


def test_every_invariant_that_is_asked_is_written_down_and_the_other_way_round() -> None:
    names = [name for name, _, _ in _rows()]
    assert len(names) == len(set(names))
    assert set(names) == _asked()


@pytest.mark.parametrize(("name", "enforced", "tested"), _rows(), ids=[row[0] for row in _rows()])
def test_the_places_exist(name: str, enforced: str, tested: str) -> None:
    places = re.findall(r"`([^`]+)`", f"{enforced} {tested}")
    assert len(places) >= 2, f"{name}: where is it enforced, and where tested?"
    for place in places:
        path, _, symbol = place.partition(":")
        assert (ROOT / path).is_file(), f"{name}: {path}"
        if symbol:
            assert symbol in _defined(ROOT / path), f"{name}: {place}"


def test_every_control_is_caught_by_an_invariant_that_is_written_down() -> None:
    assert {one.invariant for one in SABOTAGE.values()} <= {name for name, _, _ in _rows()}
