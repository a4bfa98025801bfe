"""One child process: started in a group of its own, awaited, and always ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.directory import remove


class Missing(RuntimeError):
    """A program that a test needs is not installed; the message says how to get it."""


class Failed(RuntimeError):
    """A process ended or did not become ready; the message ends with the tail of its log."""


def find(*names: str, hint: str) -> str:
    """The path of the first of these programs that is on PATH.

    Args:
        hint: how to get it, for the error.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise Missing(f"{' or '.join(names)} is not on the PATH; {hint}")


class Process:
    """A child process whose output goes to a file.

    Args:
        argv: the program and its arguments.
        log: where its output goes (appended).
        ready: polled until it returns True; None: ready at once.
        timeout: seconds it may take to become ready.
        env: the child's whole environment; None: ours.
        cwd: its working directory.
        user: run it as this user (only root can).
        stop_signal: what asks it to end; after `grace` seconds it is killed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        ready: Callable[[], bool] | None = None,
        timeout: float = 20,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.ready = ready
        self.timeout = timeout
        self.env = env
        self.cwd = cwd
        self.user = user
        self.stop_signal = stop_signal
        self.grace = grace
        self._child: subprocess.Popen[bytes] | None = None
        self._buried = False

    def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            Failed: it ended, or was not ready in time. It does not run then.
        """
        self._buried = False
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if self.env is None else dict(self.env),
                cwd=self.cwd,
                start_new_session=True,
                user=None if self.user is None else self.user[0],
                group=None if self.user is None else self.user[1],
                extra_groups=None if self.user is None else [],
            )
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while self.ready is not None and not self.ready():
            if self.returncode is not None:
                raise Failed(
                    f"{self.argv[0]} ended with {self.returncode} before it was ready\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise Failed(f"{self.argv[0]} was not ready after {self.timeout:g} s\n{self.tail()}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        if self._child is None:
            raise Failed(f"{self.argv[0]} was not started")
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def wait(self, timeout: float) -> int:
        """Wait until it ends by itself; returns its exit code.

        Raises:
            Failed: it still runs after `timeout` seconds.
        """
        if self._child is None:
            raise Failed(f"{self.argv[0]} was not started")
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.argv[0]} still runs after {timeout:g} s\n{self.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone (SIGSTOP, SIGCONT, SIGHUP …)."""
        if self.running:
            os.kill(self.pid, number)

    def stop(self) -> int | None:
        """Ask it to end, kill its whole group if it does not; returns its exit code."""
        if self._child is None:
            return None
        if self._child.poll() is None:
            self._child.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(self.grace)
        self.kill()
        return self._child.returncode

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait. Once: later its number may be another group's."""
        if self._child is None or self._buried:
            return
        self._buried = True
        deadline = time.monotonic() + 1
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            while time.monotonic() < deadline:  # its children die a moment later; not ours to wait for
                os.killpg(self._child.pid, 0)
                time.sleep(0.005)
        self._child.wait()

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Served:
    """A process with a directory of its own, both gone at the end of a `with`."""

    process: Process
    directory: Path

    def start(self) -> Self:
        self.process.start()
        return self

    def close(self) -> None:
        self.process.stop()
        remove(self.directory)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
