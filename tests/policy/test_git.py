"""The git revision of a policy directory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from remediator.policy.git import git_revision


def git(where: Path, *words: str) -> str:
    quiet = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *quiet, *words], cwd=where, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_of_a_branch_of_packed_refs_of_a_detached_head_and_of_a_work_tree(tmp_path: Path) -> None:
    main = tmp_path / "main"
    (main / "policies").mkdir(parents=True)
    (main / "policies" / "a.yaml").write_text("name: a\n")
    git(main, "init", "-q")
    git(main, "add", ".")
    git(main, "commit", "-qm", "one")
    commit = git(main, "rev-parse", "HEAD")
    assert git_revision(main / "policies") == commit
    git(main, "pack-refs", "--all")
    assert git_revision(main / "policies") == commit
    git(main, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    assert git_revision(tmp_path / "linked" / "policies") == commit
    git(main, "checkout", "-q", "--detach")
    assert git_revision(main / "policies") == commit


def test_where_there_is_none(tmp_path: Path) -> None:
    assert git_revision(tmp_path) == ""
    (tmp_path / ".git").mkdir()
    assert git_revision(tmp_path) == ""
