"""``edif jobs`` and ``edif pids``: what there is, as a table or as JSON.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from edif_backend.cli.acts import note_act
from edif_backend.cli.console import AsJson, duration, mebibytes, say, show_json, show_table
from edif_backend.cli.located import find_installation
from edif_backend.cli.processes import members
from edif_backend.errors import SetupFailed
from edif_backend.jobs import Job, Jobs, open_jobs
from edif_backend.settings import BackendSettings
from edif_protocol.wire import State

app = typer.Typer(help="The jobs of all users.")


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Of this user alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest jobs of all users and their states; `edif jobs cancel ID` ends one."""
    if context.invoked_subcommand:
        return
    with _table() as table:
        found = table.newest(user=user, limit=limit) if table else []
    if as_json:
        show_json([_job_record(job) for job in found])
        return
    rows = [
        (job.id, job.user, job.model, job.state.value, _clock(job.created_at), f"{_age_s(job):.2f} s") for job in found
    ]
    show_table(("Job", "User", "Model", "State", "Created", "Until last change"), rows, "There is no job yet.")


@app.command("cancel")
def cancel(ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids from `edif jobs`.")]) -> None:
    """End jobs of whatever user, at once; their owners read that the operator did it."""
    unknown = []
    with _table() as table:
        for id in ids:
            job = table.cancel(id, "Cancelled by the operator; ask them before you send it again.") if table else None
            if job is None:
                unknown.append(id)
            elif job.state is State.CANCELLED:
                note_act("job.cancel", id, user=job.user)
                say(f"The job {id} of {job.user} is cancelled.")
            else:
                say(f"The job {id} of {job.user} had ended before ({job.state.value}).")
    if unknown:
        raise SetupFailed(f"There is no job {', '.join(unknown)}: `edif jobs` lists those there are.")


@contextmanager
def _table() -> Iterator[Jobs | None]:
    """The jobs table of this installation, or None while there is none."""
    installation = find_installation()
    url = BackendSettings().database_url
    if not url.get_secret_value() and not installation.jobs_database.exists():
        yield None
        return
    table = open_jobs(installation.jobs_database, installation.run_dir / "bells", url=url)
    try:
        yield table
    finally:
        table.close()


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
