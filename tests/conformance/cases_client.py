"""The client's other ways to a result, and what it asks the service about itself."""

# ruff: noqa: PT017, RET504 - blocks as users write them

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nnsight
import torch
from cases import PROMPT, case
from nnsight.intervention.backends.remote import AsyncRemoteBackend, RemoteBackend, RemoteError
from nnsight.schema.config import CONFIG
from nnsight.schema.response import Status


def finished(backend: RemoteBackend) -> dict:
    """Poll as nnsight's documentation does."""
    for _ in range(600):
        result = backend()
        if result is not None:
            return result
        time.sleep(0.05)
    raise TimeoutError("the job did not end")


def sent(model) -> RemoteBackend:
    """A job that nobody waits for."""
    with model.trace(PROMPT, remote=True, blocking=False) as tracer:
        logits = model.output.logits.save()  # noqa: F841 - comes back by its name
    return tracer.backend


@case("Waiting", "blocking=False and polling; the result by name")
def non_blocking(model, remote):
    if not remote:
        with model.trace(PROMPT):
            logits = model.output.logits.save()
        return logits
    return finished(sent(model))["logits"]


@case("Waiting", "a finished job polled again and again", alone=True)
def polled_again(model, remote):
    backend = sent(model)
    first = finished(backend)
    for _ in range(3):
        assert torch.equal(backend()["logits"], first["logits"])
    assert backend.status == Status.COMPLETED


@case("Waiting", "job_id= of another object, later", alone=True)
def by_job_id(model, remote):
    backend = sent(model)
    first = finished(backend)
    later = RemoteBackend(model.to_model_key(), blocking=False, job_id=backend.job_id)
    assert torch.equal(finished(later)["logits"], first["logits"])
    with model.trace(PROMPT, remote=True, blocking=False, job_id=backend.job_id) as tracer:
        logits = model.output.logits.save()  # noqa: F841
    assert torch.equal(finished(tracer.backend)["logits"], first["logits"])


@case("Waiting", "several jobs sent, then collected in another order", alone=True)
def several_at_once(model, remote):
    backends = []
    for token in range(4):
        with model.trace(torch.tensor([[token]]), remote=True, blocking=False) as tracer:
            seen = model.transformer.wte.input.save()  # noqa: F841
        backends.append(tracer.backend)
    for token in (2, 0, 3, 1):
        assert finished(backends[token])["seen"].item() == token


@case("Waiting", "a failed job raises when it is polled", alone=True)
def non_blocking_fails(model, remote):
    with model.trace(PROMPT, remote=True, blocking=False) as tracer:
        mistake = model.output.logits[99].save()  # noqa: F841
    try:
        finished(tracer.backend)
    except RemoteError as error:
        assert "IndexError" in str(error)
        assert tracer.backend.status == Status.ERROR
    else:
        raise AssertionError("no error")


@case("Waiting", "a job id that does not exist is not an answer yet, as nnsight takes a 404", alone=True)
def unknown_job(model, remote):
    assert RemoteBackend(model.to_model_key(), blocking=False, job_id="0" * 32)() is None


@case("Waiting", "AsyncRemoteBackend awaited", alone=True)
def awaited(model, remote):
    async def job():
        backend = AsyncRemoteBackend(model.to_model_key())
        with model.trace(PROMPT, backend=backend):
            logits = model.output.logits.save()  # noqa: F841
        return await backend

    assert asyncio.run(job())["logits"].shape[0] == 1


@case("Waiting", "AsyncRemoteBackend iterated: states, then the result", alone=True)
def iterated(model, remote):
    async def job():
        backend = AsyncRemoteBackend(model.to_model_key())
        with model.trace(PROMPT, backend=backend):
            logits = model.output.logits.save()  # noqa: F841
        return [update async for update in backend]

    *states, result = asyncio.run(job())
    names = [state.status.value for state in states]
    assert names[-1] == "COMPLETED"
    assert "RUNNING" in names
    assert result["logits"].shape[0] == 1


@case("Waiting", "ten AsyncRemoteBackends at once", alone=True)
def gathered(model, remote):
    async def job(token):
        backend = AsyncRemoteBackend(model.to_model_key())
        with model.trace(torch.tensor([[token]]), backend=backend):
            seen = model.transformer.wte.input.save()  # noqa: F841
        return (await backend)["seen"].item()

    async def all_jobs():
        return await asyncio.gather(*(job(token) for token in range(10)))

    assert asyncio.run(all_jobs()) == list(range(10))


@case("Waiting", "AsyncRemoteBackend and a failing block", alone=True)
def async_fails(model, remote):
    async def job():
        backend = AsyncRemoteBackend(model.to_model_key())
        with model.trace(PROMPT, backend=backend):
            mistake = model.output.logits[99].save()  # noqa: F841
        await backend

    try:
        asyncio.run(job())
    except RemoteError as error:
        assert "IndexError" in str(error)
    else:
        raise AssertionError("no error")


@case(
    "Waiting", "verbose=True tells sizes and states", alone=True, tells=("payload:", "RUNNING", "COMPLETED", "result:")
)
def verbose(model, remote):
    with model.trace(PROMPT, remote=True, verbose=True):
        logits = model.output.logits.save()
    assert logits.dim() == 3


@case("Waiting", 'another host in the call (remote="http://…")', alone=True)
def host_in_call(model, remote):
    host, CONFIG.API.HOST = CONFIG.API.HOST, "http://127.0.0.1:9"
    try:
        with model.trace(PROMPT, remote=host):
            logits = model.output.logits.save()
    finally:
        CONFIG.API.HOST = host
    assert logits.dim() == 3


