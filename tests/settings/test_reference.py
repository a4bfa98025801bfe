"""The documented settings are the settings."""

from __future__ import annotations

import re
from pathlib import Path

from remediator.settings import SEVERITIES, Settings
from remediator.settings.load import assemble
from remediator.settings.reference import START, render

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_reference_is_generated_from_the_models_of_today() -> None:
    generated = (DOCS / "settings.md").read_text().partition(START)[2]
    assert generated == render() + "\n", "run: python -m remediator.settings.reference docs/settings.md"


def test_every_setting_says_what_it_means() -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.*?) \| (.*?) \|$", render(), re.MULTILINE)
    assert len(rows) > 50
    assert [key for key, _, meaning in rows if not meaning.strip()] == []


def test_the_examples_load() -> None:
    for page in ("settings.md", "senders.md"):
        blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
        examples = [block for block in blocks if re.search(r"^(server|senders):", block, re.MULTILINE)]
        assert examples
        for text in examples:
            secrets = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x" * 16)
            assert isinstance(assemble(text, page, secrets, Path()), Settings)


def test_the_documented_severity_words_are_the_known_ones() -> None:
    rows = re.findall(r"^\| (P[1-4]) \| (.*) \|$", (DOCS / "senders.md").read_text(), re.MULTILINE)
    documented = {word: level for level, words in rows for word in words.split(", and")[0].split(", ")}
    assert documented == {word: level.value for word, level in SEVERITIES.items()}
