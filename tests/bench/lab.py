"""``edif bench lab``: a class opens one tutorial at the same time, each with a kernel of their own.

Runs against the installation that is up.  Every student has a key, a folder and a process of an eDIF kernel, as in the
hub, and runs all cells of the notebook (by default ``02_gender_bias``).  Told are failures, how long jobs waited, how
even the class was served, and when it was done.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _key import new_key
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tutorial_files as files
from edif_backend.dispatch.fairness import jain_index
from edif_backend.jobs import open_jobs
from edif_protocol.installation import Installation
from edif_protocol.wire import State

#: What a cell, or the start of the slowest kernel, may take while twenty others compute.
CELL_S = 1800


class Student(threading.Thread):
    """One user with a kernel; ``took_s`` is from the first cell to the last."""

    def __init__(self, user: str, tutorial: str, start: threading.Barrier) -> None:
        super().__init__(name=user)
        self.user, self.key, self.took_s, self.error = user, new_key(user), 0.0, ""
        self._tutorial, self._start = tutorial, start

    def run(self) -> None:
        """Wait for the class, then run the tutorial."""
        environment = {**os.environ, "NDIF_API_KEY": self.key}
        try:
            with tempfile.TemporaryDirectory() as folder, files.tutor(environment, Path(folder), CELL_S) as tutor:
                self._start.wait(timeout=CELL_S)
                began = time.monotonic()
                tutor.run(files.assembled(self._tutorial))
                self.took_s = time.monotonic() - began
        except Exception as error:  # noqa: BLE001 - whatever happened to one student is a figure of this benchmark
            self.error = f"{type(error).__name__}: {str(error)[-600:]}"
            self._start.abort()  # who still waits for the class would wait for one that never comes


def waits(installation: Installation, users: set[str], since: float) -> tuple[dict[str, list[float]], Counter[str]]:
    """Seconds from arrival to start of every job that these users have sent, and how many ended in which way."""
    waited: dict[str, list[float]] = {user: [] for user in users}
    ended: Counter[str] = Counter()
    jobs = open_jobs(installation.jobs_database)
    try:
        for user in users:
            for job in jobs.newest(user, limit=100_000):
                if job.created_at < since:
                    break
                ended[job.state] += 1
                at = {event.kind: event.at for event in reversed(jobs.events_of(job.id))}  # the first of each kind
                if State.RUNNING in at:
                    waited[user].append(at[State.RUNNING] - at[State.RECEIVED])
    finally:
        jobs.close()
    return waited, ended


def figures(users: int, tutorial: str) -> dict[str, Any]:
    """Run the class."""
    start = threading.Barrier(users)
    since = time.time()
    # names that are new: whoever has used the devices before, as in an earlier run, waits longer than the others
    students = [Student(f"lab{since:.0f}n{number:02}", tutorial, start) for number in range(users)]
    for student in students:
        student.start()
    for student in students:
        student.join()
    waited, ended = waits(Installation(), {student.user for student in students}, since)
    every = sorted(wait for one in waited.values() for wait in one)
    if not every:
        sys.exit("No student has run a job: " + "; ".join(student.error for student in students)[:2000])
    took = sorted(student.took_s for student in students if not student.error)
    failed = [f"{student.user}: {student.error}" for student in students if student.error]
    return {
        "tutorial": tutorial,
        "users": users,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[1], 1),
        "failures": len(failed),
        "errors": failed[:5],
        "jobs": sum(ended.values()),
        "jobs_ended": dict(ended),
        "wait_p50_s": round(statistics.median(every), 2),
        "wait_p95_s": round(every[int(0.95 * (len(every) - 1))], 2),
        "wait_max_s": round(every[-1], 2),
        "fairness_of_waits": round(jain_index([statistics.mean(one) for one in waited.values() if one]), 3),
        "first_done_s": round(took[0]) if took else None,
        "median_done_s": round(statistics.median(took)) if took else None,
        "last_done_s": round(took[-1]) if took else None,
        "fairness_of_times": round(jain_index(took), 3) if took else None,
    }


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--tutorial", default="02_gender_bias")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = figures(asked.users, asked.tutorial)
    if asked.json:
        print(json.dumps({"benchmark": "lab", **found}))
    else:
        table = Table("A class at once", "")
        for name, value in found.items():
            table.add_row(name, str(value))
        Console().print(table)
    if found["failures"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
