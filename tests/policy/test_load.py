"""Reading a directory: what is read, what is left out, what is refused."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from remediator.policy.document import MAX_BYTES
from remediator.policy.faults import PolicyErrors
from remediator.policy.load import read_dir


def write(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = root / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_reads_yaml_in_order_and_leaves_out_tests_and_hidden_files(tmp_path: Path) -> None:
    write(tmp_path, b_yaml="2", a_yaml="1", team__c_yaml="3", a_test_yaml="t", notes_txt="n", x_json="{}")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "d.yaml").write_text("hidden")
    (tmp_path / ".e.yaml").write_text("hidden")
    assert list(read_dir(tmp_path).items()) == [("a.yaml", "1"), ("b.yaml", "2"), ("team/c.yaml", "3")]


def test_a_configmap_is_read_through_its_links(tmp_path: Path) -> None:
    """As the kubelet mounts it: a.yaml → ..data/a.yaml, ..data → ..2026_01_01."""
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01" / "a.yaml").write_text("1")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert read_dir(tmp_path) == {"a.yaml": "1"}
    linked = tmp_path.parent / f"{tmp_path.name}-link"
    linked.symlink_to(tmp_path)
    assert read_dir(linked) == {"a.yaml": "1"}


def test_a_configmap_is_never_half_of_one_and_half_of_another(tmp_path: Path) -> None:
    for revision in ("a", "b"):
        (tmp_path / f"..{revision}").mkdir()
        for name in range(20):
            (tmp_path / f"..{revision}" / f"{name:02}.yaml").write_text(revision)
    (tmp_path / "..data").symlink_to("..a")
    for name in range(20):
        (tmp_path / f"{name:02}.yaml").symlink_to(f"..data/{name:02}.yaml")
    ended = threading.Event()

    def exchange() -> None:
        for revision in cycle("ba"):
            if ended.is_set():
                return
            (tmp_path / "..data_tmp").symlink_to(f"..{revision}")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    with ThreadPoolExecutor() as pool:
        sender = pool.submit(exchange)
        try:
            for _ in range(100):
                try:
                    found = set(read_dir(tmp_path).values())
                except PolicyErrors:
                    continue
                assert len(found) == 1, "files of two revisions"
        finally:
            ended.set()
        sender.result()
    assert len(set(read_dir(tmp_path).values())) == 1


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("password: x")
    root = tmp_path / "policies"
    root.mkdir()
    (root / "escape.yaml").symlink_to(outside)
    (root / "gone.yaml").symlink_to("nowhere.yaml")
    (root / "latin.yaml").write_bytes(b"a: \xe9\n")
    (root / "big.yaml").write_text("#" * (MAX_BYTES + 1))
    (root / "old.yml").write_text("a: 1")
    (root / "folder.yaml").symlink_to(root)
    os.mkfifo(root / "pipe.yaml")
    with pytest.raises(PolicyErrors) as caught:
        read_dir(root)
    found = {error.file: error.message for error in caught.value.errors}
    assert found == {
        "big.yaml": "the file has 1000001 bytes; at most 1000000 are read",
        "escape.yaml": "a symbolic link that leads out of the policies directory; copy the file",
        "folder.yaml": "cannot be read: Is a directory",
        "gone.yaml": "cannot be read: No such file or directory",
        "latin.yaml": "not UTF-8 at byte 3; save the file as UTF-8",
        "old.yml": "policy files end in .yaml; rename it",
        "pipe.yaml": "not a regular file",
    }


def test_a_directory_link_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path, a_yaml="1")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert read_dir(tmp_path) == {"a.yaml": "1"}


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyErrors, match=r"nowhere: cannot be read: No such file or directory"):
        read_dir(tmp_path / "nowhere")
