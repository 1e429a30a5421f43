"""The jobs that you have sent: ``edif.jobs()`` lists them, waits for one, cancels one; also after a kernel restart.

Called by users; runs in the user's process and asks the gateway's ``/jobs``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from edif.errors import BackendUnreachable, JobFailed
from edif.serving import ask
from edif.tables import Table
from edif_protocol.wire import FINAL_STATES, LOG, State
from edif_protocol.wording import size, span

#: The gateway holds back its answer so long while there is nothing to tell; less than the patience of `ask`.
_WAIT_S = 5.0
#: How long a wait bears a gateway that is away.
_AWAY_S = 120.0


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it was when it was asked for; :meth:`refresh` asks again."""

    id: str
    model: str
    state: str  #: a word of :class:`edif_protocol.wire.State`
    description: str  #: why it waits, or how it ended
    age_s: float  #: since it was sent
    took_s: float  #: from then to its last change
    payload_bytes: int
    result_bytes: int
    position: int | None  #: how many jobs start before it; None once it runs, or when it does not start for now
    starts_in_s: float | None  #: when it is expected to start

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES

    def refresh(self) -> Job:
        """The job as it is now."""
        return _job(ask(_path(self.id)))

    def cancel(self) -> Job:
        """End the job, if it has not ended; gives it as it is then."""
        return _job(ask(_path(self.id), "DELETE"))

    def result(self, *, show: bool = True) -> dict[str, Any]:
        """Wait for the job's end; gives the saved values by their names in the traced block.

        Args:
            show: print what the job prints (from its beginning), how its state changes, and the download's progress.

        Raises:
            JobFailed: it ended without a result; the message says why.
            edif.results.ResultGone: its result is not kept any more.
            BackendUnreachable: the gateway does not answer.
        """
        end = self._follow(show)
        if end["state"] in (State.ERROR, State.CANCELLED):
            raise JobFailed(str(end["description"]))
        from edif import results  # noqa: PLC0415 (brings torch, which who only lists jobs need not wait for)

        return results.of(self.id, show=show)

    def _follow(self, show: bool) -> dict[str, Any]:
        """Tell what happens until the job has ended; gives its record then."""
        after, live, heard_at = 0, False, time.monotonic()
        while True:
            try:
                answer = ask(f"{_path(self.id)}/events?after={after}&wait_s={_WAIT_S}")
            except BackendUnreachable:
                if time.monotonic() - heard_at > _AWAY_S:
                    raise
                time.sleep(0.5)
                continue
            heard_at = time.monotonic()
            for event in answer["events"]:
                after = event["id"]
                if show and event["kind"] == LOG:
                    print(event["description"])
                elif show and live and event["kind"] not in FINAL_STATES:
                    print(f"[{event['kind']}] {event['description']}")
            live = live or not answer["more"]
            if not answer["events"] and answer["job"]["state"] in FINAL_STATES:
                record: dict[str, Any] = answer["job"]
                return record


class Jobs(Table[Job]):
    """Your jobs, the newest first; shown as a table."""

    COLUMNS = ("", "state", "model", "sent", "took", "result", "id")
    EMPTY = "You have sent no job yet: a trace on a model of edif.models() makes one."

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Number, state, model, age, time, size and id of each."""
        return [
            (
                str(number),
                _state(job),
                job.model,
                f"{span(job.age_s)} ago",
                span(job.took_s) if job.final else "",
                size(job.result_bytes) if job.result_bytes else "",
                job.id,
            )
            for number, job in enumerate(self)
        ]


def jobs(limit: int = 20, *, before: str | None = None) -> Jobs:
    """Your newest jobs, sent from wherever with keys of yours: ``edif.jobs()[0].result()`` takes up the last one again.

    Args:
        limit: at most so many.
        before: id of a job; only those sent before it.

    Raises:
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
        BackendRefused: the key is not accepted, or there is no such job.
    """
    found = Jobs()
    while len(found) < limit:
        query = f"/jobs?limit={min(limit - len(found), 200)}" + (f"&before={quote(before, safe='')}" if before else "")
        answer = ask(query)
        found += map(_job, answer["jobs"])
        before = answer["next"]
        if before is None:
            break
    return found


def job(id: str) -> Job:
    """The job of yours with this id.

    Raises:
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
        BackendRefused: the key is not accepted, or there is no such job of yours.
    """
    return _job(ask(_path(id)))


def _state(job: Job) -> str:
    if job.final or job.position is None:
        return job.state
    place = f" · {job.position} before it" if job.position else " · next"
    return job.state + place + (f", in about {span(job.starts_in_s)}" if job.starts_in_s else "")


def _path(id: str) -> str:
    return f"/jobs/{quote(id, safe='')}"


def _job(record: dict[str, Any]) -> Job:
    """A job out of the gateway's record of it."""
    return Job(
        id=str(record["id"]),
        model=str(record["model"]),
        state=str(record["state"]),
        description=str(record["description"]),
        age_s=record["age_s"],
        took_s=record["took_s"],
        payload_bytes=record["payload_bytes"],
        result_bytes=record["result_bytes"],
        position=record.get("position"),
        starts_in_s=record.get("starts_in_s"),
    )
