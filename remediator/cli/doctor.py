"""`doctor`: reach everything that the settings name, change nothing, and send what is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, group, verb

if TYPE_CHECKING:
    from remediator.model import Message
    from remediator.settings import Settings

app = group()

Finding = tuple[str, str, bool, str]


@verb(app)
async def doctor(
    call: Invocation,
    send: Annotated[
        list[str] | None,
        typer.Option(metavar="NOTIFIER", help="Send a test message to this notifier; may be repeated."),
    ] = None,
) -> int:
    """Reach the store and every connection, load every notifier; change nothing.

    0 all well, 1 something is not.
    """
    settings = call.settings
    wanted = frozenset(send or ())
    _known(wanted, settings)
    found = [
        await asyncio.to_thread(_store, settings),
        *await asyncio.gather(*(_connection(settings, name) for name in settings.connections)),
        *await asyncio.gather(*(_notifier(settings, name, name in wanted) for name in settings.notifiers)),
        *await _redis(settings),
        _policies(call),
    ]
    rows = [(kind, name, "ok" if well else "NOT OK", said) for kind, name, well, said in found]
    call.print(
        [{"kind": kind, "name": name, "ok": well, "found": said} for kind, name, well, said in found],
        terminal.table(("KIND", "NAME", "STATE", "FOUND"), rows),
    )
    return FINE if all(well for _, _, well, _ in found) else NO


def _store(settings: Settings) -> Finding:
    from remediator.errors import ConfigurationError, StoreError
    from remediator.store import VERSION
    from remediator.store.sides import schema_version

    url = settings.store.url
    try:
        version = schema_version(url)
    except (ConfigurationError, StoreError) as error:
        return "store", url.shown, False, str(error)
    if version is None:
        return "store", url.shown, True, "empty; the daemon makes its tables when it starts"
    if version < VERSION:
        said = f"schema {version}; the daemon migrates it to {VERSION} when it starts"
        return "store", url.shown, True, said
    newer = "" if version == VERSION else f", newer than {VERSION}, which may work on it"
    return "store", url.shown, True, f"schema {version}{newer}"


async def _connection(settings: Settings, name: str) -> Finding:
    from remediator.clients.connections import Connections
    from remediator.errors import ActionError

    kind = settings.connections[name].kind
    connections = Connections({name: settings.connections[name]})
    try:
        said = await asyncio.to_thread(lambda: connections.open(name).identity())
    except ActionError as error:
        return kind, name, False, str(error)
    finally:
        await asyncio.to_thread(connections.close)
    return kind, name, True, said


async def _redis(settings: Settings) -> list[Finding]:
    from remediator.clients.redis import RedisClient
    from remediator.errors import ActionError

    if settings.redis.url is None:
        return []
    client = RedisClient(settings.redis.url)
    try:
        said = await client.version()
    except ActionError as error:
        return [("redis", client.shown, False, str(error))]
    finally:
        await client.close()
    return [("redis", client.shown, True, f"Redis {said}; nothing was written")]


def _known(wanted: Collection[str], settings: Settings) -> None:
    from remediator.errors import ConfigurationError
    from remediator.settings.values import suggest

    for name in sorted(set(wanted) - set(settings.notifiers)):
        there = suggest(name, list(settings.notifiers)) if settings.notifiers else "the settings have none"
        raise ConfigurationError(f"--send: no notifier is named {name!r}; {there}")


async def _notifier(settings: Settings, name: str, send: bool) -> Finding:
    from remediator.errors import NotificationError
    from remediator.notify.apprise import AppriseNotifier

    notifier = AppriseNotifier(name, settings.notifiers[name].url.get_secret_value())
    try:
        await asyncio.to_thread(notifier.check)
        if send:
            await notifier.send(_test(name, public=name in settings.audiences.customers))
    except NotificationError as error:
        return "notifier", name, False, str(error)
    return "notifier", name, True, f"its address is understood; {'a test' if send else 'nothing'} was sent"


def _test(name: str, public: bool) -> Message:
    """A message that nobody takes for an incident."""
    from remediator.model import Message, Severity

    return Message(
        chain="",
        severity=Severity.P4,
        subject="Test message",
        body="This is a test. Nothing has happened, and nothing is to be done.",
        notifiers=(name,),
        public=public,
    )


def _policies(call: Invocation) -> Finding:
    from remediator.errors import ConfigurationError
    from remediator.policy.load import read_dir
    from remediator.policy.set import compile_set
    from remediator.wiring import vocabulary

    folder = call.settings.policies.dir
    try:
        found = compile_set(read_dir(folder), vocabulary(call.settings))
    except ConfigurationError as error:
        return "policies", str(folder), False, str(error).splitlines()[0]
    return "policies", str(folder), True, f"{len(found.policies)} policies"
