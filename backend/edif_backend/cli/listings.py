"""``edif jobs`` and ``edif pids``: what there is, as a table or as JSON.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.
"""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from edif_backend.cli.console import AsJson, duration, mebibytes, show_json, show_table
from edif_backend.cli.located import find_installation
from edif_backend.cli.processes import members
from edif_backend.jobs import Job, open_jobs
from edif_backend.settings import BackendSettings


def jobs(
    user: Annotated[str | None, typer.Option(help="Of this user alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest jobs and their states."""
    installation = find_installation()
    url = BackendSettings().database_url
    if url.get_secret_value() or installation.jobs_database.exists():
        table = open_jobs(installation.jobs_database, url=url)
        try:
            found = table.newest(user=user, limit=limit)
        finally:
            table.close()
    else:
        found = []
    if as_json:
        show_json([_job_record(job) for job in found])
        return
    rows = [
        (job.id, job.user, job.model, job.state.value, _clock(job.created_at), f"{_age_s(job):.2f} s") for job in found
    ]
    show_table(("Job", "User", "Model", "State", "Created", "Until last change"), rows, "There is no job yet.")


def _job_record(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "user": job.user,
        "model": job.model,
        "state": job.state.value,
        "description": job.description,
        "created_at": datetime.fromtimestamp(job.created_at, UTC).isoformat(),
        "changed_at": datetime.fromtimestamp(job.changed_at, UTC).isoformat(),
        "payload_bytes": job.payload_bytes,
        "result_bytes": job.result_bytes,
    }


def _age_s(job: Job) -> float:
    """Seconds from the job's arrival to its last change; for a finished job, all that it took."""
    return job.changed_at - job.created_at


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def pids(as_json: AsJson = False) -> None:
    """Role and pid of every process of this installation."""
    members_found = members(find_installation())
    if as_json:
        show_json([dataclasses.asdict(member) for member in members_found])
        return
    now = time.time()
    rows = [
        (found.role, found.pid, duration(now - found.started_at), mebibytes(found.memory_bytes), found.command[:80])
        for found in members_found
    ]
    show_table(("Role", "Pid", "Age", "Memory", "Command"), rows, "Nothing of this workbench is running.")
