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
from pydantic import ValidationError

from remediator.policy.schema import Policy


def key(text: str) -> str:
    """The key of a file's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Cache:
    """Validated policies by key, in memory and, if wanted, on disk.

    Args:
        directory: made if missing, readable by its owner only; None keeps them in memory only.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self._directory = Path(directory) if directory is not None else None
        self._digest = ""
        self._policies: dict[str, Policy] = {}

    def load(self, digest: str) -> Mapping[str, Policy]:
        """The policies kept for a vocabulary's digest; empty where there are none to be trusted."""
        if digest != self._digest:
            self._digest = digest
            self._policies = {}
            try:
                for name, form in self._read(digest).items():
                    self._policies[name] = Policy.model_validate(form, by_alias=True, by_name=False)
            except ValidationError:
                self._policies = {}
        return self._policies

    def save(self, digest: str, policies: dict[str, Policy]) -> None:
        """Keep these and no others. A directory that cannot be written is no error."""
        self._digest, self._policies = digest, policies
        if self._directory is None:
            return
        forms = {
            name: policy.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for name, policy in policies.items()
        }
        body = msgspec.json.encode(forms)
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                Path(name).replace(self._directory / _file(digest))
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            for old in self._directory.glob(_file("*")):
                if old.name != _file(digest):
                    old.unlink(missing_ok=True)

    def _read(self, digest: str) -> dict[str, dict[str, Any]]:
        if self._directory is None:
            return {}
        file = self._directory / _file(digest)
        try:
            if not (_private(self._directory) and _private(file)):
                return {}
            checksum, _, body = file.read_bytes().partition(b"\n")
        except OSError:
            return {}
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return {}
        try:
            return msgspec.json.decode(body, type=dict[str, dict[str, Any]])
        except (msgspec.DecodeError, RecursionError):
            return {}


def _file(digest: str) -> str:
    return f"policies-{digest[:32]}.json"


def _private(path: Path) -> bool:
    """Whether only we (or root) own it and nobody else may write it."""
    status = path.lstat()
    ours = status.st_uid in (os.geteuid(), 0) and not stat.S_ISLNK(status.st_mode)
    return ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
