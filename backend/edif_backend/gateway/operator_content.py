"""What the operator's page shows: read from the jobs table, the catalogue and the audit log, of all users."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from edif_backend.gateway.own_jobs import record
from edif_backend.gateway.parts import Parts
from edif_backend.jobs import Jobs
from edif_backend.settings import Limits
from edif_protocol.audit_log import AuditLog

_JOBS, _ACTS, _USERS = 30, 30, 20


async def operator_content(parts: Parts, user: str, act: str) -> dict[str, Any]:
    """Jobs of all (or of ``user``), models, who used most today, limits, reservations, the newest acts."""
    parts.catalogue.refresh()
    log = AuditLog(parts.installation.audit_dir)
    return {
        **await parts.ask(_read, parts, user),
        "acts": await asyncio.to_thread(log.newest, _ACTS, user, act),
        "user": user,
        "act": act,
        "silent": await parts.nobody_works(),
        "problems": [said for said in (parts.catalogue.problem, parts.policy.problem) if said],
    }


def _read(jobs: Jobs, parts: Parts, user: str) -> dict[str, Any]:
    now = jobs.now()
    known, waiting, running = jobs.deployments(), jobs.waiting(), jobs.claimed()
    said = parts.policy.said()
    charged = sorted(jobs.charged_today().items(), key=lambda item: -item[1])[:_USERS]
    return {
        "jobs": [{**record(job, now), "user": job.user} for job in jobs.newest(user or None, _JOBS)],
        "models": [
            {
                "id": entry.id,
                "dtype": entry.dtype,
                "pinned": entry.pinned,
                "state": known[entry.id].state if entry.id in known else "NOT_STARTED",
                "description": known[entry.id].description if entry.id in known else "",
                "waiting": sum(waiting.get(entry.id, {}).values()),
                "users": len(waiting.get(entry.id, {})),
                "running": running.get(entry.id, 0),
            }
            for entry in parts.catalogue.entries
        ],
        "use": [{"user": name, "seconds": seconds} for name, seconds in charged],
        "subjects": list(said),
        "limits": [(name, [_shown(said[subject].get(name)) for subject in said]) for name in Limits.model_fields],
        "set": sorted(jobs.limits_set()),
        "reservations": [
            {
                "id": one.id,
                "group": one.group,
                "weight": one.weight,
                "starts": _clock(one.starts_at),
                "ends": _clock(one.ends_at),
            }
            for one in jobs.reservations(now)
        ],
    }


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,.12g}"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
