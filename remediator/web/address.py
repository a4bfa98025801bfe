"""Whose request it is: the peer's address, or the one that proxies of ours have seen. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Network = IPv4Network | IPv6Network
_HOPS = 20
"""Proxies one behind the other that are followed at most."""


def client(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The nearest address that is not a proxy of ours.

    Each proxy appends the address it was called from to `X-Forwarded-For`; what stands left of the first
    address that is not ours, anybody may have written.

    Args:
        peer: who has opened the connection.
        forwarded: the values of all `X-Forwarded-For` headers, in order.
        trusted: the networks of our proxies; where the peer is in none, nothing that it says counts.
    """
    nearest = _address(peer)
    if nearest is None:
        return peer
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    for hop in reversed(hops[-_HOPS:]):
        if not _within(nearest, trusted):
            break
        before = _address(hop)
        if before is None:  # not one that a proxy of ours writes
            break
        nearest = before
    return str(nearest)


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port, IPv4 within IPv6 as IPv4."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
