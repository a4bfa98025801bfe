"""A thread that takes everything that is queued, so that what waits at the same moment is done together."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from remediator.store.postgres.link import Link


class Waiting(Protocol):
    """What somebody waits for the answer of."""

    @property
    def future(self) -> Future[Any]: ...


W = TypeVar("W", bound=Waiting)


class Gathering(ABC, Generic[W]):
    """The thread. What nobody waits for any more is left out.

    Args:
        connect: makes a connection.
        most: how much is done together at most.
    """

    def __init__(self, connect: Callable[[], Link], name: str, most: int) -> None:
        self._connect = connect
        self._most = most
        self._link: Link | None = None
        self._queue: queue.SimpleQueue[W | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, one: W) -> Future[Any]:
        """Queue it."""
        self._queue.put(one)
        return one.future

    def stop(self) -> None:
        """Do what is queued, then end. Blocks."""
        self._queue.put(None)
        self._thread.join()
        if self._link is not None:
            self._link.close()

    @abstractmethod
    def _group(self, group: Sequence[W]) -> None:
        """Do them; each is then answered."""

    def _open(self) -> Link:
        if self._link is None or not self._link.usable:
            self._link = self._connect()
        return self._link

    def _run(self) -> None:
        stopping = False
        while not stopping:
            one = self._queue.get()
            group: list[W] = []
            while True:
                if one is None:
                    stopping = True
                elif one.future.set_running_or_notify_cancel():
                    group.append(one)
                if len(group) >= self._most or stopping:
                    break
                try:
                    one = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._group(group)
