"""What the backend serves and how it is: ``edif.models()`` and ``edif.status()``.

Called by users and by ``%edif``; runs in the user's process and asks the gateway's ``/status`` and ``/whoami``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from edif.errors import BackendRefused, BackendUnreachable
from edif.settings import ClientSettings
from edif.tables import Table

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the backend's catalogue."""

    id: str  #: what ``TransformersModel(id, task=task)`` takes
    task: str
    state: str  #: RUNNING, DEPLOYING, NOT_STARTED or UNHEALTHY
    dtype: str
    title: str
    purpose: str  #: "research", or "test" for models that know nothing


class Models(Table[Model]):
    """The catalogue; shown as a table."""

    COLUMNS = ("id", "state", "dtype", "title")
    EMPTY = "The backend serves no model."

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Id, state, dtype and title of each."""
        return [(model.id, model.state, model.dtype, model.title) for model in self]


@dataclass(frozen=True, slots=True)
class Status:
    """How the backend is, seen from here."""

    host: str
    user: str | None  #: owner of the key, None for a key that the backend does not accept
    waiting: int  #: jobs in the queue, of all users
    models: Models


def models() -> Models:
    """Every model that the backend knows."""
    return _models(ask("/status"))


def status() -> Status:
    """Address, owner of the key, queue and models.

    Raises:
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
    """
    answer = ask("/status")
    return Status(
        host=ClientSettings().host,
        user=ask("/whoami").get("email"),
        waiting=int(answer.get("waiting") or 0),
        models=_models(answer),
    )


def _models(answer: dict[str, Any]) -> Models:
    return Models(
        Model(
            id=str(entry.get("repo_id", name)),
            task=str(entry.get("task") or ""),
            state=str(entry.get("application_state", "UNHEALTHY")),
            dtype=str(entry.get("dtype") or ""),
            title=str(entry.get("title") or ""),
            purpose=str(entry.get("purpose") or "research"),
        )
        for name, entry in answer.get("deployments", {}).items()
    )


def ask(path: str, method: str = "GET") -> dict[str, Any]:
    """The JSON that the gateway answers at ``path``, asked with this process's key.

    Raises:
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
        BackendRefused: it answered no.
    """
    settings = ClientSettings()
    try:
        answer = httpx.request(
            method,
            f"{settings.host}{path}",
            headers={"ndif-api-key": settings.key.get_secret_value()},
            timeout=_TIMEOUT_S,
        )
    except httpx.HTTPError as error:
        raise BackendUnreachable(settings.host) from error
    if answer.is_error:
        raise BackendRefused(refusal_sentence(answer))
    found: dict[str, Any] = answer.json()
    return found


def refusal_sentence(answer: httpx.Response) -> str:
    """The gateway's own sentence (``detail``), or the status line when something else answered."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("detail"), str):
        return str(body["detail"])
    return f"The eDIF backend answered {answer.status_code} {answer.reason_phrase}."
