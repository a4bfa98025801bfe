"""What the documentation says is true: every example loads, every verb exists, every link leads somewhere."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docs.generate import stale
from remediator import wiring
from remediator.cli.app import app
from remediator.cli.names import used
from remediator.policy.schema import CheckUse, Policy, Remedy
from remediator.policy.set import compile_set
from remediator.policy.vocabulary import Vocabulary
from remediator.settings import Sender, Settings
from remediator.settings.load import assemble

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").rglob("*.md")])
OTHERS = ("alertmanager.yml", "prometheus.yml", "rules.yml")
"""Files of other programs: such an example begins with a comment that names the file."""
SAFETY = ("limits.yaml", "windows.yaml", "escalation.yaml")


def _blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(page, match[1], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def _kind(text: str) -> str:
    """What an example is: of another program, a safety file, settings, a sender, a policy or a part."""
    first = text.splitlines()[0]
    for name in (*OTHERS, *SAFETY):
        if re.match(rf"#.*\b{re.escape(name)}", first):
            return "other" if name in OTHERS else name
    keys = set(yaml.safe_load(text))
    parts = {
        "settings": set(Settings.model_fields),
        "sender": set(Sender.model_fields),
        "policy": {field.alias or name for name, field in Policy.model_fields.items()},
        "remedy": {field.alias or name for name, field in Remedy.model_fields.items()},
        "check": {field.alias or name for name, field in CheckUse.model_fields.items()},
    }
    for kind, known in parts.items():
        if keys <= known:
            return kind
    raise AssertionError(f"an example of nothing known; its keys are {sorted(keys)}")


def _whole(kind: str, part: dict[str, Any]) -> dict[str, Any]:
    """A policy around a part of one."""
    least = {"action": "postgres.cancel_queries", "with": {"connection": "db", "longer_than": "5m", "max": 1}}
    policy = {"name": "example", "match": ['alertname="Example"'], "remedies": [least]}
    if kind == "remedy":
        return policy | {"remedies": [part]}
    if kind == "check":
        return policy | {"when": [{"is": "> 0", **part}]}
    return policy | part


def _load_policies(files: dict[str, str]) -> None:
    chains = set(re.findall(r"^escalate: (\S+)", "\n".join(files.values()), re.MULTILINE))
    if chains:
        steps = {chain: [{"after": "0m", "notify": ["log"]}] for chain in chains}
        files = {"escalation.yaml": yaml.safe_dump({"chains": steps}), **files}
    catalogue = wiring.catalogue()
    names = used(files, catalogue)
    words = Vocabulary(
        catalogue=catalogue,
        connections=names.connections,
        senders=names.senders,
        notifiers=names.notifiers,
    )
    compile_set(files, words)


@pytest.mark.parametrize(("page", "text"), _blocks("yaml"))
def test_every_yaml_example_loads(page: Path, text: str) -> None:
    kind = _kind(text)
    if kind == "other":
        assert isinstance(yaml.safe_load(text), dict)
    elif kind in ("settings", "sender"):
        secrets = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x" * 32)
        if kind == "sender":
            text = "senders:\n  one:\n    kind: alertmanager\n" + textwrap.indent(text, "    ")
        assert isinstance(assemble(text, "example", secrets, Path()), Settings)
    elif kind in SAFETY:
        _load_policies({kind: text})
    else:
        policy = _whole(kind, yaml.safe_load(text))
        taught = re.findall(r'^ +name = "([a-z_]+\.[a-z_]+)"', page.read_text(), re.MULTILINE)
        if any(name in text for name in taught):  # it is not in the catalogue: the page says how to add it
            assert Policy.model_validate(policy).name
        else:
            _load_policies({f"{policy['name']}.yaml": yaml.safe_dump(policy)})
            if kind == "policy" and policy["name"] != "example":
                _load_policies({f"{policy['name']}.yaml": text})


def test_the_first_policy_of_the_readme_is_one() -> None:
    kinds = [
        _kind(str(block.values[1])) for block in _blocks("yaml") if str(block.id).startswith("README.md")
    ]
    assert "policy" in kinds
    assert "settings" in kinds


def _verbs() -> set[tuple[str, ...]]:
    root: Any = typer.main.get_command(app)
    context = root.make_context("remediator", ["--help"], resilient_parsing=True)
    found: set[tuple[str, ...]] = set()
    for name in root.list_commands(context):
        inner = getattr(root.get_command(context, name), "commands", {})
        found |= {(name, verb) for verb in inner} if inner else {(name,)}
    return found


def test_every_verb_that_is_named_exists() -> None:
    verbs = _verbs()
    first = {path[0] for path in verbs}
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"`(remediator [a-z][^`\n]*)`", text)
        for block in re.findall(r"^```(?:sh|console|text)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            code += re.findall(r"^(?:\$ )?(remediator [a-z].*)$", block, re.MULTILINE)
        for line in code:
            words = [word for word in line.split()[1:3] if re.fullmatch(r"[a-z]+", word)]
            if words and words[0] in first and (tuple(words[:1]) in verbs or len(words) == 1):
                continue
            if tuple(words) not in verbs:
                wrong.append(f"{page.relative_to(ROOT)}: {line}")
    assert wrong == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, page


def _anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_inside_the_repository_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path, name in re.findall(r"`(tests/[\w/]*(?:\.py)?)(?::(\w+))?`", text):
            found = ROOT / path
            if not found.exists() or (name and f"def {name}(" not in found.read_text(encoding="utf-8")):
                missing.append(f"{page.relative_to(ROOT)}: {path} {name}")
    assert missing == []


def test_every_page_can_be_found_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"]
    assert [name for name in pages if f"({name})" not in index] == []


def test_the_generated_pages_are_what_the_code_says() -> None:
    assert stale() == [], "make docs"
