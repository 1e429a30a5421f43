"""``edif bench faults --kills 200 --seed 1``: parts of a workbench are killed at random while many clients send jobs.

The workbench is one of its own, on PostgreSQL and S3, with the tiny model; the running one is left alone.  Gateway,
dispatcher, replica, zygote, executors, Ray, connections to the database and the database itself are killed (-9) in an
order drawn from the seed.  Each job computes a number that its client knows; what the clients were told and what the
table's events say is then judged (:mod:`edif_backend.jobs.audit`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from pydantic import SecretStr

from edif.remote import EdifBackend, TraceFailed, TraceUnreachable
from edif_backend.cli.processes import Member, members
from edif_backend.jobs import Job, open_jobs
from edif_backend.jobs.audit import audit
from edif_backend.objects import open_objects
from edif_backend.settings import BackendSettings
from edif_protocol.wire import State

sys.path.append(str(Path(__file__).parents[2]))
from tests.conftest import TINY_ALONE, Workbench, installation
from tests.services import S3_KEY, S3_SECRET, PostgresServer, postgres_server, s3_service

#: What is killed how often, of a hundred.  Ray takes a quarter of a minute to come back, a connection no time.
SHARES = {
    "executor": 40,
    "gateway": 22,
    "connection": 14,
    "dispatcher": 9,
    "replica": 6,
    "zygote": 6,
    "database": 1.5,
    "ray": 1.5,
}

_CLIENTS = 6
_PAYLOADS = 24
#: After a kill, work is waited for, so that something new is always under way; at most this long.
_RECOVERY_S = {"ray": 60.0}
_RECOVERY_OTHERWISE_S = 3.0
_SETTLE_S = 600.0

#: Makes the payloads: every third job prints and takes its time, so that a kill meets it.
_MAKE = """
import json, pathlib
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel

class Sample:
    def __call__(self, tracer):
        (folder / str(number)).write_bytes(RequestModel.serialize(tracer, compress=False))

folder = pathlib.Path(FOLDER)
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
for number in range(COUNT):
    if number % 3:
        with model.trace("Hello", backend=Sample()):
            answer = (model.transformer.h[1].output.shape[-1] * 1000 + number).save()
    else:
        with model.trace("Hello", backend=Sample()):
            import time
            for line in range(4):
                print("line", line)
                time.sleep(0.2)
            answer = (model.transformer.h[1].output.shape[-1] * 1000 + number).save()
print(json.dumps({"key": model.to_model_key(), "env": model._remoteable_get_env()}))
"""


@dataclass
class Told:
    """What a client was told of one job."""

    job: str
    expected: int
    end: str = ""  #: right, wrong: …, or error: …
    heard: list[int] | None = None  #: events on its websockets, of a client that listens


@dataclass
class Report:
    """How it went."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    still: Counter[str] = field(default_factory=Counter)  #: kills after which nothing ended for a while
    seconds: float = 0.0
    told: list[Told] = field(default_factory=list)
    given_up: int = 0  #: requests that no gateway took in time; their clients were told so
    jobs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    starts: Counter[int] = field(default_factory=Counter)  #: jobs by how often they were started
    findings: list[str] = field(default_factory=list)


class Listening(EdifBackend):
    """The eDIF client with a payload made before, noting which events it hears."""

    payload = b""
    events: list[int]

    def _serialize(self, tracer: Any) -> bytes:
        return self.payload

    def parse(self, message: str | bytes) -> ResponseModel:
        response = super().parse(message)
        if isinstance(message, str) and (event := json.loads(message).get("event")):
            self.events.append(event)  # what has none is no event, such as that nobody works at present
        return response


