"""`store migrate`, `store copy` and `store reopen`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, group, verb

if TYPE_CHECKING:
    from remediator.settings.values import Address

app = group()


@verb(app, "migrate")
async def migrate(
    call: Invocation,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: 0 it is current, 1 it is to be migrated.")
    ] = False,
) -> int:
    """Bring the database to this version's schema. The daemon does so itself when it starts."""
    from remediator import wiring
    from remediator.store import VERSION
    from remediator.store.sides import schema_version

    url = call.settings.store.url
    before = await asyncio.to_thread(schema_version, url)
    value = {"store": url.shown, "from": before, "to": VERSION, "version": VERSION}
    if check:
        current = before is not None and before >= VERSION
        said = "is current" if current else f"is to be migrated to {VERSION}"
        if before is not None and before > VERSION:
            said = f"is newer than {VERSION}, which may work on it"
        call.print(value, f"{url.shown}: version {before or '(no tables)'} {said}")
        return FINE if current else NO
    store = wiring.store(call.settings)
    await store.open()
    await store.close()
    if before is not None and before >= VERSION:
        call.print(value, f"{url.shown} is at version {before} already")
    else:
        call.print(value, f"{url.shown}: version {before or '(no tables)'} → {VERSION}")
    return FINE


@verb(app, "copy")
async def copy(
    call: Invocation,
    to: Annotated[
        str,
        typer.Option(
            help="An empty store: postgresql://user@host:port/database, or sqlite:///path. "
            "A password is better in PGPASSWORD or ~/.pgpass than on the command line."
        ),
    ],
) -> None:
    """Copy the whole store to another database, prove the copy, and leave this one unused.

    No daemon may use either. It is all or nothing, and ends with what to change in the settings.
    """
    from remediator.errors import ConfigurationError
    from remediator.store.sides import blaming, side
    from remediator.store.transfer import transfer

    settings = call.settings
    url, target_url = settings.store.url, _destination(to)
    if target_url == url:
        raise ConfigurationError("--to is the store of the settings: name another one")
    with blaming("--to"):
        target = side(target_url)
    source = side(url)
    key = settings.audit.key
    progress = terminal.Progress()

    def work() -> tuple[dict[str, int], str, int, int]:
        try:
            done = transfer(
                source,
                target,
                key.get_secret_value().encode() if key is not None else None,
                names=(url.shown, target_url.shown),
                actor="cli",
                told=progress.tell,
                named_by="--to",
            )
        finally:
            progress.end()
            source.close()
            target.close()
        return dict(done.counts), done.head, done.sealed, done.unsealed

    counts, head, sealed, unsealed = await asyncio.to_thread(work)
    value = {
        "from": url.shown,
        "to": target_url.shown,
        "rows": counts,
        "audit": {"head": head, "sealed": sealed, "unsealed": unsealed, "whole": True},
    }
    lines = [
        terminal.table(("TABLE", "ROWS"), list(counts.items())),
        "",
        "Every row was read back and is the same. The audit log is whole there and ends with the same head:",
        f"  {head or '(nothing is sealed yet)'}",
        "",
        "Now change the settings, then start the daemon:",
        f'  store: {{url: "{target_url.shown}"}}',
        f"{url.shown} is kept as it is, and marked: no daemon starts on it any more.",
    ]
    call.print(value, "\n".join(lines))


@verb(app, "reopen")
async def reopen(
    call: Invocation,
    comment: Annotated[str, typer.Option(help="Why; it goes into the audit log.")],
) -> int:
    """Take a store back into use that was copied elsewhere. Only if that copy was never used."""
    from remediator.errors import ConfigurationError
    from remediator.store import moved
    from remediator.store.sides import side

    if not comment.strip():
        raise ConfigurationError("--comment is empty: say why, it stays in the audit log")
    url = call.settings.store.url

    def work() -> str:
        held = side(url)
        try:
            held.hold()
            to = moved.reopen(held.tx, comment, "cli")
            held.commit()
        finally:
            held.close()
        return to

    to = await asyncio.to_thread(work)
    said = f"it is in use again; it had been copied to {to}" if to else "it was in use; nothing is changed"
    call.print({"store": url.shown, "copied_to": to or None}, f"{url.shown}: {said}")
    return FINE if to else NO


def _destination(to: str) -> Address:
    """An address as `store.url` takes it."""
    from pydantic import ValidationError

    from remediator.errors import ConfigurationError
    from remediator.settings.sections import StoreSettings

    try:
        return StoreSettings.model_validate({"url": to}).url
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"--to: {why}") from None
