"""The SQLite file itself: where it may lie, who may hold it, and how it is connected to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from remediator.errors import ConfigurationError, StoreUnavailable

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre"),
        *("beegfs", "gpfs", "orangefs", "ocfs2", "gfs2", "davfs", "fuse.davfs2", "fuse.sshfs"),
        *("fuse.s3fs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone", "fuse.gcsfuse"),
    }
)
"""File systems whose locks or syncs cannot be trusted (sqlite.org/wal.html, "all processes must be
on the same host"; sqlite.org/faq.html#q5)."""


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that a path is on.

    Args:
        path: absolute, without symbolic links.
        mounts: the text of /proc/self/mountinfo (proc(5)).

    Returns:
        Such as `ext4`; "" if no mount covers the path.
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split()
        if len(parts) < 5 or not rest:
            continue
        mount = parts[4]
        for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            mount = mount.replace(octal, character)
        if path.is_relative_to(mount) and len(mount) >= best:
            best, found = len(mount), rest.split()[0]
    return found


def refuse_network(path: Path, mounts: str) -> None:
    """Raise ConfigurationError if the path is on a network file system."""
    kind = file_system(path, mounts)
    if kind in _NETWORK:
        raise ConfigurationError(
            f"store.url: {path} is on a network file system ({kind}), where SQLite loses data; "
            "put it on a local disk, or use PostgreSQL"
        )


def check_place(path: Path) -> Path:
    """The file's true path, if SQLite can be trusted there.

    Raises:
        ConfigurationError: no such directory, not writable, or a network file system.
    """
    true = Path(os.path.realpath(path))
    directory = true.parent
    if not directory.is_dir():
        raise ConfigurationError(f"store.url: the directory {directory} does not exist; create it first")
    if true.is_dir():
        raise ConfigurationError(f"store.url: {true} is a directory; name a file in it")
    with contextlib.suppress(OSError):
        refuse_network(directory, Path("/proc/self/mountinfo").read_text())
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(f"store.url: the directory {directory} is not writable by this user")
    if true.exists() and not os.access(true, os.R_OK | os.W_OK):
        raise ConfigurationError(f"store.url: {true} is not readable and writable by this user")
    if true.exists() and true.stat().st_nlink > 1:
        # Lock and log lie beside the name: by another name a second daemon would find neither
        # (sqlite.org/howtocorrupt.html#_multiple_links_to_the_same_file).
        raise ConfigurationError(
            f"store.url: {true} has further names (hard links), by which another process could open the same "
            f"file unnoticed; remove them (find them with `find -samefile {true}`)"
        )
    return true


_MOMENT = 0.1
"""Seconds for which a file that stood in its place is taken to stand there still."""
_LEAST = 65_536
"""Bytes below which a disk is full."""


class Place:
    """The file that was opened. A name that no longer leads to it means that whatever is written is
    lost with the process: the file was deleted, moved, or another one was put in its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = _file(path)
        self._looked = 0.0

    def gone(self) -> StoreUnavailable | None:
        """As `lost`, by a look that may be a moment old: for whoever asks at every call."""
        return None if time.monotonic() < self._looked + _MOMENT else self.lost()

    def lost(self) -> StoreUnavailable | None:
        """Why the file can no longer be trusted; None while it stands where it was opened."""
        stands = _file(self._path) == self._found
        self._looked = time.monotonic() if stands else 0.0
        if stands:
            return None
        return StoreUnavailable(
            f"{self._path} was deleted, moved or replaced while it was open; "
            "put it back, or restore a backup, then restart"
        )

    def full(self) -> StoreUnavailable | None:
        """Why there is no room for more: the log may still own blocks into which a write goes, and the
        next one does not. None while there is some."""
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize >= _LEAST:
            return None
        return StoreUnavailable(f"{self._path}: the disk is full; free space there")


def _file(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


_MADE = "made"
"""What a lock file says once a store stood beside it."""


class Lock:
    """An exclusive lock beside the file, for the process's life. Holding it proves every earlier
    process dead, for the kernel drops it with the process. It also remembers that there was a store,
    and how far its audit log went."""

    def __init__(self, path: Path) -> None:
        self._store = path
        self._path = path.with_name(path.name + ".lock")
        self._made = False
        self.reached = 0
        """The last id of the audit log that was sealed here."""
        self._handle: int | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            StoreUnavailable: another process has it; its pid is named.
            ConfigurationError: no file can be made there.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"store.url: {self._path} cannot be made: {error.strerror}; name a file on a local disk"
            ) from error
        words = os.pread(handle, 64, 0).decode("ascii", "replace").split()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = words[0] if words else "unknown"
            os.close(handle)
            raise StoreUnavailable(
                f"{self._path.with_suffix('')} is held by process {holder}; "
                "stop it first, or ask it: commands take --server, and reading commands need no lock"
            ) from None
        self._handle = handle
        self._made = _MADE in words[1:]
        self.reached = int(words[2]) if self._made and len(words) > 2 and words[2].isdigit() else 0
        self._write()

    def refuse_vanished(self) -> None:
        """Raise ConfigurationError if a store stood here and is gone. A new one in its place would know
        nothing of the budgets that are used up, nor of leases, quarantines and calls under way."""
        if self._made and not (self._store.exists() and self._store.stat().st_size):
            raise ConfigurationError(
                f"store.url: {self._store} is gone, and was here ({self._path} says so): put it back, or "
                f"restore a backup. To begin anew with nothing known of the past, remove {self._path}"
            )

    def mark(self, reached: int) -> None:
        """A store stands here, and its audit log goes so far."""
        self._made = True
        self.reached = reached
        self._write()

    def note(self, reached: int) -> None:
        """The audit log is durable up to here. Not synced: a note that a power cut takes back is an
        older one, which accuses nobody."""
        if self._handle is not None and reached != self.reached:
            self.reached = reached
            self._write()

    def _write(self) -> None:
        assert self._handle is not None
        # One write, of a length that never shrinks: whoever reads meanwhile sees the old or the new.
        made = f"{_MADE} {self.reached}" if self._made else ""
        os.pwrite(self._handle, f"{os.getpid():<10} {made:<30}\n".encode(), 0)

    def free(self) -> None:
        """Let go of it. The file stays: removing it would let two processes lock two files."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit, with the settings that durability rests on.

    Args:
        path: None for a database in memory.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if not read_only and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=2.0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )
    try:
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA cache_size = -{2_000 if read_only else 16_000}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def unavailable(error: sqlite3.Error, path: Path | None) -> StoreUnavailable:
    """What SQLite said, with the thing it is about and what to do."""
    name = str(path) if path is not None else "the store in memory"
    code = error_code(error)
    if code == sqlite3.SQLITE_FULL:
        todo = "the disk is full; free space there"
    elif code == sqlite3.SQLITE_IOERR:
        todo = "the disk failed or its quota is used up; look at the kernel log, then restart"
    elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        todo = "the file is damaged or no SQLite database; restore it from a backup"
    elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        todo = "another program has it locked; find it with `fuser` and stop it"
    elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        todo = "check that this user may write the file and its directory"
    elif code == sqlite3.SQLITE_INTERRUPT:
        todo = "it took too long; ask for less, or look at the disk"
    else:
        todo = "look at the log, then restart"
    return StoreUnavailable(f"{name}: {error}: {todo}")


def error_code(error: BaseException) -> int:
    """SQLite's primary result code (sqlite.org/rescode.html); 0 if it gave none."""
    code: Any = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF
