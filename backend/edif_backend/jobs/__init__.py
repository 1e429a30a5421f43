"""Jobs: the one table where gateway and dispatcher meet, its states, its events.

:mod:`~edif_backend.jobs.job` has the words, :mod:`~edif_backend.jobs.table` every change of a job,
:mod:`~edif_backend.jobs.policy` what users may, and :mod:`~edif_backend.jobs.bell` tells the other process at once that
something changed.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from edif_backend.clock import Clock, now
from edif_backend.jobs.bell import Bell, Bells
from edif_backend.jobs.job import Deployment, Event, Job, Note, Reservation, Submission, Use, WaitingJob
from edif_backend.jobs.kept import KeptValue
from edif_backend.jobs.policy import Policy
from edif_backend.jobs.sqlite import SqliteDatabase
from edif_backend.jobs.table import Jobs

__all__ = [
    "Bell",
    "Bells",
    "Deployment",
    "Event",
    "Job",
    "Jobs",
    "KeptValue",
    "Note",
    "Policy",
    "Reservation",
    "Submission",
    "Use",
    "WaitingJob",
    "open_jobs",
]


def open_jobs(
    database: Path,
    bells: Path | None = None,
    clock: Clock = now,
    url: SecretStr | None = None,
    *,
    patient: bool = False,
) -> Jobs:
    """The jobs table, made or upgraded if need be: on the PostgreSQL server ``url``, else in the file ``database``.

    Args:
        bells: folder of the bells to ring when the table is a file.
        patient: once open, wait as long as the database is away: for processes that can only go on with it.

    Raises:
        NotServing: the database cannot be reached.
        SetupFailed: it is not one of ours, or that of a newer eDIF.
    """
    if url and url.get_secret_value():
        # Its driver is loaded where it is used: a process of the embedded installation starts without it.
        from edif_backend.jobs.postgres import PostgresDatabase  # noqa: PLC0415

        return Jobs(PostgresDatabase(url.get_secret_value(), patient=patient), clock)
    return Jobs(SqliteDatabase(database, bells, patient=patient), clock)
