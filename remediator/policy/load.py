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


def read_dir(path: str | Path) -> dict[str, str]:
    """Read every policy file below a directory.

    Names that start with a dot are left out, as are `*.test.yaml`. A symbolic link is followed only
    within the directory (Kubernetes mounts a ConfigMap that way).

    Args:
        path: the directory.

    Returns:
        Texts by path relative to the directory, with `/`, in sorted order.

    Raises:
        PolicyErrors: the directory or a file cannot be read; all faults are named.
    """
    try:
        root = Path(path).resolve(strict=True)
        entries = sorted(_entries(str(root), ""))
    except OSError as error:
        raise PolicyErrors([PolicyError(_reason(error), str(path))]) from None
    if len(entries) > MAX_FILES:
        raise PolicyErrors([PolicyError(f"{len(entries)} files; at most {MAX_FILES} are read", str(path))])
    texts: dict[str, str] = {}
    faults: list[PolicyError] = []
    for name, linked in entries:
        try:
            texts[name] = _text(root, name, linked)
        except PolicyError as error:
            faults.append(error)
    if faults:
        raise PolicyErrors(faults)
    return texts


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


def _text(root: Path, name: str, linked: bool) -> str:
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
            return file.readall().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"not UTF-8 at byte {error.start}; save the file as UTF-8", name) from None
    except OSError as error:
        raise PolicyError(_reason(error), name) from None


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or type(error).__name__}"
