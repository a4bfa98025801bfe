"""What docs/policies.md shows is true."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.model import Mode
from remediator.policy.faults import PolicyErrors
from remediator.policy.set import compile_set
from tests.policy.test_shipped import VOCABULARY as REAL
from tests.policy.words import VOCABULARY, good

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
VOCABULARY_OF_THE_PAGE = replace(REAL, notifiers=frozenset({"primary", "cto"}))


def blocks() -> dict[str, str]:
    """The examples by the name of the file that each would be."""
    found = {}
    for block in re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        named = re.match(r"# (\w+\.yaml)\n", block)
        name = named[1] if named else re.search(r"^name: (\S+)", block, re.MULTILINE)[1] + ".yaml"  # type: ignore[index]
        found[name] = block
    return found


def test_all_examples_load_together() -> None:
    files = blocks()
    assert set(files) == {
        "gpu-queue-depth-scale-out.yaml",
        "queue-two-groups.yaml",
        "limits.yaml",
        "escalation.yaml",
        "windows.yaml",
    }
    assert compile_set(files, VOCABULARY_OF_THE_PAGE).warnings == ()


def test_the_limits_of_the_example_are_the_built_in_ones() -> None:
    files = blocks()
    shown = compile_set(files, VOCABULARY_OF_THE_PAGE)
    bare = compile_set({"queue-two-groups.yaml": files["queue-two-groups.yaml"]}, VOCABULARY_OF_THE_PAGE)
    built_in = bare.policies["queue-two-groups"]
    assert shown.policies["gpu-queue-depth-scale-out"].limits == built_in.limits
    assert shown.policies["gpu-queue-depth-scale-out"].give_up == built_in.give_up
    assert (shown.limits.budget, shown.limits.concurrent) == (bare.limits.budget, bare.limits.concurrent)
    assert built_in.mode is Mode.OBSERVE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("remedies:", "remedys:"),
        ("pool.resize", "pool.resise"),
        ("add: 2", 'add: "${labels.n}"'),
        ("for: 5m", "for: 5"),
    ],
)
def test_faults_look_as_shown(old: str, new: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        compile_set(good("a", (old, new)), VOCABULARY)
    assert f"`{caught.value.errors[0]}`" in TEXT or any(f"`{e}`" in TEXT for e in caught.value.errors)
