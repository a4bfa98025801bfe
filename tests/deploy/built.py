"""Builds the image from the Dockerfile and tries it: `make image`. Takes root, but no daemon and no registry.

Podman builds it on a base that debootstrap makes of the Debian release which the Dockerfile names, with
Python where the official image has it. Then it is looked through, and the tests of the try-out run with it in
place of the checkout. With BASE=pull the base comes from its registry.

This machine's certificates, and the file PIP_CONFIG_FILE, hold during the build and stay out of the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers.container import Container, Mount, Network
from tests.servers.process import Process

ROOT = Path(__file__).parents[2]
STORE = "IMAGE_STORE"
"""The variable that names the store of the built image to the tests; without it they take the checkout."""
NAME = "remediator:local"
FREE = {"/var/tmp", "/run/lock"} if STORE in os.environ else set()
"""Open to everybody in the base image's own layer; the file system is read-only."""
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = {"podman": "podman", "crun": "crun", "debootstrap": "debootstrap", "unshare": "util-linux"}
LIMITS = ["--ulimit=nofile=1024:4096", "--ulimit=nproc=4096:4096"]
LEFT = r"^opt/.*(/(pip|setuptools|wheel|hatchling)(-[^/]*)?|\.whl)$|^(opt/build|root/\.cache|src|wheel|data)$"
"""What only the build needs."""


def podman(store: Path, *words: str) -> list[str]:
    """A command of podman on a store of its own; its mounts end with it, so that the store can be removed."""
    storage = os.environ.get("STORAGE_DRIVER", "overlay")
    command = ["podman", f"--root={store}/storage", f"--runroot={store}/run", f"--storage-driver={storage}",
               "--cgroup-manager=cgroupfs", *words]  # fmt: skip
    hybrid = "/sys/fs/cgroup/unified"  # crun knows no hybrid of both versions
    apart = f'mount --make-rprivate /; if [ -d {hybrid} ]; then umount {hybrid}; fi; exec "$@"'
    return ["unshare", "--mount", "sh", "-c", apart, "apart", *command]


def engine() -> Callable[..., Container]:
    """What starts the daemon of the try-out: the built image, if `make image` runs the tests."""
    return Built if STORE in os.environ else Container


class Built(Container):
    """A container of the built image, with the arguments of any other."""

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
        **_: object,
    ) -> None:
        del env  # the image's own
        self.store = Path(os.environ[STORE])
        self.name = f"{home.parent.name}-{home.name}"
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "log"
        options = [f"--add-host={name}:{address}" for name, address in network.addresses.items()]
        options += [f"--volume={one.source}:{one.place}{'' if one.writable else ':ro'}" for one in mounts]
        options += [f"--tmpfs={place}" for place in tmpfs]
        options += ["--read-only", "--read-only-tmpfs=false"] if read_only else []
        options += [] if capable else ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
        options += [f"--user={user[0]}:{user[1]}"] if user == (0, 0) else []  # else the image's own
        self.process = Process(
            podman(self.store, "run", "--rm", "--no-healthcheck", "--cgroups=disabled", f"--name={self.name}",
                   f"--network=ns:{network.file}", f"--entrypoint={json.dumps(argv[:1])}", *LIMITS, *options,
                   NAME, *argv[1:]),
            log=self.log,
            ready=self._runs,
            timeout=300,
            grace=60,
        )  # fmt: skip

    @property
    def inside(self) -> int:
        return 1

    def _runs(self) -> bool:
        return self.process.returncode == 0 or self.run("true").returncode == 0

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = podman(self.store, "exec", self.name, *words)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- the command


def _say(text: str) -> None:
    print(text, flush=True)


