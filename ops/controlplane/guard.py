"""Slows down who guesses keys: per address, in bounded memory. Pure; times are monotonic seconds.

After FREE failures an address is locked out, each time twice as long. A key that was right from that address before
is still looked at, so that a guesser behind the same gateway does not lock its neighbours out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

FREE = 10
FIRST_LOCK_S = 1.0
LONGEST_LOCK_S = 300.0
FORGET_S = 900.0
MAX_ADDRESSES = 10_000
MAX_KNOWN = 64


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    locked_until: float = 0.0
    known: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Guard:
    """Not thread-safe: the event loop's."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def locked_for(self, address: str, key_hash: str, now: float) -> float:
        """Seconds for which this key from this address is not even looked at; 0: look."""
        record = self._records.get(network_of(address))
        if record is None or key_hash in record.known:
            return 0.0
        return max(0.0, record.locked_until - now)

    def failed(self, address: str, now: float) -> None:
        record = self._record(address)
        record.failures = 1 if now - record.last > FORGET_S else record.failures + 1
        record.last = now
        over = record.failures - FREE
        if over >= 0:
            record.locked_until = now + min(LONGEST_LOCK_S, FIRST_LOCK_S * 2.0 ** min(over, 30))

    def succeeded(self, address: str, key_hash: str) -> None:
        record = self._record(address)
        record.known[key_hash] = None
        record.known.move_to_end(key_hash)
        if len(record.known) > MAX_KNOWN:
            record.known.popitem(last=False)

    def _record(self, address: str) -> _Record:
        network = network_of(address)
        record = self._records.setdefault(network, _Record())
        self._records.move_to_end(network)
        if len(self._records) > MAX_ADDRESSES:
            self._records.popitem(last=False)
        return record


def network_of(address: str) -> str:
    """What one customer has: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(IPv6Address(int(ip) >> 64 << 64))
    return str(ip)
