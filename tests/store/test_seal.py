"""The arithmetic of the chain: every field of a seal is under its hash."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from remediator.audit import seal

FIELDS: dict[str, Any] = {
    "number": 2,
    "first": 11,
    "count": 1,
    "at": 1_790_000_000_000,
    "upto": 40,
    "algorithm": seal.PLAIN,
    "items": seal.pack((("audit_event", 40, "ab" * 32),)),
    "previous": "cd" * 32,
    "key": None,
}
HEADER = b"sha256\n2\n11\n1\n1790000000000\n40\n" + b"cd" * 32 + b"\n"


def test_a_link_is_the_hash_of_its_row() -> None:
    assert seal.link(**FIELDS) == hashlib.sha256(HEADER + FIELDS["items"]).hexdigest()


def test_with_a_key_it_is_an_hmac() -> None:
    keyed = {**FIELDS, "algorithm": seal.KEYED, "key": b"secret"}
    header = HEADER.replace(b"sha256", b"hmac-sha256", 1)
    wanted = hmac.new(b"secret", header + FIELDS["items"], hashlib.sha256).hexdigest()
    assert seal.link(**keyed) == wanted
    with pytest.raises(ValueError, match="needs its key"):
        seal.link(**{**keyed, "key": None})


@pytest.mark.parametrize("name", ["number", "first", "count", "at", "upto"])
def test_every_number_is_under_the_hash(name: str) -> None:
    assert seal.link(**{**FIELDS, name: FIELDS[name] + 1}) != seal.link(**FIELDS)


def test_items_and_predecessor_are_under_the_hash() -> None:
    assert seal.link(**{**FIELDS, "previous": ""}) != seal.link(**FIELDS)
    assert seal.link(**{**FIELDS, "items": seal.pack(())}) != seal.link(**FIELDS)


def test_items_come_back() -> None:
    items = (("audit_event", 1, "00"), ("alert_event", 2, "ff"))
    assert seal.unpack(seal.pack(items)) == items


def test_a_body_cannot_pretend_to_be_a_column() -> None:
    assert seal.delivery_digest((1, "a"), b"\nb") != seal.delivery_digest((1, "a\n"), b"b")
    assert seal.delivery_digest((1, "a"), b"b") != seal.delivery_digest((1,), b'"a"]\nb')
