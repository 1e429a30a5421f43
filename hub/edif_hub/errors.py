"""What the hub refuses, and the sentence for whoever is refused.

::

    HubError
    ├── LoginRefused          the installation must not offer this login; said at the hub's start
    ├── ProviderSilent        the login service does not answer: nothing is known, so nothing is taken away
    └── LoginFailed           a login came to nothing
        ├── LoginStale        it was not begun in this browser, or too long ago, or was used before
        ├── TokenRefused      what the login service sent cannot be what it says it is
        ├── NotAdmitted       a rule of this installation keeps this person out
        └── TooManyAttempts   wait, then try again

Raised in the hub's process; the sentence is shown to people as it is, with the page's status.
"""

from __future__ import annotations


class HubError(Exception):
    """Base of all; ``str(error)`` says what happened and what to do."""

    http_status = 500
    title = "Something is wrong here"


class LoginRefused(HubError):
    """This login must not be offered on this installation as it is set up."""


class ProviderSilent(HubError):
    """The login service does not answer, or answers with a fault of its own."""

    http_status = 503
    title = "The login service does not answer"


class LoginFailed(HubError):
    """A login came to nothing."""

    http_status = 400
    title = "The login did not work"


class LoginStale(LoginFailed):
    """The answer of a login that this browser did not begin, or not lately, or that was answered before."""

    title = "This login is out of date"


class TokenRefused(LoginFailed):
    """Signature, issuer, audience, nonce or time of a token is wrong."""

    http_status = 403
    title = "The login service's answer was refused"


class NotAdmitted(LoginFailed):
    """The login worked, and a rule of this installation keeps the person out."""

    http_status = 403
    title = "You cannot use this workbench"


class TooManyAttempts(LoginFailed):
    """Too many logins from one place, or for one name.

    Args:
        sentence: what the person reads.
        wait_s: how long until another is looked at.
    """

    http_status = 429
    title = "Too many logins"

    def __init__(self, sentence: str, wait_s: int) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s
