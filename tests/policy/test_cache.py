"""The cache changes how long a load takes, and nothing else."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from remediator.model import Mode
from remediator.policy.cache import Cache
from remediator.policy.faults import PolicyErrors
from remediator.policy.set import compile_set
from tests.policy.words import VOCABULARY, alert, good

FILES = good("a") | good(
    "b",
    ("for: 5m", "for: 1m30s\nlimits: {blast_radius: 30%, budget: [1 per 1d]}"),
    ('"> 50"', '"> 5%"'),
    ("    expires: 2h\n", "    expires: 2h\n    when: []\n"),
)


def file_in(directory: Path) -> Path:
    (file,) = directory.glob("*.json")
    return file


def seal(file: Path, forms: object) -> None:
    body = msgspec.json.encode(forms)
    file.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def opened(file: Path) -> dict[str, dict[str, object]]:
    return msgspec.json.decode(file.read_bytes().partition(b"\n")[2], type=dict[str, dict[str, object]])


def test_a_cached_set_is_the_same_set(tmp_path: Path) -> None:
    plain = compile_set(FILES, VOCABULARY)
    written = compile_set(FILES, VOCABULARY, cache=Cache(tmp_path / "c"))
    again = compile_set(FILES, VOCABULARY, cache=Cache(tmp_path / "c"))
    about = alert(alertname="QueueDepthHigh", queue="prod-x")
    for found in (written, again):
        assert dict(found.policies) == dict(plain.policies)
        assert found.hash == plain.hash
        assert [policy.name for policy in found.match(about)] == ["a", "b"]


def test_what_is_cached_is_used(tmp_path: Path) -> None:
    """Seen by changing it: a trusted cache is believed."""
    compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    file = file_in(tmp_path)
    forms = opened(file)
    for form in forms.values():
        form["owner"] = "from the cache"
    seal(file, forms)
    found = compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    assert {policy.owner for policy in found.policies.values()} == {"from the cache"}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "not json", "wrong form", "wrong kind"])
def test_a_broken_cache_is_ignored_and_written_anew(tmp_path: Path, damage: str) -> None:
    compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    file = file_in(tmp_path)
    good_bytes = file.read_bytes()
    forms = opened(file)
    match damage:
        case "cut":
            file.write_bytes(good_bytes[:-10])
        case "flipped":
            file.write_bytes(good_bytes.replace(b"enforce", b"observe"))
        case "empty":
            file.write_bytes(b"")
        case "not json":
            file.write_bytes(hashlib.sha256(b"{").hexdigest().encode() + b"\n{")
        case "wrong form":
            seal(file, {key: {**form, "mode": "ruthless"} for key, form in forms.items()})
        case "wrong kind":
            seal(file, [1])
    found = compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    assert [policy.mode for policy in found.policies.values()] == [Mode.ENFORCE] * 2
    assert file_in(tmp_path).read_bytes() == good_bytes


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_cache_that_others_can_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    file = file_in(tmp_path)
    seal(file, {key: {**form, "owner": "mallory"} for key, form in opened(file).items()})
    file.chmod(mode)
    found = compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    assert {policy.owner for policy in found.policies.values()} == {""}


def test_a_cache_in_a_directory_that_others_can_write_is_not_believed(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    compile_set(FILES, VOCABULARY, cache=Cache(directory))
    assert directory.stat().st_mode & 0o777 == 0o700
    file = file_in(directory)
    seal(file, {key: {**form, "owner": "mallory"} for key, form in opened(file).items()})
    directory.chmod(0o777)
    found = compile_set(FILES, VOCABULARY, cache=Cache(directory))
    assert {policy.owner for policy in found.policies.values()} == {""}


def test_a_changed_vocabulary_validates_everything_again(tmp_path: Path) -> None:
    compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    fewer = replace(VOCABULARY, connections={"orders": "postgres"})
    with pytest.raises(PolicyErrors, match="no connection is named 'aws-prod'"):
        compile_set(FILES, fewer, cache=Cache(tmp_path))


def test_what_needs_other_files_is_checked_again(tmp_path: Path) -> None:
    chain = {"escalation.yaml": "chains: {on-call: [{after: 0m, notify: [log]}]}\n"}
    files = good("a", ("on_failure", "escalate: on-call\non_failure"))
    compile_set(chain | files, VOCABULARY, cache=Cache(tmp_path))
    with pytest.raises(PolicyErrors, match=r"a\.yaml:23:11: no chain is named 'on-call'"):
        compile_set(files, VOCABULARY, cache=Cache(tmp_path))
    with pytest.raises(
        PolicyErrors, match=r"renamed\.yaml:1:7: the policy is named 'a' and its file 'renamed'"
    ):
        compile_set(chain | {"renamed.yaml": files["a.yaml"]}, VOCABULARY, cache=Cache(tmp_path))


def test_a_cache_in_memory_gives_the_same_policies(tmp_path: Path) -> None:
    cache = Cache()
    first = compile_set(FILES, VOCABULARY, cache=cache)
    changed = FILES | good("a", ("for: 5m", "for: 7m"))
    second = compile_set(changed, VOCABULARY, cache=cache)
    assert second.policies["b"] is first.policies["b"]
    assert second.policies["a"].for_ == 420_000
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert compile_set(FILES, VOCABULARY, cache=Cache(blocker / "c")).policies.keys() == {"a", "b"}


def test_old_caches_are_removed(tmp_path: Path) -> None:
    compile_set(FILES, VOCABULARY, cache=Cache(tmp_path))
    before = file_in(tmp_path).name
    compile_set(FILES, replace(VOCABULARY, senders=VOCABULARY.senders | {"x"}), cache=Cache(tmp_path))
    assert file_in(tmp_path).name != before
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
