"""Run the demo: `make demo`, or `make demo KEEP=1` to stay up afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from demo import alert
from demo.installation import POLICY, Installation
from demo.sessions import DATABASE, HEALTHY, IDLE, MAX_CONNECTIONS, RUNNING, StuckSessions
from demo.story import Failure, note, seen, step, title
from tests.servers.directory import remove, temporary
from tests.servers.postgres import Postgres, binaries
from tests.servers.process import Failed, Missing

THRESHOLD = 80
"""The pool is healthy below this share, in percent: the shipped policy's own threshold."""


def main() -> int:
    """Returns 0 only if the run succeeded and the pool is healthy."""
    # Both: what a shell starts in the background ignores SIGINT, unless it says otherwise.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    title(f"remediator demo: {RUNNING + IDLE} stuck sessions fill a connection pool, and nobody is woken")
    try:
        with ExitStack() as running:
            healed = play(running, keep=bool(os.environ.get("KEEP")))
    except (Failure, Failed, Missing) as problem:
        print(f"\nThe demo failed: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130
    return 0 if healed else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def play(running: ExitStack, keep: bool) -> bool:
    """The whole story; everything started is closed with `running`."""
    directory = temporary("demo")
    running.callback(remove, directory)
    with step("PostgreSQL starts") as current:
        server = running.enter_context(Postgres(max_connections=MAX_CONNECTIONS))
        current.done = f"PostgreSQL runs on 127.0.0.1:{server.port}"
    note(f"its programs are in {binaries()}")
    with step(f"{RUNNING + IDLE} sessions get stuck") as current:
        sessions = running.enter_context(StuckSessions(server))
        before = str(sessions)
        current.done = f"{RUNNING} sessions run endless queries, {IDLE} idle in a transaction: {before}"
    note(f"{HEALTHY} more sessions are healthy")
    with step("remediator starts") as current:
        installation = Installation(directory, server.dsn("remediator", DATABASE))
        running.enter_context(installation)
        current.done = f"remediator is ready on {installation.url}, on SQLite, with the policy {POLICY}"
    note(f"changed from the shipped policy: {'; '.join(installation.changed)}")
    _alert(running, installation, sessions)
    run = _follow(installation)
    after, share, harmed = str(sessions), sessions.share(), sessions.harmed()
    succeeded = run["outcome"] == "succeeded" and share < THRESHOLD and not harmed
    print()
    title(f"run {run['id']}: {run['outcome']}")
    note(f"the pool before: {before}")
    note(f"the pool after:  {after}; {HEALTHY - harmed} of {HEALTHY} healthy sessions are unharmed")
    _ask(installation, run)
    if not succeeded:
        raise Failure(f"the run ended {run['outcome']} ({run['reason']}), the pool is at {after}\n"
                      f"{installation.problems()}")  # fmt: skip
    if keep:
        _stay(installation, directory)
    return succeeded


def _alert(running: ExitStack, installation: Installation, sessions: StuckSessions) -> None:
    with step("Prometheus and Alertmanager start, and the rule fires") as current:
        try:
            running.enter_context(alert.live(installation, sessions))
            current.done = "a real Prometheus rule fired, and a real Alertmanager posted it"
        except Missing as missing:
            sessions.await_age(4)  # longer than the policy's `longer_than`
            alert.post_recorded(installation)
            current.done = f"a recorded Alertmanager notification was posted ({missing})"
        deadline = time.monotonic() + 30
        while not installation.ask("runs")["items"]:
            if time.monotonic() > deadline:
                raise Failure(f"no run was opened within 30 s of the alert\n{installation.problems()}")
            time.sleep(0.05)


def _follow(installation: Installation, timeout: float = 60) -> dict[str, Any]:
    """Tell what the daemon does, as its audit log does, until the run has ended; returns the run."""
    run: dict[str, Any] = installation.ask("runs")["items"][-1]
    told: set[str] = set()
    deadline = time.monotonic() + timeout
    while True:
        run = installation.ask(f"runs/{run['id']}")
        for event in run["events"]:
            if event["id"] not in told:
                told.add(event["id"])
                seen(event["at"][11:23], _line(event))
        if run["outcome"] is not None:
            return run
        if time.monotonic() > deadline:
            raise Failure(
                f"run {run['id']} is still {run['state']} ({run['reason']}) after {timeout:g} s\n"
                f"{installation.problems()}"
            )
        time.sleep(0.1)


def _line(event: dict[str, Any]) -> str:
    words = [event["kind"]]
    if event["kind"] == "run.created":
        words.append(f"{event['policy']} on {event['target']}")
    if event["reason"]:
        words.append(event["reason"])
    if event["observed"]:
        words.append(f"observed {event['observed']}")
    if event["allowed"]:
        words.append(f"allowed {event['allowed']}")
    return "  ".join(words)


def _ask(installation: Installation, run: dict[str, Any]) -> None:
    """Ask the log, as a person would the next morning."""
    for words in (
        ("alerts", "explain", str(run["alert"])),
        ("audit", "query", "--run", str(run["id"])),
        ("audit", "verify"),
    ):
        print()
        title(f"$ remediator {' '.join(words)}")
        answer = installation.command(*words)
        print(answer.stdout, end="", flush=True)
        if answer.returncode:
            raise Failure(f"remediator {' '.join(words)} ended with {answer.returncode}\n{answer.stderr}")


def _stay(installation: Installation, directory: Path) -> None:
    """Stay up until Ctrl-C."""
    print()
    title(f"still running: {installation.url}")
    note(f"the API: {installation.url}/api/v1/openapi.json    metrics: {installation.url}/metrics")
    note(f"ask it: .venv/bin/remediator runs list --config {directory / 'remediator.yaml'}")
    note("Ctrl-C stops it and leaves nothing behind")
    try:
        while installation.process.running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
    raise Failure(f"the daemon ended by itself\n{installation.problems()}")


if __name__ == "__main__":
    sys.exit(main())
