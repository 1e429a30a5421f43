"""What the page shows: read from the jobs table and the catalogue, for one user; nobody else's jobs are in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edif_backend.gateway.identity import User
from edif_backend.gateway.own_jobs import record
from edif_backend.gateway.parts import Parts
from edif_backend.jobs import Job, Jobs
from edif_protocol.wire import LOG
from edif_protocol.wording import size, span

_JOBS = 20
#: Events shown of one job; its output has 2,000 lines at most.
_EVENTS = 4000


async def page_content(parts: Parts, user: User, before: str | None) -> dict[str, Any]:
    """Jobs (those before the job ``before``), models with their queue, usage, and whether anything runs at all."""
    parts.catalogue.refresh()
    return {**await parts.ask(_read_page, parts, user, before), "silent": await parts.nobody_works()}


def _read_page(jobs: Jobs, parts: Parts, user: User, before: str | None) -> dict[str, Any]:
    found = jobs.newest(user.name, _JOBS + 1, before)
    return {
        "jobs": [record(job, jobs.now()) for job in found[:_JOBS]],
        "older": found[_JOBS - 1].id if len(found) > _JOBS else None,
        "newest": before is None,
        "models": _models(jobs, parts, user),
        "usage": _usage(jobs, parts, user),
    }


def unaged(content: dict[str, Any]) -> str:
    """The content without what only grows older: another one means that something has happened."""
    jobs = [{name: value for name, value in job.items() if not name.endswith("_s")} for job in content["jobs"]]
    return repr({**content, "jobs": jobs})


async def job_content(parts: Parts, job: Job) -> dict[str, Any]:
    """One job, its lines of output and its changes."""
    events = await parts.ask(Jobs.events_of, job.id, 0, _EVENTS)
    changes = [event for event in events if event.kind != LOG]
    return {
        "job": record(job, parts.ask.now()),
        "lines": [event.description for event in events if event.kind == LOG],
        "changes": [(event.kind, event.description, event.at - job.created_at) for event in changes],
        "keep_days": round(parts.settings.result_keep_s / 86400, 1),
    }


def _models(jobs: Jobs, parts: Parts, user: User) -> list[dict[str, Any]]:
    known, waiting = jobs.deployments(), jobs.waiting()
    return [
        {
            "id": entry.id,
            "title": entry.title,
            "dtype": entry.dtype,
            "state": known[entry.id].state if entry.id in known else "NOT_STARTED",
            "description": known[entry.id].description if entry.id in known else "",
            "waiting": sum(waiting.get(entry.id, {}).values()),
            "yours": waiting.get(entry.id, {}).get(user.name, 0),
        }
        for entry in parts.catalogue.entries
    ]


def _usage(jobs: Jobs, parts: Parts, user: User) -> list[tuple[str, str, str]]:
    """What there is, how much of it is in use, and the limit."""
    limits, use = parts.policy.limits(user.name, user.groups), jobs.use(user.name)
    kept = jobs.kept.bytes_of_users().get(user.name, 0)
    rows: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("Jobs that wait", use.queued_jobs, limits.queued_jobs, _count),
        ("Jobs that run", use.running_jobs, limits.running_jobs, _count),
        ("Their payloads", use.payload_bytes, limits.payload_bytes, size),
        ("Results and kept values", use.stored_bytes + kept, limits.stored_bytes, size),
        ("Time of your jobs today (UTC)", use.device_seconds_today, limits.device_seconds_per_day, span),
    ]
    told = [(what, show(used), show(most) if most else "any") for what, used, most, show in rows]
    return [*told, ("Time of one job", "", span(limits.time_limit_s))]


def _count(number: float) -> str:
    return f"{number:g}"
