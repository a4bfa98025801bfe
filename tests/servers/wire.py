"""A wire to a server on this machine that a test can let hang, cut, and lead elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class Wire:
    """Passes bytes between its own port and another one.

    Args:
        port: of the server on 127.0.0.1 that it leads to; may be changed while it runs.
    """

    def __init__(self, port: int) -> None:
        self.to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut = False
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def hang(self) -> None:
        """Nothing gets through any more, in neither direction; nobody is told."""
        self._flowing.clear()

    def cut(self) -> None:
        """Every connection is reset, and so is every new one."""
        self._cut = True
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _reset(end)

    def mend(self) -> None:
        """All is well again; what hung goes on."""
        self._cut = False
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        self._flowing.wait()
        try:
            if self._cut:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.to))
        except OSError:
            client.close()
            return
        with self._lock:
            self._ends |= {client, server}
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flowing.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._ends.discard(source)
        source.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        _reset(self._listener)  # wakes the thread that accepts
        self._thread.join()
        self._listener.close()
        self._flowing.set()
        self.cut()


def _reset(end: socket.socket) -> None:
    """End a connection from whatever thread: both directions, at once."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
