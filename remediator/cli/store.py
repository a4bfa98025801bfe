"""`store migrate`."""

from __future__ import annotations

from remediator.cli.invocation import Invocation
from remediator.cli.verb import group, many, verb

app = many(group())


@verb(app, "migrate")
async def migrate(call: Invocation) -> None:
    """Bring the database to this version's schema. The daemon does so itself when it starts."""
    from remediator import wiring
    from remediator.store import VERSION

    store = wiring.store(call.settings)
    await store.open()
    await store.close()
    shown = call.settings.store.url.shown
    call.print({"store": shown, "version": VERSION}, f"{shown} is at version {VERSION}")
