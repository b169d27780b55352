"""How often and how much at once each client may ask, counted by address."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

MAX_KNOWN = 20_000
"""Clients whose rate is remembered; the one longest unseen is forgotten first."""


class Rate:
    """A token bucket for each client: `per_minute` requests at once, refilled evenly over a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self.clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: tokens, when they were counted

    def take(self, client: str) -> float:
        """Count one request; 0 if it is allowed, else the seconds until the next one is."""
        now = self.clock()
        tokens, counted = self._buckets.pop(client, (float(self.per_minute), now))
        per_second = self.per_minute / 60
        tokens = min(float(self.per_minute), tokens + (now - counted) * per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_KNOWN:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / per_second


class OpenRequests:
    """The requests that each client has open."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Count one more unless that is too many."""
        if self._open[client] >= self.most:
            return False
        self._open[client] += 1
        return True

    def leave(self, client: str) -> None:
        """One request has ended."""
        self._open[client] -= 1
        if self._open[client] <= 0:
            del self._open[client]


def client_of(peer: str, forwarded_for: Iterable[str], trusted_proxies: int) -> str:
    """The client's address: the connection's own or, behind trusted proxies, the one that the outermost of them saw.

    `forwarded_for`: the X-Forwarded-For header fields in their order. Each proxy appends whom it was asked by, so what
    the client itself wrote stands further left and is not read. An IPv6 client counts as its network of 64 bits.
    """
    chain = [part.strip() for field in forwarded_for for part in field.split(",") if part.strip()]
    address = peer
    if trusted_proxies and chain:
        address = chain[max(0, len(chain) - trusted_proxies)]
    try:
        parsed = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return peer
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
