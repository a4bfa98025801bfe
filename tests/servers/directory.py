"""Temporary directories, also for servers that refuse to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path

PREFIX = "remediator-"


def unprivileged() -> tuple[int, int] | None:
    """The (uid, gid) that a server which refuses root must run as; None when we are not root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def temporary(name: str, owner: tuple[int, int] | None = None) -> Path:
    """A new private directory, owned by `owner` (uid, gid) if given."""
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-"))
    if owner is not None:
        os.chown(path, *owner)
    return path


def reachable(path: Path) -> bool:
    """Whether any user may enter this directory: each part of the path is open to others."""
    resolved = path.resolve()
    return all(part.stat().st_mode & 0o001 for part in (resolved, *resolved.parents))


def remove(path: Path) -> None:
    """Delete a tree; what is already gone is fine."""
    shutil.rmtree(path, ignore_errors=True)
