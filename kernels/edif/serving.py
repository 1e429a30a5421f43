"""What the backend serves and how it is: ``edif.models()``, ``edif.status()`` and ``edif.usage()``.

Called by users and by ``%edif``; runs in the user's process and asks ``/status``, ``/whoami`` and ``/usage``.
"""

from __future__ import annotations

import dataclasses
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


#: What is used, the limit of it, and how it is called.
_LIMITED = (
    ("queued_jobs", "queued_jobs", "jobs waiting"),
    ("running_jobs", "running_jobs", "jobs running"),
    ("payload_bytes", "payload_bytes", "bytes of payload under way"),
    ("stored_bytes", "stored_bytes", "bytes of results kept"),
    ("device_seconds_today", "device_seconds_per_day", "device-seconds today"),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What you may use, use now, and wait for; printed, it is one line for each limit."""

    user: str
    groups: tuple[str, ...]
    weight: float  #: your share of the devices, relative to other users
    limits: dict[str, float]  #: by name, sizes in bytes; 0 means no limit
    use: dict[str, float]  #: by name, ``device_seconds_today`` since midnight UTC
    day_ends_at: float  #: when the count of device-seconds starts anew, seconds since the epoch
    reservations: list[dict[str, Any]]  #: lab hours of your groups that are not over
    waiting: list[dict[str, Any]]  #: your waiting jobs, oldest first

    def __str__(self) -> str:
        lines = [f"{self.user} ({', '.join(self.groups) or 'no groups'}), weight {self.weight:g}"]
        for used, limit, text in _LIMITED:
            most = self.limits.get(limit, 0)
            lines.append(f"{self.use.get(used, 0):>16,.0f}  {text}" + (f", of {most:,.0f}" if most else ""))
        lines.append(f"{self.limits.get('time_limit_s', 0):>16,.0f}  seconds that one job may run")
        lines += [f"  {job['id']}  {job['description']}" for job in self.waiting]
        return "\n".join(lines)


def usage() -> Usage:
    """Your limits, what you use of them, and your waiting jobs.

    Raises:
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
        BackendRefused: the key is not accepted.
    """
    answer = ask("/usage")
    known = {field.name: answer[field.name] for field in dataclasses.fields(Usage)}
    return Usage(**{**known, "groups": tuple(answer["groups"])})


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
