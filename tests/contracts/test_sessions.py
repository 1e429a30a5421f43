"""What a websocket is told of a job that another one was lost for, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from tests.contracts.test_jobs_table import ME, claim_one, submission

from edif_backend.gateway.asking import Asking
from edif_backend.gateway.sessions import Sessions
from edif_backend.jobs import Jobs


@pytest.mark.parametrize("again", [False, True])
def test_what_was_missed_is_told_once_though_the_gateway_comes_to_it_later(jobs: Jobs, again: bool) -> None:
    # The events are in the table when the job is taken up, and this gateway has not handed them on yet: it reads them
    # for the new websocket, and a moment later with everything that is new.
    ask = Asking(jobs)

    async def story() -> list[int]:
        sessions = Sessions(ask, "secret", seen=0)
        job = jobs.submit(submission())
        claim_one(jobs)
        session = sessions.open("ada")
        assert await sessions.resume(session, job.id, after=0)
        with ask.bell("gateway") as bell:
            following = asyncio.create_task(sessions.follow(bell))
            await _handed_on(sessions, jobs)
            if again:  # and once more on the same websocket, after what was told
                assert await sessions.resume(session, job.id, after=jobs.last_event())
            assert jobs.running(job.id, ME, 1)
            jobs.fail(job.id, ME, 1, "It ended.", {})
            await _handed_on(sessions, jobs)
            following.cancel()
            await asyncio.wait([following])
        told = [session.events.get_nowait() for _ in range(session.events.qsize())]
        return [event.id for event in told if event]

    heard = asyncio.run(story())
    assert heard == [event.id for event in jobs.events_after(0) if event.kind != "RECEIVED"]


async def _handed_on(sessions: Sessions, jobs: Jobs) -> None:
    async with asyncio.timeout(20):
        while sessions.newest != jobs.last_event():
            await sessions.news(sessions.newest, timeout_s=1.0)
