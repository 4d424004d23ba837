"""Rate limits by client address, in a table of fixed size."""

import ipaddress
import time
from collections import OrderedDict

_MAX_ADDRESSES = 1024
"""Most addresses remembered; the least recently used is forgotten."""


class Allowance:
    """Limits each address to a number of requests per minute, all of which may come at once. Not thread-safe."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Balance of each address, and its time."""

    def spend(self, address: str, cost: float = 1.0) -> bool:
        """Charge an address; return False, without charging, if its balance is too low."""
        left = self._balance(address)
        if left < cost:
            return False
        self._keep(address, left - cost)
        return True

    def penalise(self, address: str, share: float) -> None:
        """Charge an address a share of a minute's requests, or its remaining balance."""
        self._keep(address, max(0.0, self._balance(address) - share * self._most))

    def _balance(self, address: str) -> float:
        left, since = self._left.get(_rate_key(address), (self._most, 0.0))
        return min(self._most, left + (time.monotonic() - since) * self._most / 60)

    def _keep(self, address: str, left: float) -> None:
        household = _rate_key(address)
        self._left[household] = left, time.monotonic()
        self._left.move_to_end(household)
        if len(self._left) > _MAX_ADDRESSES:
            self._left.popitem(last=False)


def _rate_key(address: str) -> str:
    """Return the key of an address: for IPv6 its /64 network, because one owner controls all addresses in it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
