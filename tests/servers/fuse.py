"""A file system that the kernel lists as one of the network: mounted by FUSE, and answered from here.

The protocol is that of `linux/fuse.h`, version 7.31: just enough of it for an empty directory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process import Missing

LOOKUP, FORGET, GETATTR, INIT, BATCH_FORGET = 1, 2, 3, 26, 42
_DETACH = 2
_REQUEST, _ANSWER = struct.Struct("<IIQ"), struct.Struct("<IiQ")
_ROOT = struct.pack("<QII6Q10I", 0, 0, 0, 1, *[0] * 8, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
_HELLO = struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 4096, *[0] * 11)


class Fuse:
    """An empty directory for the time of a `with`.

    Args:
        place: an existing directory.
        kind: what the kernel is to call it, such as `fuse.sshfs`.

    Raises:
        Missing: (on entering) it cannot be mounted here; that takes root and /dev/fuse.
    """

    def __init__(self, place: Path, kind: str) -> None:
        self.place = place
        self._kind = kind
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR)
        except OSError as error:
            raise Missing(f"a network file system cannot be mounted here: {error}") from None
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        where = os.fsencode(self.place)
        if self._libc.mount(b"server:/x", where, self._kind.encode(), 0, options.encode()):
            os.close(self._device)
            why = os.strerror(ctypes.get_errno())
            raise Missing(f"a network file system cannot be mounted here: {why}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._libc.umount2(os.fsencode(self.place), _DETACH)
        self._thread.join(10)
        os.close(self._device)

    def _answer(self) -> None:
        """Until it is unmounted, which ends the read with ENODEV."""
        while True:
            try:
                request = os.read(self._device, 1 << 17)
            except OSError as failed:
                if failed.errno == errno.ENODEV:
                    return
                continue  # a request that was interrupted meanwhile
            _, what, number = _REQUEST.unpack_from(request)
            if what in (FORGET, BATCH_FORGET):
                continue
            body = {INIT: _HELLO, GETATTR: _ROOT}.get(what, b"")
            error = 0 if body else errno.ENOENT if what == LOOKUP else errno.ENOSYS
            os.write(self._device, _ANSWER.pack(_ANSWER.size + len(body), -error, number) + body)
