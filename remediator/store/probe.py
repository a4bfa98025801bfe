"""A write that means nothing, to learn whether writing is possible. It always replaces the same row."""

from __future__ import annotations

from remediator.store.tx import Tx, insert

_PUT = insert("meta", "key, value") + "\nON CONFLICT (key) DO UPDATE SET value = excluded.value"


def write(tx: Tx, size: int) -> None:
    """Write the time, and so many bytes after it."""
    tx.run(_PUT, {"key": "probe", "value": f"{tx.now}{'.' * size}"})
