"""The texts of a policies directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from remediator.errors import PolicyError
from remediator.policy.document import MAX_BYTES
from remediator.policy.faults import PolicyErrors

MAX_FILES = 50_000
ATTEMPTS = 5
"""How often a directory is read that changes meanwhile."""


def read_dir(path: str | Path) -> dict[str, str]:
    """Read every policy file below a directory, as it is at one moment.

    Names that start with a dot are left out, as are `*.test.yaml`. A symbolic link is followed only
    within the directory (Kubernetes mounts a ConfigMap that way).

    Args:
        path: the directory.

    Returns:
        Texts by path relative to the directory, with `/`, in sorted order.

    Raises:
        PolicyErrors: the directory or a file cannot be read, or files change all the time; all faults
            are named.
    """
    former = ""
    for _ in range(ATTEMPTS):
        try:
            root, texts, seen = _read(path)
        except PolicyErrors as error:
            if str(error) == former:
                raise
            former = str(error)
            continue
        if (root, seen) == _present(path):
            return texts
    raise PolicyErrors([PolicyError("changes while it is read; it is read again", str(path))])


Stamps = dict[str, tuple[int, int, int]]
"""File → inode, time of its last change, size: not the same after it was changed or exchanged."""


def _present(path: str | Path) -> tuple[Path, Stamps] | None:
    """The directory as it is now; None: it cannot be told.

    A new ConfigMap and a new commit come by a link that is put in place of another, and then the files are
    removed that it led to. Who reads meanwhile sees some of both, or some of what is left.
    """
    try:
        root = Path(path).resolve(strict=True)
        return root, {name: _stamp(os.stat(f"{root}/{name}")) for name, _ in _entries(str(root), "")}
    except OSError:
        return None


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: str | Path) -> tuple[Path, dict[str, str], Stamps]:
    try:
        root = Path(path).resolve(strict=True)
        entries = sorted(_entries(str(root), ""))
    except OSError as error:
        raise PolicyErrors([PolicyError(_reason(error), str(path))]) from None
    if len(entries) > MAX_FILES:
        raise PolicyErrors([PolicyError(f"{len(entries)} files; at most {MAX_FILES} are read", str(path))])
    texts: dict[str, str] = {}
    seen: Stamps = {}
    faults: list[PolicyError] = []
    for name, linked in entries:
        try:
            texts[name], seen[name] = _text(root, name, linked)
        except PolicyError as error:
            faults.append(error)
    if faults:
        raise PolicyErrors(faults)
    return root, texts, seen


def _entries(folder: str, prefix: str) -> Iterator[tuple[str, bool]]:
    """Names of policy files below a folder, and whether each is a symbolic link."""
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            # a linked directory is not entered: it could lead in circles
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{name}/")
            elif entry.name.endswith((".yaml", ".yml")) and not entry.name.endswith(
                (".test.yaml", ".test.yml")
            ):
                yield name, entry.is_symlink()


def _text(root: Path, name: str, linked: bool) -> tuple[str, tuple[int, int, int]]:
    if name.endswith(".yml"):
        raise PolicyError("policy files end in .yaml; rename it", name)
    try:
        real = f"{root}/{name}"
        if linked:
            real = os.path.realpath(real, strict=True)
            if not Path(real).is_relative_to(root):
                raise PolicyError(
                    "a symbolic link that leads out of the policies directory; copy the file", name
                )
        # not blocking: a named pipe is opened without waiting for its other end, and then refused
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb", buffering=0) as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise PolicyError("not a regular file", name)
            if status.st_size > MAX_BYTES:
                raise PolicyError(f"the file has {status.st_size} bytes; at most {MAX_BYTES} are read", name)
            return file.readall().decode("utf-8"), _stamp(status)
    except UnicodeDecodeError as error:
        raise PolicyError(f"not UTF-8 at byte {error.start}; save the file as UTF-8", name) from None
    except OSError as error:
        raise PolicyError(_reason(error), name) from None


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or type(error).__name__}"
