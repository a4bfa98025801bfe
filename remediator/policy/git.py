"""The git revision that a directory of policies was checked out at, read without running git."""

from __future__ import annotations

import re
from pathlib import Path

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def git_revision(directory: Path) -> str:
    """The commit that HEAD stands at, in the nearest repository around `directory`.

    Returns:
        The commit's hash; "" where there is no repository or its layout is not understood.
        Source: https://git-scm.com/docs/gitrepository-layout
    """
    for folder in (directory.resolve(), *directory.resolve().parents):
        if (folder / ".git").exists():
            try:
                return _head(_git_dir(folder / ".git"))
            except (OSError, UnicodeDecodeError):
                return ""
    return ""


def _git_dir(entry: Path) -> Path:
    if entry.is_dir():
        return entry
    return (entry.parent / entry.read_text().removeprefix("gitdir:").strip()).resolve()


def _head(git: Path) -> str:
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head if _HASH.fullmatch(head) else ""
    name = head.removeprefix("ref: ")
    common = git / "commondir"  # a linked work tree keeps its branches in the main one
    root = (git / common.read_text().strip()) if common.exists() else git
    loose = root / name
    if loose.exists():
        return loose.read_text().strip()
    for line in (root / "packed-refs").read_text().splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name:
            return commit
    return ""