def _do(command: Sequence[str], log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(list(command), cwd=ROOT, stdout=output, stderr=output, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise SystemExit(f"{tail}\n{command[0]} … ended with {done.returncode}; the whole log is {log}")


def _base(store: Path, log: Path) -> None:
    """The Dockerfile's base image, made of Debian's own packages."""
    found = re.search(r"^FROM (python:(\d\.\d+)-slim-(\w+))", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    name, python, release = found.groups()
    if subprocess.run(podman(store, "image", "exists", name), check=False).returncode == 0:
        return
    if os.environ.get("BASE") == "pull":
        _do(podman(store, "pull", f"docker.io/library/{name}"), log)
        return
    _say(f"the base {name}, of Debian {release} from {MIRROR}")
    tree = store / "base"
    shutil.rmtree(tree, ignore_errors=True)
    include = "--include=python3,python3-venv,python3-pip,ca-certificates"
    _do(["debootstrap", "--variant=minbase", include, release, str(tree), MIRROR], log)
    own = tree / "usr" / "bin" / f"python{python}"
    if not own.exists():
        raise SystemExit(
            f"Debian {release} has no Python {python}, which the Dockerfile's base has: BASE=pull"
        )
    local = tree / "usr" / "local" / "bin"
    for link, to in ((f"python{python}", own), ("python3", f"python{python}"), ("python", "python3")):
        (local / link).symlink_to(f"/usr/bin/{own.name}" if to == own else str(to))
    (local / "pip").write_text('#!/bin/sh\nexec /usr/local/bin/python3 -m pip "$@"\n')
    (local / "pip").chmod(0o755)
    for place in (tree / "var/cache/apt/archives", tree / "var/lib/apt/lists"):
        shutil.rmtree(place)
    archive = store / "base.tar"
    _do(["tar", "--create", f"--directory={tree}", f"--file={archive}", "."], log)
    shutil.rmtree(tree)
    path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    _do(podman(store, "import", f"--change={path}", str(archive), f"docker.io/library/{name}"), log)
    archive.unlink()


def _build(store: Path, log: Path) -> None:
    _say("the image, from the Dockerfile")
    lent = ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
    if settings := os.environ.get("PIP_CONFIG_FILE"):
        lent.append(f"--volume={settings}:/etc/pip.conf:ro")
    _do(podman(store, "build", "--isolation=chroot", "--format=docker", "--pull=never", *lent, *LIMITS,
               f"--tag={NAME}", "."), log)  # fmt: skip


def _look(store: Path) -> list[str]:
    """What is wrong with what is in it."""
    said = subprocess.check_output(podman(store, "image", "inspect", NAME), text=True)
    (image,) = json.loads(said)
    wrong = []
    if image["Config"]["User"] != "10001:10001":
        wrong.append(f"it runs as {image['Config']['User']!r}")
    if "Healthcheck" not in image and "Healthcheck" not in image["Config"]:
        wrong.append("it has no health check")
    listed = podman(store, "run", "--rm", "--no-healthcheck", "--cgroups=disabled", "--network=none",
                    "--read-only", "--read-only-tmpfs=false", "--user=0:0", "--entrypoint=find", *LIMITS,
                    NAME, "/", "-xdev", "-printf", "%U %s %y %P\n")  # fmt: skip
    lines = subprocess.check_output(listed, text=True).splitlines()
    files = {
        name: (int(uid), int(size), kind) for uid, size, kind, name in (line.split(" ", 3) for line in lines)
    }
    own = {name for name, (_, _, kind) in files.items() if name.startswith("opt/") and kind == "f"}
    wrong += sorted(f"left by the build: {name}" for name in files if re.search(LEFT, name))[:5]
    modules = {name for name in own if name.endswith(".py")}
    compiled = {re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", name) for name in own - modules}
    wrong += sorted(f"not compiled: {name}" for name in modules - compiled)[:5]
    owned = {name for name, (uid, _, _) in files.items() if uid == 10001}
    if owned != {"var/lib/remediator"}:
        wrong.append(f"belongs to the daemon's user: {sorted(owned)}")
    size = sum(size for _, size, kind in files.values() if kind == "f")
    daemon = sum(files[name][1] for name in own)
    _say(f"{size / 1e6:.0f} MB, of them {daemon / 1e6:.0f} MB in /opt/remediator with {len(modules)} modules")
    return wrong


def main() -> int:
    """0: all is well; 1: something is wrong; 3: it cannot be tried here."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if os.getuid() or missing:
        need = "root" if os.getuid() else ""
        install = f"apt-get install --no-install-recommends {' '.join(missing)}" if missing else ""
        _say(f"the image cannot be built here; it needs {' and '.join(filter(None, (need, install)))}")
        return 3
    store = ROOT / ".image"
    store.mkdir(exist_ok=True)
    log = store / "log"
    _base(store, log)
    _build(store, log)
    if wrong := _look(store):
        _say("\n".join(wrong))
        return 1
    _say("the try-out of compose.yaml, with it")
    tests = [sys.executable, "-m", "pytest", "-q", "tests/deploy/test_tryout.py"]
    return subprocess.run(tests, cwd=ROOT, env=os.environ | {STORE: str(store)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
