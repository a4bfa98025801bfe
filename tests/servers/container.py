"""Processes shut in as containers are, by the programs of util-linux alone: no engine, no image.

A container sees the system's programs, Python's environment and this repository, read-only, and beside
them only what is mounted. It runs as any user, without capabilities if so wanted, in a network of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.servers.process import Failed, Missing, Process

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PROGRAM = "/opt/remediator/bin"
"""Where the image has the program, and so every container here."""
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FILES = ("passwd", "group", "nsswitch.conf", "ssl", "alternatives", "ld.so.cache", "localtime")
"""What programs read below /etc; everything else there is the container's own."""


class Network:
    """A loopback of its own: fixed ports are free in it, and each name has an address.

    Args:
        names: hosts; each has an address of its own in 127.0.0.0/8. By name nobody reaches who listens on
            127.0.0.1 alone.

    Raises:
        Missing: (on entering) this machine does not allow it; that takes root and Linux.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: f"127.0.1.{number}" for number, name in enumerate(names, 1)}
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        mounts = "mount --make-rprivate / && mount -t tmpfs none /tmp && mount -t proc proc /tmp"
        allowed = ["unshare", "--mount", "--net", "--ipc", "--uts",
                   "sh", "-c", f"{mounts} && exec setpriv --no-new-privs true"]  # fmt: skip
        try:
            tried = subprocess.run(allowed, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise Missing(f"{error.filename} is not on the PATH; apt-get install util-linux") from None
        if tried.returncode or os.getuid():
            said = tried.stderr.strip() or "only root can"
            raise Missing(f"a container cannot be made here: {said}")
        # Ends with its standard input, so with whoever started it.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, start_new_session=True
        )
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink(self.file) == ours:
            if self._holder.poll() is not None:
                raise Failed(f"unshare --net ended with {self._holder.returncode}")
        self.inside(_loopback)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder is not None
        self._holder.communicate()

    @property
    def file(self) -> str:
        assert self._holder is not None
        return f"/proc/{self._holder.pid}/ns/net"

    def inside(self, function: Callable[[], T]) -> T:
        """Call it in a thread that is in this network; what it connects to is there, too."""
        with ThreadPoolExecutor(1, initializer=self._enter) as pool:
            return pool.submit(function).result()

    def _enter(self) -> None:
        with open(self.file, "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


_STARTERS = {Path(os.path.realpath(shutil.which(name) or name)).name for name in
             ("nsenter", "unshare", "sh", "setpriv", "env")}  # fmt: skip
"""Programs that become one another, and in the end the one that is to run."""


def _loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


@dataclass(frozen=True)
class Mount:
    """A file or a directory of ours at a place in the container."""

    source: Path
    place: str
    writable: bool = False


class Container:
    """One of them, for the time of a `with`.

    Args:
        network: the network that it is in, beside others.
        home: a directory of ours for its log and its root.
        argv: program and arguments, as they are found inside.
        env: its whole environment.
        user: number of user and group.
        mounts: what it sees besides programs.
        tmpfs: places that are writable and empty.
        read_only: nothing else is writable.
        capable: it keeps root's capabilities, and may gain privileges.
        workdir: where it begins; made if it is not there.
        ready: polled until it is true, once the program has been started.
        stop_signal: what asks it to end; its image says.
    """

    def __init__(
        self,
        network: Network,
        home: Path,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        user: tuple[int, int],
        mounts: Sequence[Mount] = (),
        tmpfs: Sequence[str] = (),
        read_only: bool = True,
        capable: bool = False,
        workdir: str = "/",
        ready: Callable[[], bool] | None = None,
        timeout: float = 300,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.network = network
        self.home = home
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.user = user
        self.capable = capable
        self.workdir = workdir
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "log"
        self.process = Process(
            ["nsenter", f"--net={network.file}", "unshare", "--mount", "--ipc", "--uts",
             "sh", "-euc", self._script(argv, mounts, tmpfs, read_only)],
            log=self.log,
            ready=lambda: self._begun() and (ready is None or ready()),
            timeout=timeout,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stop_signal=stop_signal,
            grace=60,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()

    @property
    def inside(self) -> int:
        """The number of the program's process, as it is seen inside."""
        return self.process.pid

    def _begun(self) -> bool:
        """Whether all is mounted, and the program itself runs: it alone has this environment. Some, as Redis,
        write over theirs at once, but are none of those by which they are started."""
        process = Path(f"/proc/{self.process.pid}")
        try:
            if f"PYTHONPATH={ROOT}".encode() in (process / "environ").read_bytes():
                return True
            return Path(os.readlink(process / "exe")).name not in _STARTERS
        except OSError:  # it has ended, and whoever waits is told so
            return False

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run something beside it, as `docker exec` does."""
        there = f"/proc/{self.process.pid}/ns"
        return subprocess.run(
            ["nsenter", f"--mount={there}/mnt", f"--net={there}/net", f"--ipc={there}/ipc",
             f"--uts={there}/uts", *self._as(), "env", f"--chdir={self.workdir}", *words],
            env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def _as(self) -> list[str]:
        uid, gid = self.user
        shut = [] if self.capable else ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *shut, "--"]

    def _script(
        self,
        argv: Sequence[str],
        mounts: Sequence[Mount],
        tmpfs: Sequence[str],
        read_only: bool,
    ) -> str:
        root = self.home / "root"
        root.mkdir(exist_ok=True)
        lines = [
            "mount --make-rprivate /",
            f"mount -t tmpfs -o mode=755 root {shlex.quote(str(root))}",
            f"cd {shlex.quote(str(root))}",
            "mkdir -p proc dev etc tmp var/lib opt run",
            "mount -t proc proc proc",
        ]
        lines += [_device(name) for name in _DEVICES]
        lines += ["mkdir -m 1777 dev/shm", "mount -t tmpfs -o mode=1777 shm dev/shm"]
        lines += [f"cp -a /etc/{name} etc/ 2>/dev/null || :" for name in _FILES]
        hosts = {"localhost": "127.0.0.1", **self.network.addresses}
        files = {
            "/etc/hosts": "".join(f"{address}\t{name}\n" for name, address in hosts.items()),
            f"{PROGRAM}/remediator": f"#!{sys.executable}\nfrom remediator.cli import main\nmain()\n",
        }
        for place, text in files.items():
            inside = shlex.quote(place.lstrip("/"))
            lines += [
                f"mkdir -p $(dirname {inside})",
                f"printf %s {shlex.quote(text)} > {inside}",
                f"chmod 755 {inside}",
            ]
        lines.append(f"ln -s {shlex.quote(sys.executable)} {PROGRAM.lstrip('/')}/python")
        for place in tmpfs:
            inside = shlex.quote(place.lstrip("/"))
            lines += [f"mkdir -p {inside}", f"mount -t tmpfs -o mode=1777 tmpfs {inside}"]
        # What lies deeper comes later: a mount on /tmp would hide a program below it.
        lines += [_bind(mount) for mount in sorted((*_programs(), *mounts), key=_depth)]
        if self.workdir != "/":
            lines.append(f"mkdir -p {shlex.quote(self.workdir.lstrip('/'))}")
        if read_only:
            lines.append("mount -o remount,ro,bind .")
        lines += ["pivot_root . .", "umount -l .", f"cd {shlex.quote(self.workdir)}"]
        environment = [f"{name}={value}" for name, value in self.env.items()]
        lines.append(f"exec {shlex.join([*self._as(), 'env', '-i', *environment, *argv])}")
        return "\n".join(lines)


def _programs() -> list[Mount]:
    places = [Path("/usr"), *(Path("/").glob("lib*")), Path("/bin"), Path("/sbin")]
    own = [one for path in (sys.prefix, sys.base_prefix, ROOT) for one in (Path(path), Path(path).resolve())]
    found = [Mount(place, str(place)) for place in places if place.exists()]
    return found + [
        Mount(place, str(place)) for place in dict.fromkeys(own) if not place.is_relative_to("/usr")
    ]


def _depth(mount: Mount) -> int:
    return len(Path(mount.place).parts)


def _bind(mount: Mount) -> str:
    source, inside = shlex.quote(str(mount.source)), shlex.quote(mount.place.lstrip("/"))
    if mount.source.is_symlink():
        return f"mkdir -p $(dirname {inside}) && ln -s {shlex.quote(os.readlink(mount.source))} {inside}"
    made = (
        f"mkdir -p {inside}" if mount.source.is_dir() else f"mkdir -p $(dirname {inside}) && touch {inside}"
    )
    options = "bind" if mount.writable else "bind,ro"
    return f"{made} && mount -o {options} {source} {inside}"


def _device(name: str) -> str:
    return f"touch dev/{name} && mount -o bind /dev/{name} dev/{name}"
