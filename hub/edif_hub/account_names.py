"""The account of a person: a keyed hash of the provider and its name for them, so two universities never share one.

Called at a login (:mod:`edif_hub.university`); runs in the hub's process. Names that people choose or that are handed
on to the next person, such as ``anna.schmidt``, play no part. The hash is keyed, so that somebody who sees an account
name cannot try out whose it is. The key is ``secrets/account-names``: with another key everybody would get a new,
empty account, so it belongs into every backup.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

_CHARACTERS = 20  # of 5 bits each
_NAME = re.compile(rf"u[a-z2-7]{{{_CHARACTERS}}}\Z")


def account_name(key: bytes, issuer: str, subject: str) -> str:
    """A name such as ``u3kq…``, 21 letters and digits, the same at every login."""
    told = b"".join(len(part).to_bytes(4, "big") + part for part in (issuer.encode(), subject.encode()))
    digest = hmac.new(key, told, hashlib.sha256).digest()
    return "u" + base64.b32encode(digest).decode().lower()[:_CHARACTERS]


def is_account_of_person(name: str) -> bool:
    """Whether ``name`` is one of these, and not that of a room or a service."""
    return _NAME.match(name) is not None
