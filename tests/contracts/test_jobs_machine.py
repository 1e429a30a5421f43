"""Any order of calls leaves the jobs table as a model in memory says, whichever database holds it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete

from edif_backend.jobs import Jobs, Submission, schema
from edif_protocol.wire import FINAL_STATES, LOG, WAITING_STATES, State

ATTEMPTS = 2  # few, so that they are used up
LEASE_S = 10
CLAIMED = {State.DISPATCHED, State.RUNNING}

models = st.sampled_from(["edif/tiny-gpt2", "another/model"])
workers = st.sampled_from(["dispatcher", "another"])
numbers = st.integers(0, 4)
attempts = st.integers(1, ATTEMPTS + 1)  # some starts are excused


@dataclass
class Twin:
    """One job as it should be."""

    id: str
    model: str
    state: State = State.QUEUED
    attempt: int = 0
    excused: int = 0
    worker: str | None = None
    lease_until: float = 0.0
    description: str = ""


class JobsMachine(RuleBasedStateMachine):
    """The calls that dispatchers and gateways make, right and wrong ones, and what must come of them."""

    jobs: Jobs  # set by the test
    clock: object

    def __init__(self) -> None:
        super().__init__()
        self.jobs._database.change(self._empty)
        self.begun_at = self.jobs.last_event()
        self.twins: dict[str, Twin] = {}
        self.events: list[tuple[str, str]] = []

    @staticmethod
    def _empty(change) -> None:
        change.run(delete(schema.events))
        change.run(delete(schema.jobs))

    @initialize()
    def some_jobs_wait(self) -> None:
        for number in range(3):
            self.submit(number, "edif/tiny-gpt2")

    def move(self, twin: Twin, state: State, description: str = "") -> None:
        twin.state, twin.description = state, description
        if state not in CLAIMED:
            twin.worker = None
        self.events.append((twin.id, state))

    def held(self, number: int, worker: str, attempt: int) -> Twin | None:
        twin = self.twins.get(f"{number:032d}")
        valid = twin and twin.state in CLAIMED and (twin.worker, twin.attempt) == (worker, attempt)
        return twin if valid else None

    def put_back(self, twin: Twin, excused: bool) -> None:
        used_up = twin.attempt - twin.excused - excused >= ATTEMPTS or twin.excused >= 10
        twin.excused += excused and not used_up
        self.move(twin, State.ERROR if used_up else State.QUEUED, "back")

    @rule(number=numbers, model=models)
    def submit(self, number: int, model: str) -> None:
        id = f"{number:032d}"
        answer = self.jobs.submit(Submission(id, "ada", "", model, "key", compress=False, env={}, payload_bytes=1))
        if id not in self.twins:
            self.twins[id] = Twin(id, model)
            self.events += [(id, State.RECEIVED), (id, State.QUEUED)]
        assert (answer.id, answer.model) == (id, self.twins[id].model)

    @rule(worker=workers, model=models, slots=st.integers(1, 3))
    def claim(self, worker: str, model: str, slots: int) -> None:
        claimed = self.jobs.claim(worker, {model: ["ada"] * slots}, LEASE_S)
        expected = [twin for twin in self.twins.values() if twin.model == model and twin.state in WAITING_STATES][
            :slots
        ]
        assert [job.id for job in claimed] == [twin.id for twin in expected]
        for twin in expected:
            twin.attempt, twin.worker, twin.lease_until = twin.attempt + 1, worker, self.clock() + LEASE_S
            self.move(twin, State.DISPATCHED)

    @rule(number=numbers, worker=workers, attempt=attempts)
    def running(self, number: int, worker: str, attempt: int) -> None:
        twin = self.held(number, worker, attempt)
        due = twin is not None and twin.state is State.DISPATCHED
        assert self.jobs.running(f"{number:032d}", worker, attempt) == due
        if due:
            self.move(twin, State.RUNNING)

    @rule(number=numbers, attempt=attempts)
    def log(self, number: int, attempt: int) -> None:
        self.jobs.log(f"{number:032d}", attempt, "line")
        twin = self.twins.get(f"{number:032d}")
        if twin and twin.state in CLAIMED and twin.attempt == attempt:
            self.events.append((twin.id, LOG))

    @rule(number=numbers, worker=workers, attempt=attempts)
    def complete(self, number: int, worker: str, attempt: int) -> None:
        twin = self.held(number, worker, attempt)
        assert self.jobs.complete(f"{number:032d}", worker, attempt, "r", 1, {}) == (twin is not None)
        if twin:
            self.move(twin, State.COMPLETED)

    @rule(number=numbers, worker=workers, attempt=attempts)
    def fail(self, number: int, worker: str, attempt: int) -> None:
        twin = self.held(number, worker, attempt)
        assert self.jobs.fail(f"{number:032d}", worker, attempt, "no", {}) == (twin is not None)
        if twin:
            self.move(twin, State.ERROR)

    @rule(number=numbers, user=st.sampled_from(["ada", "mallory", None]))
    def cancel(self, number: int, user: str | None) -> None:
        twin = self.twins.get(f"{number:032d}")
        answer = self.jobs.cancel(f"{number:032d}", "no more", user)
        if twin is None or user == "mallory":
            assert answer is None
            return
        if twin.state not in FINAL_STATES:
            self.move(twin, State.CANCELLED)
        assert (answer.id, answer.state) == (twin.id, twin.state)

    @rule(pick=numbers, excused=st.booleans())
    def requeue(self, pick: int, excused: bool) -> None:
        claimed = [twin for twin in self.twins.values() if twin.state in CLAIMED]
        if claimed:
            twin = claimed[pick % len(claimed)]
            self.jobs.requeue(twin.id, "nobody", twin.attempt, "back", ATTEMPTS)  # changes nothing
            self.jobs.requeue(twin.id, twin.worker, twin.attempt, "back", ATTEMPTS, excused=excused)
            self.put_back(twin, excused)

    @rule(worker=workers)
    def requeue_lost(self, worker: str) -> None:
        lost = [
            twin
            for twin in self.twins.values()
            if twin.state in CLAIMED and twin.lease_until < self.clock() and twin.worker != worker
        ]
        assert self.jobs.requeue_lost(ATTEMPTS, worker) == len(lost)
        for twin in lost:
            self.put_back(twin, excused=True)

    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        self.jobs.renew(worker, LEASE_S)
        for twin in self.twins.values():
            if twin.worker == worker and twin.state in CLAIMED:
                twin.lease_until = self.clock() + LEASE_S

    @rule(model=models, state=st.sampled_from([State.PROVISIONING, State.DEPLOYING]), text=st.sampled_from("ab"))
    def deploying(self, model: str, state: State, text: str) -> None:
        self.jobs.deploying(model, state, text)
        for twin in self.twins.values():
            if twin.model == model and twin.state in WAITING_STATES and (twin.state, twin.description) != (state, text):
                self.move(twin, state, text)

    @rule(model=models)
    def refuse_waiting(self, model: str) -> None:
        self.jobs.refuse_waiting(model, "no", {})
        for twin in self.twins.values():
            if twin.model == model and twin.state in WAITING_STATES:
                self.move(twin, State.ERROR)

    @rule(seconds=st.sampled_from([1, 6, 11]))
    def time_passes(self, seconds: int) -> None:
        self.clock.time += seconds

    @invariant()
    def the_table_is_as_the_model_says(self) -> None:
        found = {job.id: (job.state, job.attempt, job.leased_by) for job in self.jobs.newest()}
        assert found == {twin.id: (twin.state, twin.attempt, twin.worker) for twin in self.twins.values()}

    @invariant()
    def workers_know_their_claims(self) -> None:
        for worker in ("dispatcher", "another"):
            held = {(twin.id, twin.attempt) for twin in self.twins.values() if twin.worker == worker}
            assert self.jobs.held(worker) == held

    @invariant()
    def every_change_is_one_event(self) -> None:
        events = self.jobs.events_after(self.begun_at)
        assert [(event.job, event.kind) for event in events] == self.events
        ends = [event.job for event in events if event.kind in FINAL_STATES]
        assert len(ends) == len(set(ends))


@pytest.mark.timeout(240)
def test_any_order_of_calls_is_as_the_model_says(jobs: Jobs, clock) -> None:
    machine = type("Machine", (JobsMachine,), {"jobs": jobs, "clock": clock})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
