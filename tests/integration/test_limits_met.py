"""What a user meets at a limit, with unmodified nnsight and with the eDIF client; and what limits and use look like."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import Workbench

from edif_backend.jobs import open_jobs

CLIENTS = {
    "stock": "from nnsight.intervention.backends.remote import RemoteBackend as Backend",
    "edif": "from edif.remote import EdifBackend as Backend",
}
SETUP = """
import json, time
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteError
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")

def sleep(seconds, **env):
    backend = Backend(model.to_model_key(), env={**model._remoteable_get_env(), **env})
    with model.trace("The Eiffel Tower", backend=backend):
        import time
        time.sleep(seconds)
        logits = model.output.logits.save()
    return tuple(logits.shape)

def refusal(seconds, **env):
    try:
        return repr(sleep(seconds, **env))
    except RemoteError as error:
        return str(error)

def tell(**what): print("TOLD", json.dumps(what))
"""


def told(workbench: Workbench, client: str, script: str, user: str) -> dict[str, Any]:
    """Run a client script; gives what it tells."""
    done = workbench.run_client(f"{CLIENTS[client]}\n{SETUP}{script}", user)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, f"the client told nothing:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {name: value for line in lines for name, value in json.loads(line.removeprefix("TOLD ")).items()}


def limit(workbench: Workbench, user: str, *values: str) -> None:
    done = workbench.edif("limits", "set", "--user", user, *values)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_who_has_used_up_the_day_is_told_so(workbench: Workbench, client: str) -> None:
    user = f"spent-{client}"
    limit(workbench, user, "device_seconds_per_day=0.001")
    answer = told(workbench, client, "tell(first=sleep(0.1), second=refusal(0))", user)
    assert answer["first"]  # the limit is met with the end of the first
    assert "and 0 s a day is your limit. The count starts anew at midnight UTC, in " in answer["second"]


def test_the_limits_of_a_group_of_the_hub_hold_for_its_members_alone(workbench: Workbench) -> None:
    member, stranger = "of-the-seminar", "not-of-it"
    workbench.key(member)  # has an account from here on
    today = datetime.now(UTC).date()
    days = ("--from", f"{today - timedelta(1)}", "--until", f"{today + timedelta(30)}")
    for command in (
        ("course", "new", "seminar", "--title", "Seminar", *days),
        ("course", "add", "seminar", member),
        ("limits", "set", "--group", "course:seminar:student", "device_seconds_per_day=0.001"),
    ):
        done = workbench.edif(*command)
        assert done.returncode == 0, done.stderr
    script = "tell(first=sleep(0.1), second=refusal(0))"
    assert "and 0 s a day is your limit." in told(workbench, "edif", script, member)["second"]
    assert told(workbench, "edif", script, stranger)["second"].startswith("(1, ")
    # And the dispatcher, which weighs and counts running jobs by group, hears of it with the jobs.
    known = open_jobs(workbench.installation.jobs_database).groups([member, stranger])
    assert known == {member: ["course:seminar:student"], stranger: []}


def test_a_refusal_says_when_to_come_back_and_leaves_nothing_behind(workbench: Workbench) -> None:
    limit(workbench, "full", "payload_bytes=1")
    before = workbench.json("jobs")
    headers = {"ndif-api-key": workbench.key("full"), "nnsight-version": "0.8.1"}
    key = 'nnsight.modeling.transformers.TransformersModel:{"repo_id": "edif/tiny-gpt2", "revision": null}'
    answer = httpx.post(
        f"{workbench.installation.url('gateway')}/request",
        headers=headers,
        data={"data": json.dumps({"model_key": key})},
        files={"blob": ("request", b"\x80\x04N.")},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["code"]) == (429, "limit-reached")
    assert 0 < int(answer.headers["retry-after"]) <= 600
    assert workbench.json("jobs") == before
    payloads = workbench.installation.objects_dir / "payloads"
    assert all(path.stat().st_size != 4 for path in payloads.iterdir())


def test_a_large_request_over_a_limit_is_refused_before_it_is_read(workbench: Workbench) -> None:
    limit(workbench, "heavy", "payload_bytes=1000000")
    answers = {}
    for megabytes in (1, 8):  # a form may hold more than the payload, so the first is not known to be too much
        answers[megabytes] = httpx.post(
            f"{workbench.installation.url('gateway')}/request",
            headers={
                "ndif-api-key": workbench.key("heavy"),
                "nnsight-version": "0.8.1",
                "content-type": "multipart/form-data; boundary=none",
            },
            content=b"x" * (megabytes << 20),  # not a form: who reads it says so
            timeout=60,
        )
    assert (answers[1].status_code, answers[1].json()["code"]) == (400, "payload-refused")
    assert (answers[8].status_code, answers[8].json()["code"]) == (429, "limit-reached")
    assert "at most 1,000,000 may be under way" in answers[8].json()["detail"]


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_job_may_run_as_long_as_its_user_or_it_says_and_no_longer(workbench: Workbench, client: str) -> None:
    user = f"brief-{client}"
    limit(workbench, user, "time_limit_s=1", "max_time_limit_s=30")
    answer = told(
        workbench,
        client,
        "tell(over=refusal(20), longer=refusal(1.5, time_limit_s=20), shorter=refusal(5, time_limit_s=0.5),"
        " wrong=refusal(0, time_limit_s=31))",
        user,
    )
    assert "longer than the 1 s it may take" in answer["over"]
    assert answer["longer"].startswith("(1, ")
    assert "longer than the 0.5 s it may take" in answer["shorter"]
    assert "at most 30" in answer["wrong"]


def test_limits_and_use_can_be_asked_for(workbench: Workbench) -> None:
    limit(workbench, "curious", "queued_jobs=7", "weight=2.5")
    answer = told(
        workbench,
        "edif",
        "import edif, dataclasses\nsleep(0.2)\ntell(usage=dataclasses.asdict(edif.usage()), text=str(edif.usage()))",
        "curious",
    )
    usage = answer["usage"]
    assert (usage["user"], usage["weight"], usage["limits"]["queued_jobs"]) == ("curious", 2.5, 7)
    assert usage["use"]["queued_jobs"] == usage["use"]["running_jobs"] == 0
    assert usage["use"]["stored_bytes"] > 0
    assert 0.2 <= usage["use"]["device_seconds_today"] < 60
    assert "0  jobs waiting, of 7" in answer["text"]
    refused = httpx.get(f"{workbench.installation.url('gateway')}/usage", timeout=30)
    assert refused.status_code == 401
