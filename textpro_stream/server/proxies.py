"""Who asks, where a reverse proxy stands between: the person's address, not the proxy's.

Anybody may write a header, so only what a proxy of ours added is believed. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from textpro_stream.errors import ConfigError

if TYPE_CHECKING:
    from websockets.datastructures import Headers

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A request with one of these has passed a proxy, or pretends to have.
HEADERS = (
    "X-Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Via",
)
_FOR = re.compile(r"for=\"?([^\";,\s]+)", re.IGNORECASE)


class Proxies:
    """The proxies that stand before us.

    Args:
        trusted: addresses or networks, as people write them.

    Raises:
        ConfigError: one of them is neither.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted: list[Network] = []
        for text in trusted:
            try:
                self._trusted.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise ConfigError(
                    f"--proxy {text}: give addresses or networks, e.g. 127.0.0.1 or 10.0.0.0/8",
                    proxy=text,
                ) from None

    def __bool__(self) -> bool:
        """There are some."""
        return bool(self._trusted)

    def person(self, peer: str, headers: Headers) -> str:
        """The address of who asks.

        Args:
            peer: at the other end of the connection.
            headers: of the request.
        """
        found = peer
        hops = _hops(headers)
        # From the nearest on: each hop was written down by the one before it in this order.
        while self._trusts(found) and hops:
            found = hops.pop() or "unknown"
        return found

    def _trusts(self, address: str) -> bool:
        known = _address(address)
        return known is not None and any(known in network for network in self._trusted)


def came_through_one(headers: Headers) -> bool:
    """A proxy passed this on."""
    return any(name in headers for name in HEADERS)


def _hops(headers: Headers) -> list[str]:
    """Addresses that proxies wrote down, the nearest last."""
    listed = [hop for value in headers.get_all("X-Forwarded-For") for hop in value.split(",")]
    if not listed:
        listed = [hop for value in headers.get_all("Forwarded") for hop in _FOR.findall(value)]
    if not listed:
        listed = headers.get_all("X-Real-IP")
    return [str(_address(hop) or hop.strip()[:64]) for hop in listed]


def _address(text: str) -> Address | None:
    """An address, with or without a port and brackets."""
    text = text.strip()
    bare = re.fullmatch(r"\[([^\]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+", text)
    if bare:
        text = bare[1] or bare[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
