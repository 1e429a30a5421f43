"""What the fabric is and how it is: ``/ping``, ``/connected``, ``/status``, ``/env``, ``/whoami``."""

from __future__ import annotations

import functools
import sys
from importlib.metadata import distributions, packages_distributions
from typing import Any

from fastapi import APIRouter, Request

from edif_backend.errors import NotServing
from edif_backend.gateway.parts import parts_of
from edif_backend.jobs import Jobs
from edif_protocol.wire import ModelKey

routes = APIRouter()


@routes.get("/ping")
async def ping() -> str:
    """``"pong"``: this process is up."""
    return "pong"


@routes.head("/connected", include_in_schema=False)
@routes.get("/connected")
async def connected(request: Request) -> dict[str, str]:
    """Whether jobs are being worked on: the dispatcher has given a sign of life."""
    if sentence := await parts_of(request).nobody_works():
        raise NotServing(sentence)
    return {"status": "connected"}


@routes.get("/status")
async def status(request: Request) -> dict[str, Any]:
    """Every model that the asking user may use, its state in the words of nnsight's ``status()``, and its queue.

    ``wait_s`` is how long a job of somebody new is expected to wait, in seconds.
    """
    parts = parts_of(request)
    user = await parts.user_or_none(request)
    parts.catalogue.refresh()
    known, waiting = await parts.ask(Jobs.deployments), await parts.ask(Jobs.waiting)
    running = await parts.ask(Jobs.claimed)
    deployments: dict[str, Any] = {}
    listed = [entry for entry in parts.catalogue.entries if entry.open_to(user.groups if user else frozenset())]
    for entry in listed:
        deployment = known.get(entry.id)
        state = deployment.state if deployment else "NOT_STARTED"
        deployments[entry.id] = {
            "model_key": ModelKey(repo_id=entry.id, revision=None, task=entry.task).text(),
            "repo_id": entry.id,
            "revision": entry.revision,
            "task": entry.task,
            "trust_remote_code": entry.trust_remote_code,
            "deployment_level": "HOT" if state == "RUNNING" else "WARM" if state == "DEPLOYING" else "COLD",
            "application_state": state,
            "description": deployment.description if deployment else "",
            "replicas": deployment.replicas if deployment else 0,
            "title": entry.title,
            "dtype": entry.dtype,
            "pinned": entry.pinned,
            "purpose": entry.purpose,
        }
    return {
        "deployments": deployments,
        "waiting": {model: sum(users.values()) for model, users in waiting.items() if model in deployments},
        "queue": {
            entry.id: {
                "waiting": sum(waiting.get(entry.id, {}).values()),
                "users": len(waiting.get(entry.id, {})),
                "running": running.get(entry.id, 0),
                "wait_s": known[entry.id].wait_s if entry.id in known else None,
            }
            for entry in listed
        },
        "catalogue_problem": parts.catalogue.problem,
    }


@routes.get("/env")
async def environment() -> dict[str, Any]:
    """Python and package versions that jobs run with, for ``nnsight.compare()``."""
    return _environment()


@functools.cache
def _environment() -> dict[str, Any]:
    names: dict[str, list[str]] = {}
    for name, owners in packages_distributions().items():
        for owner in owners:
            names.setdefault(owner, []).append(name)
    packages: dict[str, str] = {}
    for distribution in distributions():
        for name in names.get(distribution.metadata["Name"], [distribution.metadata["Name"]]):
            packages[name] = distribution.version
    return {"python_version": sys.version, "packages": packages}


@routes.get("/whoami")
async def whoami(request: Request) -> dict[str, Any]:
    """Whose key this is; an unknown key is nobody, not an error (as nnsight's ``whoami()`` expects)."""
    user = await parts_of(request).user_or_none(request)
    return {"email": user.name if user else None, "tags": sorted(user.groups) if user else []}
