"""Signed links: whoever holds one may fetch that one object until it ends; nobody can make or change one.

The stock client of nnsight fetches a result with a plain GET and no key, so the link itself is the permission.  Made
and checked by the gateway.
"""

from __future__ import annotations

import hashlib
import hmac

from edif_backend.clock import Clock


class Links:
    """Makes and checks links with one secret of the installation."""

    def __init__(self, secret: str, lifetime_s: float, clock: Clock) -> None:
        self._secret = secret.encode()
        self._lifetime_s = lifetime_s
        self._clock = clock

    def sign(self, name: str) -> str:
        """``name?ends=…&signature=…`` for an object, to be put behind the gateway's ``/objects/``."""
        ends = int(self._clock() + self._lifetime_s)
        return f"{name}?ends={ends}&signature={self._signature(name, ends)}"

    def valid(self, name: str, ends: int, signature: str) -> bool:
        """Whether this link was made here and has not ended."""
        return hmac.compare_digest(signature.encode(), self._signature(name, ends).encode()) and self._clock() < ends

    def _signature(self, name: str, ends: int) -> str:
        return hmac.new(self._secret, f"{name}\n{ends}".encode(), hashlib.sha256).hexdigest()