class Client(threading.Thread):
    """Sends one job after the other, listening or asking, until told to stop."""

    def __init__(self, work: Work, number: int) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._dice = random.Random(work.report.seed * 1000 + number)
        self._key = work.workbench.key(f"user{number % 3}")

    def run(self) -> None:
        while not self._work.stop.is_set():
            number = self._dice.randrange(_PAYLOADS)
            backend = Listening(self._work.model, self._work.url, self._key, self._work.env)
            backend.compress, backend.display.enabled, backend.events = False, False, []
            backend.payload = self._work.payloads[number]
            listens = self._dice.random() < 0.6
            told = Told("", 128_000 + number)
            try:
                result = self._listen(backend) if listens else self._ask(backend)
                told.end = "right" if result["answer"] == told.expected else f"wrong: {result!r:.80}"
            except TraceFailed as error:
                told.end = f"error: {error!s:.300}"
            except TraceUnreachable:
                told.end = "unreachable"
            except Exception as error:  # noqa: BLE001 - any other end is a finding, and not a client less
                told.end = f"wrong: {error!r:.200}"
            told.job, told.heard = backend.sent or "", backend.events if listens else None
            self._work.note(told)

    def _request(self) -> RequestModel:
        return RequestModel(model_key=self._work.model, compress=False, env=self._work.env)

    def _listen(self, backend: Listening) -> Any:
        return backend.request(self._request(), None)

    def _ask(self, backend: Listening) -> Any:
        backend.blocking = False
        backend.job_id = backend._post(self._request(), backend.payload).id
        ends_at = time.monotonic() + _SETTLE_S
        while time.monotonic() < ends_at:
            with suppress(TraceUnreachable):
                answer = backend._call("GET", f"/response/{backend.job_id}")
                if answer.status_code < 500:
                    result = backend._noted(answer)
                    if backend.status == Status.COMPLETED:
                        return result
            time.sleep(0.1)
        raise TimeoutError(f"it has not ended within {_SETTLE_S:.0f} s")


class Work:
    """The clients, what they were told, and the parts that are killed."""

    def __init__(self, workbench: Workbench, postgres: PostgresServer, report: Report) -> None:
        self.workbench, self.postgres, self.report = workbench, postgres, report
        self.url = workbench.installation.url("gateway")
        self.stop = threading.Event()
        self._lock = threading.Lock()
        folder = workbench.installation.home / "payloads-made"
        folder.mkdir(exist_ok=True)
        script = _MAKE.replace("FOLDER", repr(str(folder))).replace("COUNT", str(_PAYLOADS))
        made = workbench.run_client(script)
        if made.returncode:
            raise RuntimeError(made.stderr)
        said = json.loads(made.stdout.splitlines()[-1])
        self.model, self.env = said["key"], said["env"]
        self.payloads = [(folder / str(number)).read_bytes() for number in range(_PAYLOADS)]

    def note(self, told: Told) -> None:
        with self._lock:
            if told.job:
                self.report.told.append(told)
            else:
                self.report.given_up += 1

    def right(self) -> int:
        with self._lock:
            return sum(told.end == "right" for told in self.report.told)

    def kill(self, kind: str, dice: random.Random) -> bool:
        """Kill one of its kind; False when there is none just now."""
        if kind == "connection":
            return self._cut_connection(dice)
        if kind == "database":
            self.postgres.kill()
            time.sleep(dice.uniform(0.0, 2.0))
            self.postgres.start_again()
            return True
        found = [member for member in members(self.workbench.installation) if _is(member, kind)]
        if not found:
            return False
        with suppress(ProcessLookupError):
            os.kill(dice.choice(found).pid, signal.SIGKILL)
        return True

    def _cut_connection(self, dice: random.Random) -> bool:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'edif%' ORDER BY pid"
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            pids = [pid for (pid,) in connection.execute(query)]
            if pids:
                connection.execute("SELECT pg_terminate_backend(%s)", [dice.choice(pids)])
        return bool(pids)


def _is(member: Member, kind: str) -> bool:
    if kind == "ray":
        return member.role == "ray" and any(
            name in member.command for name in ("raylet/raylet", "gcs_server", "ray start")
        )
    return member.role == kind


def order(kills: int, seed: int) -> list[str]:
    """What is killed, one after the other: every kind once at least, and otherwise by its share."""
    counts = {kind: max(1, round(share * kills / 100)) for kind, share in SHARES.items()}
    while sum(counts.values()) != kills:
        counts[max(counts, key=lambda kind: counts[kind])] += 1 if sum(counts.values()) < kills else -1
    drawn = [kind for kind, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(drawn)
    return drawn


def run(workbench: Workbench, postgres: PostgresServer, settings: BackendSettings, kills: int, seed: int) -> Report:
    """Kill, settle, judge."""
    report, dice = Report(seed), random.Random(seed)
    earlier = _ids(workbench, settings)
    work = Work(workbench, postgres, report)
    clients = [Client(work, number) for number in range(_CLIENTS)]
    began = time.monotonic()
    for client in clients:
        client.start()
    try:
        for kind in order(kills, seed):
            time.sleep(dice.uniform(0.05, 0.4))
            before = work.right()
            if not _until(lambda kind=kind: work.kill(kind, dice), 60.0):  # there was none for a whole minute
                kind = "connection"  # noqa: PLW2901 - of which there always is one
                _until(lambda: work.kill("connection", dice), 60.0)
            report.kills[kind] += 1
            if not _until(lambda before=before: work.right() > before, _RECOVERY_S.get(kind, _RECOVERY_OTHERWISE_S)):
                report.still[kind] += 1
    finally:
        work.stop.set()
    ends_at = time.monotonic() + _SETTLE_S
    for client in clients:
        client.join(max(0.0, ends_at - time.monotonic()))
    report.findings += [f"{client.name} still waits" for client in clients if client.is_alive()]
    _judge(report, workbench, settings, earlier)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _until(condition: Any, patience_s: float) -> bool:
    ends_at = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.1)
    return True


