"""Who asks, behind proxies: only what a proxy of ours has seen counts."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from remediator.web.address import client
from remediator.web.attempts import MOST
from tests.web.asking import asking
from tests.web.test_approval_page import Person

OURS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, 10.0.0.9"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7", "10.0.0.9, 10.0.0.8"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # the left one anybody may write
        ("10.0.0.1", ["203.0.113.7:5123"], "203.0.113.7"),
        ("10.0.0.1", ["[2001:db8::7]:5123"], "2001:db8::7"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.9"], "10.0.0.9"),  # all are ours: the farthest
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7, unknown"], "10.0.0.1"),  # ours write no such thing
        ("10.0.0.1", ["", "203.0.113.7, "], "10.0.0.1"),
        ("10.0.0.1", ["'; DROP TABLE run\n"], "10.0.0.1"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # a peer that is not ours says what it likes
        ("unknown", ["198.51.100.1"], "unknown"),
    ],
)
def test_the_nearest_that_is_no_proxy_of_ours(peer: str, forwarded: Sequence[str], found: str) -> None:
    assert client(peer, forwarded, OURS) == found


def test_without_trusted_proxies_nothing_that_is_said_counts() -> None:
    assert client("10.0.0.1", ["203.0.113.7"], []) == "10.0.0.1"


def test_a_long_list_is_not_followed_for_ever() -> None:
    assert client("10.0.0.1", ["203.0.113.7" + ", 10.0.0.2" * 5_000], OURS) == "10.0.0.2"


def failing(person: Person, count: int, address: str) -> list[int]:
    """The answers to logins with a wrong token, as if from this address."""
    said = {**person.here, "X-Forwarded-For": address}
    return [person.post(said, what="login", token="wrong").status_code for _ in range(count)]


def test_failed_logins_are_counted_by_whoever_is_behind_the_proxy(tmp_path: Path) -> None:
    with asking(tmp_path, server="trusted_proxies: [127.0.0.0/8]") as house:
        person = Person(house, house.path(house.ask()))
        assert failing(person, MOST + 1, "203.0.113.7") == [401] * MOST + [429]
        assert failing(person, 1, "203.0.113.8") == [401]
        # What the attacker writes himself stands left of what the proxy has seen.
        assert failing(person, 1, "198.51.100.1, 203.0.113.7") == [429]


def test_a_header_without_a_trusted_proxy_changes_nothing(tmp_path: Path) -> None:
    with asking(tmp_path) as house:
        person = Person(house, house.path(house.ask()))
        assert failing(person, MOST, "203.0.113.7") == [401] * MOST
        assert failing(person, 1, "203.0.113.8") == [429]
