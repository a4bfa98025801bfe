"""Validated forms of unchanged files, so that ten thousand policies are read again in a second or two.

A cache is JSON, keyed by the hash of a file's text, and belongs to one version of the rules and one
vocabulary. It decides what is acted on, so it is only read when nobody else can write it; a broken
one is ignored and written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

_PREFIX = "policies-"


def key(text: str) -> str:
    """The key of a file's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Cache:
    """The validated forms on disk.

    Args:
        directory: made if missing, readable by its owner only.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def load(self, digest: str) -> Mapping[str, dict[str, Any]]:
        """The forms kept for a vocabulary's digest, by key; empty where there are none to be trusted."""
        file = self._file(digest)
        try:
            if not (_private(self._directory) and _private(file)):
                return {}
            raw = file.read_bytes()
        except OSError:
            return {}
        checksum, _, body = raw.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return {}
        try:
            return msgspec.json.decode(body, type=dict[str, dict[str, Any]])
        except (msgspec.DecodeError, RecursionError):
            return {}

    def save(self, digest: str, forms: Mapping[str, dict[str, Any]]) -> None:
        """Keep these forms and no others. A directory that cannot be written is no error."""
        body = msgspec.json.encode(forms)
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                Path(name).replace(self._file(digest))
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            for old in self._directory.glob(f"{_PREFIX}*.json"):
                if old != self._file(digest):
                    old.unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        return self._directory / f"{_PREFIX}{digest[:32]}.json"


def _private(path: Path) -> bool:
    """Whether only we (or root) own it and nobody else may write it."""
    status = path.lstat()
    ours = status.st_uid in (os.geteuid(), 0) and not stat.S_ISLNK(status.st_mode)
    return ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