def _ids(workbench: Workbench, settings: BackendSettings) -> set[str]:
    jobs = open_jobs(workbench.installation.jobs_database, url=settings.database_url)
    with closing(jobs):
        return {job.id for job in jobs.newest(limit=1_000_000)}


def _judge(report: Report, workbench: Workbench, settings: BackendSettings, earlier: set[str]) -> None:
    jobs = open_jobs(workbench.installation.jobs_database, url=settings.database_url)
    _until(lambda: not jobs.unfinished(), 60.0)  # those of requests whose client has given up
    events = [event for event in jobs.events_after(0, 10_000_000) if event.job not in earlier]
    rows = [job for job in jobs.newest(limit=1_000_000) if job.id not in earlier]
    jobs.close()
    objects = open_objects(workbench.installation.objects_dir, settings)
    stored = {found.name for found in objects.listing("results")}
    told = {one.job: one for one in report.told}
    report.jobs = len(rows)
    report.ends = Counter(
        job.meta.get("code", "error") if job.state is State.ERROR else job.state.value for job in rows
    )
    report.starts = Counter(job.attempt for job in rows)
    report.findings += audit(events, rows, stored, told)
    if len(told) != len(report.told):
        report.findings.append("two requests are one job")
    if len(rows) > len(told) + report.given_up:
        report.findings.append(f"{len(rows)} jobs of {len(told) + report.given_up} requests: one was doubled")
    for job in rows:
        if job.id in told:
            happened = [event.id for event in events if event.job == job.id and event.kind not in _UNTOLD]
            report.findings += _client(job, told[job.id], happened)


#: Events that a websocket does not tell, or tells in a message without their id: the result itself.
_UNTOLD = (State.RECEIVED, State.COMPLETED)


def _client(job: Job, told: Told, happened: list[int]) -> Iterator[str]:
    """Whether the client was told what happened, and the right number."""
    if told.end.startswith("wrong") or told.end == "unreachable":
        yield f"{job.id}: its client got {told.end}"
    if (told.end == "right") != (job.state is State.COMPLETED):
        yield f"{job.id}: is {job.state}, and its client was told {told.end}"
    if told.heard is not None and told.heard != happened:
        yield f"{job.id}: happened {happened}, its client heard {told.heard}"


@contextmanager
def on_postgres_and_s3(name: str) -> Iterator[tuple[Workbench, PostgresServer, BackendSettings]]:
    """A workbench, not started yet, whose jobs are in PostgreSQL and whose objects are in S3."""
    with postgres_server() as postgres, s3_service() as s3, installation(name) as workbench:
        workbench.installation.models_file.write_text(TINY_ALONE)
        settings = BackendSettings(
            database_url=SecretStr(postgres.new_database()),
            objects_endpoint=s3,
            objects_access_key=SecretStr(S3_KEY),
            objects_secret_key=SecretStr(S3_SECRET),
        )
        said = {
            "database_url": settings.database_url.get_secret_value(),
            "objects_endpoint": s3,
            "objects_access_key": S3_KEY,
            "objects_secret_key": S3_SECRET,
        }
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in said.items()]
        workbench.installation.config_file.write_text("".join(["[backend]\n", *lines]))
        yield workbench, postgres, settings


def main() -> None:
    """Print how it went; the status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with on_postgres_and_s3("faults") as (workbench, postgres, settings):
        workbench.up()
        report = run(workbench, postgres, settings, options.kills, options.seed)
    clients = Counter(told.end.partition(":")[0] for told in report.told)
    figures = {
        "benchmark": "faults",
        "seed": report.seed,
        "seconds": report.seconds,
        "kills": dict(report.kills),
        "still": dict(report.still),
        "jobs": report.jobs,
        "ends": dict(report.ends),
        "starts": dict(sorted(report.starts.items())),
        "clients": dict(clients),
        "given_up": report.given_up,
        "findings": report.findings,
    }
    print(json.dumps(figures) if options.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))
    sys.exit(bool(report.findings))


if __name__ == "__main__":
    main()
