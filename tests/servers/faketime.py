"""A wall clock for one program, ahead of ours by what a file says: libfaketime's."""

from __future__ import annotations

from pathlib import Path

from tests.servers.process import Missing

PLACES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib")


def library() -> Path:
    """libfaketime's, for programs with threads."""
    for place in PLACES:
        found = Path(place) / "faketime" / "libfaketimeMT.so.1"
        if found.exists():
            return found
    raise Missing("libfaketime is not installed; apt-get install libfaketime")


class WallClock:
    """The clock of whatever program is started with `env`; time that passes goes on as ever.

    Args:
        file: where it is said; the program must be able to read it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.env = {
            "LD_PRELOAD": str(library()),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(file),
        }
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set it, by how far it is ahead of ours."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.replace(self._file)  # at once: half a number is read as another one
