"""The arithmetic of the sealed audit chain. Pure: bytes in, digests out.

Every record has a digest of its stored bytes. A seal is a row over a list of such digests and the
hash of the seal before it, so that nothing sealed can be changed, removed or put in between
without every later hash being wrong. With a key the hashes cannot be made again by whoever can
write to the database; without one, a head that was noted outside (log, metrics) proves the same.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

PLAIN = "sha256"
KEYED = "hmac-sha256"

GENESIS = ""
"""What the first seal names as its predecessor."""

_encoder = msgspec.json.Encoder()
_items = msgspec.json.Decoder(tuple[tuple[str, int, str], ...])

Item = tuple[str, int, str]
"""(source table, id, digest of the stored bytes)"""


def digest(stored: bytes) -> str:
    """SHA-256 of a record's stored bytes, in hex."""
    return hashlib.sha256(stored).hexdigest()


def delivery_digest(columns: tuple[object, ...], body: bytes) -> str:
    """The digest of a delivery: of its columns, as one line of JSON, and its raw body.

    JSON holds no raw line break, so no body can pretend to be a column.
    """
    running = hashlib.sha256(_encoder.encode(columns))
    running.update(b"\n")
    running.update(body)
    return running.hexdigest()


def pack(items: tuple[Item, ...]) -> bytes:
    """The bytes of a seal's items, as they are stored and hashed."""
    return _encoder.encode(items)


def unpack(stored: bytes) -> tuple[Item, ...]:
    """The items of stored bytes.

    Raises:
        msgspec.DecodeError: they are no list of items.
    """
    return _items.decode(stored)


def algorithm(key: bytes | None) -> str:
    """What a chain with this key is hashed by."""
    return PLAIN if key is None else KEYED


def link(
    *,
    number: int,
    first: int,
    count: int,
    at: int,
    upto: int,
    algorithm: str,
    items: bytes,
    previous: str,
    key: bytes | None,
) -> str:
    """The hash of one seal, in hex, over everything that its row says.

    Args:
        number: of the seal, from 1.
        first: number of its first record in the chain, from 1.
        count: of its records.
        at: when it was made, in milliseconds.
        upto: the id up to which all records are sealed.
        algorithm: PLAIN or KEYED.
        items: the packed items.
        previous: the hash of the seal before, GENESIS for the first.
        key: for KEYED.

    Raises:
        ValueError: KEYED without a key, or an unknown algorithm.
    """
    header = f"{algorithm}\n{number}\n{first}\n{count}\n{at}\n{upto}\n{previous}\n".encode()
    if algorithm == PLAIN:
        return hashlib.sha256(header + items).hexdigest()
    if algorithm == KEYED and key is not None:
        return hmac.new(key, header + items, hashlib.sha256).hexdigest()
    raise ValueError(f"a seal made with {algorithm} needs its key")
