"""Models added, loaded, evicted and pinned by command while the workbench runs, with memory for two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edif_protocol.mirror_ticket import endpoint

FIRST, SECOND, THIRD = "edif/tiny-gpt2", "house/second", "house/third"


@pytest.fixture(scope="module")
def running(new_installation: Callable[[str], Any]) -> Any:
    made = new_installation("live-models")
    made.installation.config_file.write_text("[backend]\nslots = 1\nmodel_memory_bytes = 1_300_000_000\n")
    made.up()
    for id in (SECOND, THIRD):
        added = made.edif("models", "add", id, "--source", "tiny", "--title", "Another random GPT-2")
        assert added.returncode == 0, added.stderr
    for id in (SECOND, THIRD):
        wait_for_files(made, id)
    return made


def wait_for_files(running: Any, id: str) -> None:
    """Return when the mirror has the model's files, which are made as soon as it is added."""
    mirror = endpoint(running.installation, ["lab"], time.time() + 600)
    address = f"{mirror}/{id}/resolve/main/config.json"
    for _ in range(240):
        if httpx.head(address).status_code == 200:
            return
        time.sleep(0.5)
    raise AssertionError(f"{id} was not made ready: {running.edif('models').stdout}")


def states(running: Any) -> dict[str, str]:
    return {model["id"]: model["state"] for model in running.json("models")}


def width(running: Any, model: str) -> str:
    """The width of the stream of ``model``, by a trace of an unmodified client."""
    done = running.run_client(
        "from nnsight import TransformersModel\n"
        f"model = TransformersModel({model!r}, task='text-generation')\n"
        "with model.trace('Hello', remote=True):\n"
        "    kept = model.transformer.h[0].output.save()\n"
        "print('width', kept.shape[-1])"
    )
    return str(done.stdout + done.stderr)


def test_an_added_model_is_served_without_a_restart_and_the_least_used_goes_for_it(running: Any) -> None:
    assert states(running) == {FIRST: "RUNNING", SECOND: "NOT_STARTED", THIRD: "NOT_STARTED"}
    assert "width 128" in width(running, SECOND)
    assert states(running) == {FIRST: "RUNNING", SECOND: "RUNNING", THIRD: "NOT_STARTED"}
    assert "width 128" in width(running, THIRD)
    assert states(running) == {FIRST: "RUNNING", SECOND: "NOT_STARTED", THIRD: "RUNNING"}
    assert [member["role"] for member in running.json("pids")].count("replica") == 2


def test_a_model_is_deployed_and_evicted_by_command(running: Any) -> None:
    deployed = running.edif("models", "deploy", SECOND)
    assert deployed.returncode == 0, deployed.stderr
    assert states(running)[SECOND] == "RUNNING"
    evicted = running.edif("models", "evict", SECOND)
    assert evicted.returncode == 0, evicted.stderr
    assert states(running)[SECOND] == "NOT_STARTED"


def test_a_pinned_model_stays_until_it_is_unpinned(running: Any) -> None:
    refused = running.edif("models", "evict", FIRST)
    assert refused.returncode == 1
    assert f"edif models unpin {FIRST}" in refused.stderr
    assert running.edif("models", "unpin", FIRST).returncode == 0
    assert running.edif("models", "evict", FIRST).returncode == 0
    assert states(running)[FIRST] == "NOT_STARTED"
    assert running.edif("models", "pin", FIRST).returncode == 0
    assert running.edif("models", "deploy", FIRST).returncode == 0


def test_a_model_for_a_group_is_refused_to_others_and_not_listed(running: Any) -> None:
    path = running.installation.models_file
    whole = path.read_text()
    path.write_text(f'{whole}\n[models."house/theirs"]\ntitle = "t"\nsource = "tiny"\ngroups = ["lab"]\n')
    try:
        wait_for_files(running, "house/theirs")
        said = width(running, "house/theirs")
        assert "house/theirs may be used by members of lab only, and ada is in none of these groups" in said
        listed = httpx.get(f"{running.installation.url('gateway')}/status").json()["deployments"]
        assert "house/theirs" not in listed
        assert FIRST in listed
        assert "house/theirs" in states(running), "the operator sees it"
    finally:
        path.write_text(whole)


def test_a_broken_file_is_told_and_the_models_go_on(running: Any) -> None:
    path = running.installation.models_file
    whole = path.read_text()
    path.write_text(whole + "\n[models.")
    listed = running.edif("models")
    assert "is not valid TOML" in listed.stderr
    assert "The models of the last valid file are served." in listed.stderr
    assert "width 128" in width(running, FIRST)
    path.write_text(whole)
    assert running.edif("models").stderr == ""
