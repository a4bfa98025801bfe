"""The texts of a policies directory."""

from __future__ import annotations

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
        names = sorted(_names(root, root))
    except OSError as error:
        raise PolicyErrors([PolicyError(_reason(error), str(path))]) from None
    if len(names) > MAX_FILES:
        raise PolicyErrors([PolicyError(f"{len(names)} files; at most {MAX_FILES} are read", str(path))])
    texts: dict[str, str] = {}
    faults: list[PolicyError] = []
    for name in names:
        try:
            texts[name] = _text(root, name)
        except PolicyError as error:
            faults.append(error)
    if faults:
        raise PolicyErrors(faults)
    return texts


def _names(root: Path, folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        # a linked directory is not entered: it could lead in circles
        if entry.is_dir() and not entry.is_symlink():
            yield from _names(root, entry)
        elif entry.name.endswith((".yaml", ".yml")) and not entry.name.endswith((".test.yaml", ".test.yml")):
            yield entry.relative_to(root).as_posix()


def _text(root: Path, name: str) -> str:
    if name.endswith(".yml"):
        raise PolicyError("policy files end in .yaml; rename it", name)
    try:
        real = (root / name).resolve(strict=True)
        if not real.is_relative_to(root):
            raise PolicyError("a symbolic link that leads out of the policies directory; copy the file", name)
        status = real.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PolicyError("not a regular file", name)
        if status.st_size > MAX_BYTES:
            raise PolicyError(f"the file has {status.st_size} bytes; at most {MAX_BYTES} are read", name)
        return real.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"not UTF-8 at byte {error.start}; save the file as UTF-8", name) from None
    except OSError as error:
        raise PolicyError(_reason(error), name) from None


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or type(error).__name__}"
