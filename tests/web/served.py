"""A real daemon on a real SQLite store behind a real server, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from remediator.engine.daemon import Daemon
from remediator.settings.load import assemble
from remediator.web.app import create_app
from remediator.web.server import server
from remediator.wiring import build

PAYLOADS = Path(__file__).parent.parent / "payloads"

POLICY = """\
name: hold-still
description: Holds for an hour, so that the tests see a run that waits.
mode: enforce
from: [am]
match: [alertname="Stuck"]
for: 1h
remedies:
  - action: postgres.cancel_queries
    with: {connection: orders, longer_than: 5m, max: 5}
verify:
  within: 1m
  checks:
    - check: alert.firing
      is: "== 0"
"""

SETTINGS = """\
server: {port: 0, body_limit: 64KiB, request_timeout: 1s, store_timeout: 1s}
store: {url: "sqlite:///./remediator.db"}
policies: {dir: policies, reload: 1h}
senders:
  am:
    kind: alertmanager
    auth:
      - {bearer: am-token-for-tests}
      - {bearer: next-token-for-tests}
      - {basic: {username: am, password: "p:w-for-the-tests"}}
  token: {kind: alertmanager, auth: {query_token: query-token-for-tests}}
  few: {kind: alertmanager, auth: {bearer: few-token-for-tests}, limit: 3 per 1h}
  gcp: {kind: cloud_monitoring}
connections:
  orders: {kind: postgres, dsn: "postgresql://nobody@127.0.0.1:1/orders"}
"""

TOKENS = """\
access:
  tokens:
    - {name: vera, role: viewer, token: viewer-token-for-tests}
    - {name: otto, role: operator, token: operator-token-for-tests}
    - {name: alma, role: auditor, token: auditor-token-for-tests}
"""


NONE: Mapping[str, str] = {}


@dataclass
class Running:
    """A served daemon. `port` is where; the loop is the server thread's."""

    daemon: Daemon
    port: int
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False)

    def run(self, work: Any) -> Any:
        """The result of a coroutine, run in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def audited(self, kind: str) -> None:
        """Wait until there is an event of this kind."""
        async with asyncio.timeout(10):
            while not await self.daemon.store.audit(kind=kind):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def events(self, kind: str) -> list[Any]:
        return list(self.run(self.daemon.store.audit(kind=kind)))


@contextmanager
def serving(
    directory: Path,
    extra: str = "",
    *,
    public_url: str = "",
    policies: Mapping[str, str] = NONE,
    server_more: str = "",
) -> Iterator[Running]:
    """Start, yield, stop gracefully.

    Args:
        extra: more settings. server_more: more of `server`. policies: name → text, beside hold-still.
    """
    (directory / "policies").mkdir()
    (directory / "policies" / "hold-still.yaml").write_text(POLICY)
    for name, text in policies.items():
        (directory / "policies" / f"{name}.yaml").write_text(text)
    text = (
        SETTINGS.replace("{port: 0,", f"{{port: 0, public_url: '{public_url}',") if public_url else SETTINGS
    )
    if server_more:
        text = text.replace("{port: 0,", f"{{port: 0, {server_more},")
    settings = assemble(text + extra, "remediator.yaml", {}, directory)
    started = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        daemon = build(settings)
        await daemon.start()
        web = server(create_app(daemon), settings.server)
        found["web"], found["daemon"], found["loop"] = web, daemon, asyncio.get_running_loop()
        serve = asyncio.create_task(web._serve())
        while not (web.started or serve.done()):  # noqa: ASYNC110 - uvicorn sets a flag, no event
            await asyncio.sleep(0.005)
        found["port"] = web.servers[0].sockets[0].getsockname()[1]
        started.set()
        await serve
        await daemon.stop()

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            found["error"] = error
            raise
        finally:
            started.set()

    thread = threading.Thread(target=work, name="served")
    thread.start()
    started.wait(15)
    if "port" not in found:
        thread.join(5)
        raise AssertionError("the daemon did not start") from found.get("error")
    try:
        yield Running(found["daemon"], found["port"], found["loop"])
    finally:
        found["loop"].call_soon_threadsafe(setattr, found["web"], "should_exit", True)
        thread.join(15)
    assert not thread.is_alive()
    assert "error" not in found


def alert(fingerprint: str, name: str = "Stuck", **changes: Any) -> dict[str, Any]:
    """One of Alertmanager's alerts, starting now."""
    return {
        "status": "firing",
        "labels": {"alertname": name, "instance": fingerprint},
        "annotations": {},
        "startsAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": fingerprint,
        **changes,
    }


def body(*alerts: Any, **changes: Any) -> bytes:
    return json.dumps({"version": "4", "alerts": list(alerts), "truncatedAlerts": 0, **changes}).encode()
