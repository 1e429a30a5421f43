"""Jobs: the one table where gateway and dispatcher meet, its states, its events.

:mod:`~edif_backend.jobs.job` has the words, :mod:`~edif_backend.jobs.table` every change of a job,
:mod:`~edif_backend.jobs.policy` what users may, and :mod:`~edif_backend.jobs.bell` tells the other process at once that
something changed.
"""

from __future__ import annotations

from edif_backend.jobs.bell import Bell, Bells
from edif_backend.jobs.job import Deployment, Event, Job, Note, Reservation, Submission, Use, WaitingJob
from edif_backend.jobs.kept import KeptValue
from edif_backend.jobs.policy import Policy
from edif_backend.jobs.table import Jobs, open_jobs

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
