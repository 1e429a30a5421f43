"""Who holds this key?  The hub knows; its answers are believed for a short while.

Called by every route that needs a user.  One question per key is under way at a time; when the hub is down, keys that
it said yes to keep working for a bounded time, and keys it said no to never do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx
import structlog

from edif_backend.clock import Clock
from edif_backend.errors import KeyRefused, NotServing
from edif_protocol.wire import TRACE_SCOPE

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class User:
    """The owner of a key, as the hub tells it."""

    name: str
    groups: frozenset[str] = field(default_factory=frozenset)
    admin: bool = False
    shown: str = ""  #: the name that pages show; the hub knows it from a university login


@dataclass(slots=True)
class _Answer:
    user: User | None
    at: float


class Identity:
    """Asks the hub and remembers its answers.

    Args:
        hub_url: address of the hub, without ``/hub``.
        answer_s: how long a yes is believed.
        refusal_s: how long a no is believed.
        outage_s: how long a yes stays good while the hub does not answer.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        hub_url: str,
        *,
        answer_s: float,
        refusal_s: float,
        outage_s: float,
        mend: str,
        clock: Clock,
    ) -> None:
        self._client = client
        self._url = f"{hub_url}/hub/api/user"
        self._answer_s = answer_s
        self._refusal_s = refusal_s
        self._outage_s = outage_s
        self._mend = mend
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[_Answer]] = {}

    async def user(self, key: str | None) -> User:
        """The user who holds ``key``.

        Raises:
            KeyRefused: no key, or not one that may trace.
            NotServing: the hub does not answer and the key is not known from before.
        """
        if not key:
            raise KeyRefused(f"The request carries no API key. {self._mend}")
        if not 8 <= len(key) <= 64 or not key.isascii() or not key.isprintable():
            raise KeyRefused(f"That is not an API key of this installation. {self._mend}")
        answer = self._answers.get(key)
        if answer is None or not self._fresh(answer):
            task = self._asking.get(key)
            if task is None:
                task = asyncio.create_task(self._ask(key, answer))
                self._asking[key] = task
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            answer = await asyncio.shield(task)
        if answer.user is None:
            raise KeyRefused(f"The API key is wrong, has ended or was revoked. {self._mend}")
        return answer.user

    def _fresh(self, answer: _Answer) -> bool:
        limit_s = self._refusal_s if answer.user is None else self._answer_s
        return self._clock() - answer.at < limit_s

    async def _ask(self, key: str, before: _Answer | None) -> _Answer:
        try:
            response = await self._client.get(self._url, headers={"Authorization": f"token {key}"})
            if response.status_code >= 500:
                response.raise_for_status()
        except httpx.HTTPError as error:
            log.warning("hub does not answer", error=type(error).__name__)
            if before and before.user and self._clock() - before.at < self._outage_s:
                return before  # not renewed: the bound counts from the hub's last word
            raise NotServing("The hub that knows the API keys does not answer; try again in a minute.") from error
        answer = _Answer(_holder(response), self._clock())
        if len(self._answers) > 10_000:  # wrong keys must not fill the memory
            self._answers = {known: old for known, old in self._answers.items() if self._fresh(old)}
        self._answers[key] = answer
        return answer


def _holder(response: httpx.Response) -> User | None:
    if response.status_code != 200:
        return None
    body = response.json()
    if TRACE_SCOPE not in body.get("scopes", ()) or not body.get("name"):
        return None
    name, told = str(body["name"]), body.get("user_info") or {}
    shown = str(told.get("display_name") or name)
    return User(name, frozenset(body.get("groups") or ()), bool(body.get("admin")), shown)
