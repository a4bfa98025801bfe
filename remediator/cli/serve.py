"""`serve`: the daemon, one process, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, group, verb

if TYPE_CHECKING:
    from remediator.engine.daemon import Daemon
    from remediator.settings import Settings

app = group()

LEAVING = 5.0
"""Seconds from the end of the daemon to the end of its process."""


@verb(app)
def serve(call: Invocation) -> int:
    """Run the daemon.

    SIGTERM or Ctrl-C stops it: what is under way is finished or handed over. SIGHUP reloads the policies.
    Exit codes: 0 stopped, 1 it could not start (or its server failed), 2 the settings cannot be used.
    """
    from remediator import log
    from remediator.errors import RemediatorError

    settings = call.settings
    log.configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            code = runner.run(serving(settings))
            leave(code)
            return code
        except RemediatorError as error:
            return _refused(f"{error}{call.without}")
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return _refused(f"{place}{error.strerror or error}")


def leave(code: int, within: float = LEAVING) -> None:
    """End the process soon, whatever its threads still wait for. All that must last is written by now; a
    thread that hangs in a call or a file system would keep the interpreter from ending.

    Args:
        code: the exit code.
        within: seconds.
    """

    def end() -> None:
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(within, end)
    timer.daemon = True
    timer.start()


async def serving(settings: Settings, make: Callable[[Settings], Daemon] | None = None) -> int:
    """Serve until a signal, or until the daemon can no longer do its work; returns the exit code.

    Args:
        make: builds the daemon; None for `wiring.build`. Tests give one whose store misbehaves.
    """
    import structlog

    from remediator.web.app import create_app
    from remediator.web.server import server
    from remediator.wiring import build

    log = structlog.get_logger("remediator.serve")
    # Bound before anything is opened, so that a taken port refuses at once; nothing listens yet.
    bound = _bind(settings.server.host, settings.server.port)
    try:
        daemon = (make or build)(settings)
        stop = asyncio.Event()
        _on_signals(daemon, stop, log)
        await daemon.start()
        failed = False
        try:
            web = server(create_app(daemon), settings.server)
            web.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
            serving = asyncio.create_task(web.serve([bound]), name="web")
            waiting = asyncio.create_task(stop.wait(), name="stop")
            broken = asyncio.create_task(daemon.broken(), name="broken")
            while not (web.started or serving.done()):  # noqa: ASYNC110 - uvicorn sets a flag, no event
                await asyncio.sleep(0.005)
            log.info("serving", address=_shown(bound), pid=os.getpid(), store=settings.store.url.shown)
            await asyncio.wait({serving, waiting, broken}, return_when=asyncio.FIRST_COMPLETED)
            failed = serving.done() or broken.done()
            if broken.done():
                what = "store.broken" if daemon.store.fatal is not None else "task.broken"
                log.error(what, why=broken.result(), do="the process ends; start it anew")
            broken.cancel()
            waiting.cancel()
            daemon.rest()  # at once: an open request may keep the server for seconds
            web.should_exit = True
            await serving
        finally:
            log.info("stopping")
            await daemon.stop()
            log.info("stopped")
        return NO if failed else FINE
    finally:
        bound.close()


def _on_signals(daemon: Daemon, stop: asyncio.Event, log: Any) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        changed = await daemon.policies.reload()
        log.info("reloaded", changed=changed, fault=daemon.policies.fault)

    def hangup() -> None:
        task = loop.create_task(reload(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup)


def _no_signals() -> AbstractContextManager[None]:
    """In place of uvicorn's handlers, which would end the process by the signal and not by exit 0."""
    return nullcontext()


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet.

    Raises:
        ConfigurationError: the address is taken, or not ours.
    """
    from remediator.errors import ConfigurationError

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"server.host {host}: {error.strerror or error}") from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}; "
            "another daemon may be running there, else set server.host and server.port"
        ) from None
    bound.setblocking(False)
    return bound


def _shown(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Any:
    import uvloop

    return uvloop.new_event_loop


def _refused(why: str) -> int:
    typer.echo(f"remediator: not started: {why}", err=True)
    return NO
