"""Attacks on a running gateway, and what may never come of one.

Called by ``tests/integration/test_fuzz.py`` in a short form and by ``edif bench fuzz`` in full.  One user attacks;
another has jobs, an output and a result, of which no answer may hold a word.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import httpx
import hypothesis
import schemathesis
from tests.conftest import Workbench
from tests.fuzz.shots import ODD, Sample, Shot, form, shot

from edif_backend.cli.processes import members
from edif_backend.gateway.app import create_app
from edif_backend.settings import BackendSettings

ATTACKER, VICTIM = "fuzzer", "bystander"
_THREADS = 8
_ENDS_WITHIN_S = 90.0
#: Parts that no request may bring down.
_LASTING = ("gateway", "dispatcher", "replica", "zygote", "hub")

_BEFORE = """
import pathlib
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
from nnsight.schema.request import RequestModel
CONFIG.APP.REMOTE_LOGGING = False
class Sample:
    def __call__(self, tracer):
        pathlib.Path("sample").write_bytes(RequestModel.serialize(tracer, compress=False))
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
for word in WORDS:
    with model.trace("Hello", remote=True):
        print(word)
        kept = (word * 1).save()
with model.trace("Hello", backend=Sample()):
    answer = model.transformer.h[1].output.sum().save()
pathlib.Path("sample.key").write_text(model.to_model_key())
"""


@dataclass(slots=True)
class Report:
    """What was sent and what came of it; ``findings`` must stay empty."""

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)  #: changed payloads that became jobs
    ends: Counter[str] = field(default_factory=Counter)  #: how these jobs ended
    findings: list[str] = field(default_factory=list)

    def find(self, what: str, *facts: object) -> None:
        """Note what must not be."""
        self.findings.append(" ".join([what, *(f"{fact!r:.300}" for fact in facts)]))


class Attack:
    """One attacker, one bystander and the gateway between them."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench, self.report = workbench, Report()
        self.address = (workbench.installation.host, workbench.installation.ports["gateway"])
        self.url = workbench.installation.url("gateway")
        limits = ("time_limit_s=10", "max_time_limit_s=10", "payload_bytes=0")
        assert workbench.edif("limits", "set", "--user", ATTACKER, *limits).returncode == 0
        self.key, self._victim_key = workbench.key(ATTACKER), workbench.key(VICTIM)
        self.words = [f"word{secrets.token_hex(12)}" for _ in range(2)]
        done = workbench.run_client(_BEFORE.replace("WORDS", repr(self.words)), VICTIM)
        assert done.returncode == 0, done.stderr
        folder = workbench.installation.home / "clients" / VICTIM
        self.sample = Sample((folder / "sample.key").read_text(), (folder / "sample").read_bytes())
        self._jobs = self._victim_jobs()
        self.ids = [job["id"] for job in self._jobs]
        link_key = workbench.installation.secret("link-key")
        self._secret = [*self.words, self._victim_key, VICTIM, link_key, "root:x:0:", "SQLite format 3"]
        self._lasting = self._parts()
        self._log = workbench.installation.logs_dir / "gateway.log"
        self._log_from = self._log.stat().st_size

    def _victim_jobs(self) -> Any:
        answer = httpx.get(f"{self.url}/jobs", headers={"ndif-api-key": self._victim_key}, timeout=30)
        return [{"id": job["id"], "state": job["state"]} for job in answer.json()["jobs"]]

    def _parts(self) -> set[tuple[str, int]]:
        return {(found.role, found.pid) for found in members(self.workbench.installation) if found.role in _LASTING}

    # -- judging --------------------------------------------------------------

    def judge(self, what: str, status: int, answer: bytes, sent: bytes) -> None:
        """No answer is the gateway's fault, and none tells of the bystander."""
        self.report.statuses[status] += 1
        if status >= 500 or not status:
            self.report.find("broken:", what, status, answer, sent[:400])
        self.silent(what, answer, sent)

    def silent(self, what: str, answer: bytes, sent: bytes) -> None:
        """Ids that the attacker has sent may be said back, and nothing else."""
        text, said = answer.decode("utf-8", "replace"), sent.decode("utf-8", "replace")
        for word in (*self._secret, *self.ids):
            if word in text and word not in said:
                self.report.find("leaked:", what, word, answer)

    def conclude(self) -> Report:
        """Judge what is left behind, and whether everybody is served as before."""
        if self._victim_jobs() != self._jobs:
            self.report.find("the bystander's jobs have changed")
        if self._real(self._victim_key)["state"] != "COMPLETED":
            self.report.find("the bystander is not served")
        if gone := self._lasting - self._parts():
            self.report.find("parts went down:", gone)
        with self._log.open() as log:
            log.seek(self._log_from)
            for line in log:
                if "Traceback" in line:
                    self.report.find("raised in the gateway:", line[-600:])
        return self.report

    # -- sending --------------------------------------------------------------

    def call(self, method: str, target: str, headers: dict[str, bytes], content: bytes = b"") -> tuple[int, bytes]:
        """One request, byte for byte; status 0 when nothing comes back."""
        told = {
            "host": b"x",
            "ndif-api-key": self.key.encode(),
            "nnsight-version": b"0.8.1",
            "connection": b"close",
            "content-length": str(len(content)).encode(),
        } | headers
        head = "".join(f"{name}: {value.decode('latin-1')}\r\n" for name, value in told.items())
        try:
            with socket.create_connection(self.address, timeout=60) as peer:
                with suppress(OSError):  # it may have refused and gone; its answer is here then
                    peer.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + content)
                answer = http.client.HTTPResponse(peer, method=method)
                answer.begin()
                said = "".join(f"{name}: {value}\n" for name, value in answer.getheaders())
                return answer.status, said.encode() + answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""

    def payloads(self, seeds: range) -> None:
        """Send the changed requests of these seeds; each that becomes a job is followed to its end."""
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in threads.map(lambda seed: self._payload(shot(seed, self.sample), seed), seeds):
                pass

    def _payload(self, made: Shot, seed: int) -> None:
        self.report.sent[made.kind] += 1
        status, answer = self.call("POST", "/request", made.headers, made.content)
        self.judge(f"{made.kind} {seed}", status, answer, made.content + b"".join(made.headers.values()))
        if status == 200:
            self.report.accepted[made.kind] += 1
            self._follow(json.loads(answer.rpartition(b"\n")[2])["id"], f"{made.kind} {seed}")

    def _real(self, key: str) -> Any:
        """Send what nnsight has sent, and wait for its end."""
        made = form(json.dumps({"model_key": self.sample.model_key}), self.sample.payload)
        user = {"ndif-api-key": key.encode()}
        _, answer = self.call("POST", "/request", made.headers | user, made.content)
        return self._follow(json.loads(answer.rpartition(b"\n")[2])["id"], "a real trace", user)

    def _follow(self, id: str, what: str, user: dict[str, bytes] | None = None) -> Any:
        seen, ends_at = 0, time.monotonic() + _ENDS_WITHIN_S
        while time.monotonic() < ends_at:
            status, answer = self.call("GET", f"/jobs/{id}/events?after={seen}&wait_s=5", user or {})
            self.judge(what, status, answer, b"")
            told = json.loads(answer.rpartition(b"\n")[2])
            seen = max([seen, *(event["id"] for event in told["events"])])
            job = told["job"]
            if job["state"] in ("COMPLETED", "ERROR"):
                self.report.ends[f"{job['state']} at attempt {job['attempt']}"] += 1
                if job["state"] == "ERROR" and len(job["description"]) < 10:
                    self.report.find("ended without a sentence:", what, job)
                return job
        self.report.find("has not ended:", what, id)
        return {"id": id, "state": "LOST"}

    def probes(self) -> None:
        """Every route with an id or a name in it, with tricks in their places, and with the bystander's."""
        for method, target in self._targets():
            self.report.sent["ids and names"] += 1
            status, answer = self.call(method, target, {})
            self.judge(f"{method} {target}", status, answer, target.encode())
        unknown = "0" * 32
        for id in self.ids:
            for method, route in (("GET", "/response/"), ("GET", "/jobs/"), ("DELETE", "/jobs/")):
                mine, theirs = self.call(method, route + unknown, {}), self.call(method, route + id, {})
                if _undated(mine[1]) != _undated(theirs[1]).replace(id.encode(), unknown.encode()):
                    self.report.find("one can tell that there is such a job:", route, theirs)

    def _targets(self) -> Iterator[tuple[str, str]]:
        tricks = [word for word in ODD if isinstance(word, str)]
        tricks += ["%00", "%2e%2e/%2e%2e/secrets/link-key", "..;/", "a%0d%0ab", "%ff%fe", *self.ids]
        tricks += [f"results/{id}-1?ends=99999999999&signature={'0' * 64}" for id in self.ids]
        routes = (
            *("/response/{}", "/jobs/{}", "/jobs/{}/events", "/jobs?before={}", "/jobs?limit={}"),
            *("/jobs/{}/events?after={}&wait_s={}", "/objects/results/{}?ends={}&signature={}", "/objects/{}/{}"),
            *("/hf/{}", "/hf/api/models/{}", "/hf/edif/tiny-gpt2/resolve/main/{}", "/hf/{}/resolve/main/config.json"),
            *("/hf/edif/tiny-gpt2/resolve/{}/config.json", "/hf/api/models/edif/tiny-gpt2/tree/main/{}", "/{}"),
            "/hf/api/models/edif/tiny-gpt2/revision/{}",
        )
        for route in routes:
            for trick in tricks:
                raw = quote(trick, safe="%/?&=;:.'\"()-", errors="surrogatepass")
                for said in dict.fromkeys((raw, quote(trick, safe="", errors="surrogatepass"))):
                    yield "GET", route.replace("{}", said)
                    if route.startswith("/jobs/"):
                        yield "DELETE", route.replace("{}", said)

    def ranges(self) -> None:
        """Odd ranges of a result of the attacker's own: parts of it come, and never more."""
        newest = self._real(self.key)
        link = json.loads(self.call("GET", f"/response/{newest['id']}", {})[1].rpartition(b"\n")[2])["data"]
        target = link.removeprefix(self.url)
        whole = self.call("GET", target, {})[1].partition(b"\n\n")[2]
        spans = ("0-0", "-0", "-1", "5-2", "0-99999999999999999999", "9" * 19 + "-", "-" + "9" * 19, "0-1,3-4", "a-b")
        for span in (*spans, "\xb2-\xb3", "1-" + "9" * 5000, "--1", "=", "0x1-0x5", " 1 - 2 ", "'; DROP TABLE jobs;--"):
            self.report.sent["ranges"] += 1
            status, answer = self.call("GET", target, {"range": b"bytes=" + span.encode("latin-1")})
            self.judge(f"range {span}", status, answer, target.encode())
            if status not in (200, 206, 400, 416) or len(whole) > newest["result_bytes"]:
                self.report.find("a strange part:", span, status)
        for changed in (target.replace("signature=", "signature=0"), target.replace("ends=", "ends=9"), target[:-1]):
            if self.call("GET", changed, {})[0] != 401:
                self.report.find("a changed link is taken:", changed)

    def openapi(self, examples: int) -> None:
        """schemathesis on the gateway's own description of itself: this many examples of each operation and mode."""
        app = create_app(self.workbench.installation, BackendSettings())
        schema = schemathesis.openapi.from_dict(app.openapi())
        schema.config.update(base_url=self.url)
        operations: list[Any] = [found.ok() for found in cast(Iterator[Any], schema.get_all_operations())]
        for operation in operations:
            self._operation(operation, schemathesis.GenerationMode.POSITIVE, examples)
            if list(operation.iter_parameters()):
                self._operation(operation, schemathesis.GenerationMode.NEGATIVE, examples)

    def _operation(self, operation: Any, mode: schemathesis.GenerationMode, examples: int) -> None:
        @hypothesis.settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def attack(case: Any) -> None:
            self.report.sent["OpenAPI"] += 1
            answer = case.call(headers={"ndif-api-key": self.key, "nnsight-version": "0.8.1"}, timeout=60)
            said = "".join(f"{name}: {value}\n" for name, value in answer.headers.items()).encode() + answer.content
            self.judge(f"{case.method} {case.path}", answer.status_code, said, answer.request.url.encode())

        with suppress(hypothesis.errors.Unsatisfiable):  # where nothing that is sent can be wrong
            attack()


def _undated(answer: bytes) -> bytes:
    return answer.partition(b"\nserver:")[2]
