"""The ticket in ``HF_ENDPOINT``: which groups its holder is in, signed by the installation.

A client of the Hugging Face Hub sends the mirror no key: ``HF_TOKEN`` would do, and would send the same key to
huggingface.co as soon as ``HF_ENDPOINT`` is unset.  So what proves the groups stands in the mirror's own address, opens
nothing but configs and tokenizers there, and ends by itself.  Made by the hub for kernels and for its page of keys, and
by ``edif env``; read by the gateway's model mirror.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable

from edif_protocol.installation import MIRROR_PATH, Installation

#: What the first step of the path begins with; no name on the Hub can.
MARK = "~"

_SIGNING_KEY = "mirror-key"  #: name of the installation's secret


def endpoint(installation: Installation, groups: Iterable[str], ends_at: float, gateway: str = "") -> str:
    """``HF_ENDPOINT`` for a member of ``groups``, good until ``ends_at`` (in seconds since 1970).

    Whoever is in no group has nothing to prove and gets the plain address.

    Args:
        gateway: its address, where that is not the one on this machine.
    """
    mirror = f"{gateway}{MIRROR_PATH}" if gateway else installation.mirror_url
    named = sorted(groups)
    if not named:
        return mirror
    said = base64.urlsafe_b64encode(json.dumps([int(ends_at), named], separators=(",", ":")).encode()).decode()
    said = said.rstrip("=")
    return f"{mirror}/{MARK}{said}.{_signature(installation, said)}"


def groups_of(installation: Installation, ticket: str, now: float) -> frozenset[str]:
    """The groups that a ticket, without its :data:`MARK`, proves; none where it is not ours or has ended."""
    said, _, signature = ticket.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(installation, said).encode()):
        return frozenset()
    try:
        ends_at, groups = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    except (binascii.Error, ValueError):  # signed by another version
        return frozenset()
    return frozenset(groups) if now < ends_at else frozenset()


def _signature(installation: Installation, said: str) -> str:
    # Half of it is far out of reach of guessing, and the address stays short.
    return hmac.new(installation.secret(_SIGNING_KEY).encode(), said.encode(), hashlib.sha256).hexdigest()[:32]
