"""The operator's page by its routes: who may see it, what each act does, and that each is written down.

The whole gateway with a real jobs table in this process; the login alone is stood in for.  `tests/e2e` has the rest.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from edif_backend.gateway.app import create_app
from edif_backend.gateway.identity import User
from edif_backend.gateway.signing_in import Visitor
from edif_backend.jobs import Jobs, Submission, open_jobs
from edif_backend.models.catalogue import Catalogue
from edif_backend.models.orders import Order, Orders
from edif_backend.settings import BackendSettings
from edif_protocol.audit_log import AuditLog
from edif_protocol.installation import Installation
from edif_protocol.wire import OPERATOR_PATH, State

MODELS = '[models."edif/tiny-gpt2"]\ntitle = "Random GPT-2"\nsource = "tiny"\npurpose = "test"\n'


class Login:
    """In place of the hub's login: whoever is named is here."""

    def __init__(self) -> None:
        self.user = User("admin", frozenset(), admin=True)

    async def visitor(self, connection: Any) -> Visitor:
        return Visitor(self.user, "proof")


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, Installation, Login]]:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    found = Installation(home=tmp_path)
    found.models_file.write_text(MODELS)
    login = Login()
    app = create_app(found, BackendSettings())
    with TestClient(app) as client:
        app.state.parts = dataclasses.replace(app.state.parts, signing_in=login)
        yield client, found, login


@pytest.fixture
def jobs(gateway: tuple[TestClient, Installation, Login]) -> Iterator[Jobs]:
    table = open_jobs(gateway[1].jobs_database)
    yield table
    table.close()


def _act(client: TestClient, act: str, on: str, said: str = "", proof: str = "proof") -> tuple[int, str]:
    form = {"act": act, "on": on, "said": said, "proof": proof}
    answer = client.post(OPERATOR_PATH, data=form, follow_redirects=True)
    told = re.search(r'role="status">([^<]*)', answer.text) or re.search(r"</h1>\s*<p>([^<]*)", answer.text)
    return answer.status_code, told[1] if told else answer.text


def test_it_is_for_operators_alone_and_forms_need_their_proof(
    gateway: tuple[TestClient, Installation, Login],
) -> None:
    client, found, login = gateway
    assert _act(client, "model.deploy", "edif/tiny-gpt2", proof="x")[0] == 401
    login.user = User("mallory")
    for answer in (client.get(OPERATOR_PATH), client.get(f"{OPERATOR_PATH}/audit.jsonl")):
        assert answer.status_code == 403
        assert "for those who run this workbench" in answer.text
    assert _act(client, "model.deploy", "edif/tiny-gpt2")[0] == 403
    assert "Operate" not in client.get("/services/edif/").text
    assert Orders(found.orders_dir).take() == []
    assert list(AuditLog(found.audit_dir).lines()) == []


def test_models_are_loaded_pinned_and_let_go(gateway: tuple[TestClient, Installation, Login]) -> None:
    client, found, _ = gateway
    name = "edif/tiny-gpt2"
    assert _act(client, "model.deploy", name) == (200, "The model is loaded now; its state is below.")
    assert Orders(found.orders_dir).take() == [Order("deploy", name)]
    assert _act(client, "model.pin", name)[0] == 200
    assert Catalogue.load(found.models_file).entry(name).pinned
    status, told = _act(client, "model.evict", name)
    assert (status, "unpin it first" in told) == (400, True)
    assert _act(client, "model.unpin", name)[0] == 200
    assert _act(client, "model.evict", name)[0] == 200
    assert Orders(found.orders_dir).take() == [Order("evict", name)]
    assert _act(client, "model.evict", "no/such")[0] == 404
    assert _act(client, "model.explode", name)[0] == 400


def test_a_job_of_anybody_is_cancelled_and_its_owner_told(
    gateway: tuple[TestClient, Installation, Login], jobs: Jobs
) -> None:
    client, _, _ = gateway
    submission = Submission(
        id="a" * 32,
        user="ada<b>",
        session_id="s",
        model="edif/tiny-gpt2",
        model_key="k",
        compress=False,
        env={},
        payload_bytes=1,
    )
    jobs.submit(submission)
    page = client.get(OPERATOR_PATH).text
    assert "ada&lt;b&gt;" in page
    assert _act(client, "job.cancel", "a" * 32)[0] == 200
    job = jobs.job("a" * 32)
    assert job is not None
    assert job.state is State.CANCELLED
    assert "by the operator" in job.description
    assert _act(client, "job.cancel", "b" * 32)[0] == 404


def test_limits_are_set_over_the_file_and_taken_back(
    gateway: tuple[TestClient, Installation, Login], jobs: Jobs
) -> None:
    client, _, _ = gateway
    assert _act(client, "limits.set", "user:ada", "queued_jobs=7 weight=2")[0] == 200
    assert jobs.limits_set() == {"user:ada": {"queued_jobs": 7, "weight": 2.0}}
    for on, said, told in (
        ("user:ada", "queued_jobs=many", "queued_jobs"),
        ("user:ada", "speed=9", "is not understood"),
        ("ada", "weight=1", "Say for whom"),
        ("user: ", "weight=1", "Say for whom"),
    ):
        status, answer = _act(client, "limits.set", on, said)
        assert status == 400
        assert told in answer
    assert _act(client, "limits.clear", "user:ada")[0] == 200
    assert jobs.limits_set() == {}


def test_every_act_is_written_down_and_can_be_taken_away_as_lines(
    gateway: tuple[TestClient, Installation, Login],
) -> None:
    client, _, _ = gateway
    _act(client, "limits.set", "group:lab", "weight=3")
    _act(client, "model.explode", "x")  # what was refused was not done
    answer = client.get(f"{OPERATOR_PATH}/audit.jsonl")
    [line] = [json.loads(line) for line in answer.text.splitlines()]
    assert (line["by"], line["act"], line["on"], line["said"]) == ("admin", "limits.set", "group:lab", "weight=3")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "group:lab" in client.get(f"{OPERATOR_PATH}?act=limits.").text
