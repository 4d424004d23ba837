"""How often an address may ask: a table of fixed size, however many addresses there are."""

import ipaddress
import time
from collections import OrderedDict

_MOST_ADDRESSES = 1024
"""Who asked least recently is forgotten when there are more."""


class Allowance:
    """So many requests a minute for each address, as many at once after a quiet minute. For one thread."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What each address had left, and when that was."""

    def spend(self, address: str, cost: float = 1.0) -> bool:
        """Whether the address may ask once more; who may not is not charged for it."""
        left = self._balance(address)
        if left < cost:
            return False
        self._keep(address, left - cost)
        return True

    def fine(self, address: str, share: float) -> None:
        """Take a share of a minute's requests from an address, or what is left of them."""
        self._keep(address, max(0.0, self._balance(address) - share * self._most))

    def _balance(self, address: str) -> float:
        left, since = self._left.get(_household(address), (self._most, 0.0))
        return min(self._most, left + (time.monotonic() - since) * self._most / 60)

    def _keep(self, address: str, left: float) -> None:
        household = _household(address)
        self._left[household] = left, time.monotonic()
        self._left.move_to_end(household)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)


def _household(address: str) -> str:
    """What counts as one address: of IPv6 the network, because its owner has as many addresses in it as he likes."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
