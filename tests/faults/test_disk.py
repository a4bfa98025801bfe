"""The disk of an SQLite store fills up, or fails to sync, under a running daemon."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.installation import firing
from tests.faults.scene import Scene, quiet

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Syncing fails, as on a disk that has lost a write, while the file named by FAIL_SYNC exists. */
static int fails(void) {
    const char *name = getenv("FAIL_SYNC");
    if (name == NULL || access(name, F_OK) != 0) return 0;
    errno = EIO;
    return 1;
}
int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails() ? -1 : real(fd);
}
int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails() ? -1 : real(fd);
}
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes syncs fail on demand."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("a failing sync needs a C compiler: apt-get install gcc libc6-dev")
    home = tmp_path_factory.mktemp("shim")
    (home / "sync.c").write_text(SHIM)
    library = home / "sync.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(home / "sync.c"), "-ldl"], check=True
    )
    return library


def fill(place: Path, ballast: Path) -> None:
    """Take all the space that is left."""
    with ballast.open("wb", buffering=0) as file:
        size = 65_536
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2


def refuse(place: Scene) -> str:
    """Deliver alerts until one is refused; its queue."""
    for number in range(1_000):
        queue = f"filling{number}"
        if place.fire(queue) == 503:
            return queue
    raise AssertionError("the disk never fills up")


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path, small: Path) -> None:
    """Settings, policies and log lie on it too, as on the only volume of a small machine."""
    with Scene(small) as place:
        place.daemon.start()
        place.act("before")
        place.begin("during")
        ballast = small / "ballast"
        fill(small, ballast)
        refused = refuse(place)
        place.provider.open.set()
        place.unready("the disk is full; free space there")
        before = place.grown()
        for number in range(5):
            assert place.fire(f"{refused}-{number}") in (200, 503)
        quiet(place)
        assert place.ready() == 503
        assert place.grown() == before
        ballast.unlink()
        place.back()
        place.ends("during")
        for queue in place.accepted:
            place.ends(queue)
        place.act(refused)
        place.whole()
        assert place.daemon.stop() == 0


def test_a_used_up_quota_ends_the_daemon_and_nothing_is_lost(tmp_path: Path) -> None:
    """A write that the kernel refuses for another reason than space: nobody knows what the file holds."""
    with Scene(tmp_path) as place:
        process = place.daemon.start()
        place.act("before")
        log = place.daemon.database.with_name("remediator.db-wal")
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 20_000, unlimited))
        refuse(place)
        assert process.wait(20) == 1
        assert "the disk failed or its quota is used up" in process.tail(60)
        place.daemon.start()
        for queue in place.accepted:
            place.ends(queue)
        place.whole()


def test_a_sync_that_fails_ends_the_daemon_and_nothing_was_acknowledged(tmp_path: Path, shim: Path) -> None:
    """What the disk holds after a sync that failed is not known (fsync(2), NOTES): so no more is answered
    by this process, and a new one reads the file again."""
    broken = tmp_path / "broken"
    with Scene(tmp_path) as place:
        place.daemon.env = {"LD_PRELOAD": str(shim), "FAIL_SYNC": str(broken)}
        process = place.daemon.start()
        place.act("before")
        place.begin("during")
        broken.touch()
        assert place.daemon.post(firing(queue="refused")) in (503, None)
        place.provider.open.set()
        for number in range(20):
            assert place.daemon.post(firing(queue=f"refused{number}")) != 200
        assert process.wait(20) == 1
        assert "store.broken" in process.tail(60)
        place.daemon.start(wait=False)  # as a supervisor does, on a disk that still fails
        assert place.daemon.dead(20)
        assert place.daemon.process.returncode == 1  # type: ignore[union-attr]
        broken.unlink()
        place.daemon.start()
        place.ends("during")  # its outcome could not be written: the daemon has looked
        place.act("refused")
        place.whole()