@case("Waiting", 'a dry run (remote="local") gives what the server gives')
def dry_run(model, remote):
    if remote:
        with model.trace(PROMPT, remote=True):
            hidden = model.transformer.h[1].output.save()
    else:
        with model.trace(PROMPT, remote="local"):
            hidden = model.transformer.h[1].output.save()
    return hidden


@case("Waiting", "a session with blocking=False", alone=True)
def session_non_blocking(model, remote):
    with model.session(remote=True, blocking=False) as tracer:
        with model.trace(PROMPT):
            hidden = model.transformer.h[1].output
        total = hidden.sum().save()  # noqa: F841
    assert finished(tracer.backend)["total"].dim() == 0


@case("Service", "nnsight.status()", alone=True)
def status(model, remote):
    found = nnsight.status()
    assert found.status.value == "UP"
    assert "edif/tiny-gpt2" in found
    assert "edif/tiny-gpt2" in str(found)
    assert nnsight.status(raw=True)["deployments"]


@case("Service", "nnsight.is_model_running()", alone=True)
def is_model_running(model, remote):
    assert nnsight.is_model_running("edif/tiny-gpt2")
    assert nnsight.is_model_running("edif/tiny-gpt2", task="text-generation")
    assert not nnsight.is_model_running("edif/tiny-gpt2", revision="another")


@case("Service", "nnsight.whoami(), with a key and with a wrong one", alone=True)
def whoami(model, remote):
    assert nnsight.whoami()["email"] == "ada"
    assert nnsight.whoami("0" * 32)["email"] is None


@case("Service", "nnsight.compare()", alone=True)
def compare(model, remote):
    compared = nnsight.compare()
    assert compared.python_matches
    assert compared.critical_mismatches == {}
    assert "torch" in str(compared)


@case("Service", "nnsight.login() keeps the key for the next process", alone=True)
def login(model, remote):
    key, place = CONFIG.API.APIKEY, Path.cwd() / "private.yaml"
    before = os.environ.get("NNSIGHT_CONFIG")
    os.environ["NNSIGHT_CONFIG"] = str(place)
    try:
        nnsight.login(key)
        variables = {name: value for name, value in os.environ.items() if name != "NDIF_API_KEY"}
        asked = subprocess.run(
            [sys.executable, "-c", "from nnsight.ndif import whoami; print(whoami()['email'])"],
            env=variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout.strip() == "ada"
    finally:
        place.unlink(missing_ok=True)
        os.environ.pop("NNSIGHT_CONFIG")
        if before is not None:
            os.environ["NNSIGHT_CONFIG"] = before


@case("Service", "/ping and /connected", alone=True)
def ping(model, remote):
    assert httpx.get(f"{CONFIG.API.HOST}/ping").json() == "pong"
    assert httpx.get(f"{CONFIG.API.HOST}/connected").json() == {"status": "connected"}


def refused(model, sentence: str, by: type[Exception] = RemoteError) -> None:
    """The next job must be refused with a sentence, by the gateway or, before it is sent, by the mirror."""
    try:
        with model.trace(PROMPT, remote=True):
            logits = model.output.logits.save()  # noqa: F841
    except by as error:
        assert sentence in str(error), str(error)
        return
    raise AssertionError("it was taken")


@case("Service", "another nnsight is refused before anything is queued", alone=True)
def other_version(model, remote):
    from nnsight.intervention.backends import remote as client

    before, client._NNSIGHT_VERSION = client._NNSIGHT_VERSION, "0.7.0"
    try:
        refused(model, "0.8")
    finally:
        client._NNSIGHT_VERSION = before


@case("Service", "a wrong key is refused, and says where to get one", alone=True)
def wrong_key(model, remote):
    before, CONFIG.API.APIKEY = CONFIG.API.APIKEY, "0" * 32
    try:
        refused(model, "Get one at http")
    finally:
        CONFIG.API.APIKEY = before


@case("Service", "a model that is not served is refused", alone=True)
def unknown_model(model, remote):
    before, model.repo_id = model.repo_id, "edif/no-such-model"
    try:
        refused(model, '"edif/no-such-model" is not served here. ', by=Exception)
    finally:
        model.repo_id = before


@case("Pristine", "weights written by one job are as before for the next", alone=True)
def weights_again(model, remote):
    before = read(model)
    with model.trace(PROMPT, remote=True):
        model.transformer.h[1].mlp.c_fc.weight.data.zero_()
        changed = model.output.logits.save()
    assert not torch.equal(changed, before)
    assert torch.equal(read(model), before)


@case(
    "Pristine",
    "hooks, modules, config, default dtype, grad mode and seeds of one job are gone for the next",
    alone=True,
)
def settings_again(model, remote):
    before = read(model)
    with model.trace(PROMPT, remote=True):
        logits = model.output.logits.save()
        inner = model._module
        inner.transformer.h[1].register_forward_hook(lambda module, given, output: output * 0)
        inner.transformer.h[2] = torch.nn.Identity()
        inner.config.n_layer = 1
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.nn.functional.gelu = torch.relu
    assert torch.equal(logits, before)
    assert torch.equal(read(model), before)
    with model.trace(PROMPT, remote=True):
        facts = [
            model.config.n_layer,
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.nn.functional.gelu is torch.relu,
        ].save()
    assert facts == [4, torch.float32, True, False]


def read(model) -> torch.Tensor:
    """The logits of the unchanged model."""
    with model.trace(PROMPT, remote=True):
        logits = model.output.logits.save()
    return logits
