"""``edif.keep`` and ``edif.kept``: values stay on the server for their owner alone, whichever client asks for them."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
from tests.conftest import Workbench

SETUP = """
import json, torch, edif
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.schema.config import CONFIG
from edif.remote import EdifBackend
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
make = lambda kind: kind(model.to_model_key(), env=model._remoteable_get_env())
def tell(**what): print("TOLD", json.dumps(what))
"""


def told(workbench: Workbench, script: str, user: str) -> dict[str, Any]:
    """Run a client script of ``user``; gives what it tells."""
    done = workbench.run_client(SETUP + script, user)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {name: value for line in lines for name, value in json.loads(line.removeprefix("TOLD ")).items()}


def ask(workbench: Workbench, user: str, method: str, path: str) -> httpx.Response:
    key = workbench.key(user)
    return httpx.request(method, f"{workbench.installation.url('gateway')}{path}", headers={"ndif-api-key": key})


@pytest.fixture(scope="module")
def owner(workbench: Workbench) -> str:
    """A user who keeps three values, sent by both kinds of client."""
    user = f"keeper{os.getpid()}"
    found = told(
        workbench,
        """
with model.trace("A prompt", backend=make(RemoteBackend)):
    hidden = model.transformer.h[1].output
    edif.keep(hidden[0, -1], "direction")
    edif.keep({"a": [torch.arange(3), "text"], "b": None}, "nested")
    direction = hidden[0, -1].save()
with model.trace("A prompt", backend=make(EdifBackend)):
    edif.keep(torch.arange(3_000_000), "large")
    edif.keep(torch.zeros(2), "replaced")
    edif.keep(torch.ones(2), "replaced")
listed = edif.kept()
fetched = edif.kept("direction")
tell(same=fetched.equal(direction), names=[one.name for one in listed], sizes=[one.bytes for one in listed],
     html="direction" in listed._repr_html_())
""",
        user,
    )
    assert found["same"]
    assert found["html"]
    assert found["names"] == ["direction", "large", "nested", "replaced"]
    assert 24_000_000 < found["sizes"][1] < 24_010_000  # as 64-bit integers, and little around them
    assert found["sizes"][0] < 3000  # the row that was kept, without the rest of its tensor
    return user


def test_kept_values_are_used_by_later_jobs_of_other_processes_and_clients(workbench: Workbench, owner: str) -> None:
    found = told(
        workbench,
        """
for kind in (RemoteBackend, EdifBackend):
    with model.trace("A prompt", backend=make(kind)):
        direction = edif.kept("direction")
        hidden = model.transformer.h[1].output
        same = direction.equal(hidden[0, -1]).save()
        hidden[0, -1] = hidden[0, -1] - direction
        left = float(model.transformer.h[1].output[0, -1].abs().max()).save()
        total = int(edif.kept("large").sum()).save()
        nested = (edif.kept("nested")["a"][1]).save()
        replaced = edif.kept("replaced").tolist().save()
    tell(**{kind.__name__: [same, left, total, nested, replaced]})
""",
        owner,
    )
    right = [True, 0.0, 2_999_999 * 3_000_000 // 2, "text", [1.0, 1.0]]
    assert found == {"RemoteBackend": right, "EdifBackend": right}


def test_refusals_say_what_to_do_and_leave_the_job_its_say(workbench: Workbench, owner: str) -> None:
    found = told(
        workbench,
        """
with model.trace("A prompt", remote=True):
    said = [].save()
    for attempt in (
        lambda: edif.kept("no-such"),
        lambda: edif.keep(1, "../secrets"),
        lambda: edif.keep(1, "x" * 65),
        lambda: edif.keep(lambda: (yield), "unpicklable") if False else edif.keep((x for x in "ab"), "generator"),
        lambda: edif.kept(),
        lambda: edif.forget("large"),
    ):
        try:
            attempt()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    edif.keep(7, "after")
    seven = edif.kept("after").save()
try:
    edif.keep(1, "outside")
except edif.NotKept as error:
    outside = str(error)
try:
    with model.trace("A prompt", remote=True):
        edif.kept("no-such")
except RemoteError as error:
    failed = str(error)
tell(said=said, seven=seven, outside=outside, failed=failed)
""",
        owner,
    )
    unknown, path, long, generator, nameless, forget = found["said"]
    assert unknown == ("NotKept: Nothing is kept as 'no-such'. There is: direction, large, nested, replaced.")
    assert path.startswith("NotKept: '../secrets' cannot be the name")
    assert "cannot be the name" in long
    assert "generator" in generator
    assert "needs the name" in nameless
    assert "nothing can be forgotten" in forget
    assert found["seven"] == 7
    assert "works inside a trace" in found["outside"]
    assert "edif.kept('no-such')" in found["failed"]  # the user's own line
    assert "There is: after, direction" in found["failed"]


def test_local_traces_have_a_shelf_of_their_own(workbench: Workbench, owner: str) -> None:
    found = told(
        workbench,
        """
import nnsight, transformers
local = nnsight.NNsight(torch.nn.Linear(2, 2))
with local.trace(torch.ones(1, 2)):
    edif.keep(local.output, "mine")
    kept_then = local.output.clone().save()
with local.trace(torch.zeros(1, 2)):
    back = edif.kept("mine").save()
try:
    with local.trace(torch.ones(1, 2)):
        edif.kept("direction")
except Exception as error:
    said = str(error)
tell(same=back.equal(kept_then), said=said, server="mine" in [one.name for one in edif.kept()])
""",
        owner,
    )
    assert found["same"]
    assert not found["server"]
    assert "Nothing is kept as 'direction'. There is: mine." in found["said"]


def test_nobody_else_sees_uses_or_removes_them(workbench: Workbench, owner: str) -> None:
    for method, path in (("GET", "/kept/large"), ("DELETE", "/kept/large"), ("DELETE", "/kept/%2e%2e")):
        assert ask(workbench, "mallory", method, path).status_code == 404
    assert "large" not in ask(workbench, "mallory", "GET", "/kept").text
    assert httpx.get(f"{workbench.installation.url('gateway')}/kept").status_code == 401
    link = ask(workbench, owner, "GET", "/kept/large").json()["data"]
    assert httpx.get(link.replace("signature=", "signature=0")).status_code == 401
    assert len(httpx.get(link).content) > 24_000_000
    assert ask(workbench, owner, "DELETE", "/kept/large").json() == {"removed": "large"}
    assert ask(workbench, owner, "DELETE", "/kept/large").status_code == 404
    assert httpx.get(link).status_code == 404
