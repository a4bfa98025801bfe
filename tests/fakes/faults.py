"""What a fake does wrong on purpose, and what it was asked."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal

Silence = Literal["hang", "reset"]


@dataclass(frozen=True)
class Fault:
    """One call that goes wrong.

    Args:
        call: only calls whose name contains this.
        answer: `hang`: no answer; `reset`: the line is cut; else the provider's code (an HTTP status,
            or the name of a gRPC status).
        applies: whether the call is carried out all the same.
        late: seconds until it is carried out, where it is.
        text: the error's text.
    """

    call: str
    answer: Silence | int | str
    applies: bool = False
    late: float = 0.0
    text: str = "told to fail"


@dataclass(frozen=True)
class Call:
    """One call that arrived: its name, what it asked, whether it was carried out as far as is known."""

    name: str
    request: Any
    at: float = field(default_factory=time.monotonic)


class Faults:
    """The calls that arrived, and the faults that wait for theirs. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self._timers: list[threading.Timer] = []
        self.calls: list[Call] = []
        self.closing = threading.Event()

    def add(self, fault: Fault, times: int = 1) -> None:
        """Let the next `times` such calls go wrong."""
        with self._lock:
            self._waiting += [fault] * times

    def arrived(self, name: str, request: Any) -> Fault | None:
        """Record a call; returns what is to go wrong with it."""
        with self._lock:
            self.calls.append(Call(name, request))
            for position, fault in enumerate(self._waiting):
                if fault.call in name:
                    return self._waiting.pop(position)
        return None

    def named(self, name: str) -> list[Call]:
        """The calls whose name contains this, in order."""
        with self._lock:
            return [call for call in self.calls if name in call.name]

    def later(self, seconds: float, work: Any) -> None:
        """Do something after a while, unless the fake is closed by then."""
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        with self._lock:
            self._timers.append(timer)
        timer.start()

    def hang(self, seconds: float = 60) -> None:
        """Wait until the fake closes."""
        self.closing.wait(seconds)

    def close(self) -> None:
        self.closing.set()
        for timer in self._timers:
            timer.cancel()
            timer.join()
