"""The replicas of an installation, as the dispatcher sees them: start one, run a job on it, notice that it is lost.

Runs in the dispatcher's process.  Replicas are detached actors with fixed names, so a dispatcher that starts again
finds the ones that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable
from typing import Any

import ray
import ray.exceptions
import structlog

from edif_backend.errors import ModelUnusable, ReplicaLost
from edif_backend.models.catalogue import ModelEntry
from edif_backend.replicas.call import Call, Outcome
from edif_backend.replicas.replica import Replica
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

log = structlog.get_logger(__name__)

NAMESPACE = "edif"


class Fleet:
    """Handles of the replicas, by model."""

    def __init__(self, installation: Installation, settings: BackendSettings) -> None:
        self._installation = installation
        self._settings = settings
        self._actors: dict[str, Any] = {}
        self._address = ""

    def connect(self, address: str) -> None:
        """Join the Ray cluster at ``address``.

        Raises:
            ConnectionError: Ray does not answer there.
        """
        self._address = address
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        except (RuntimeError, ray.exceptions.RaySystemError) as error:
            raise ConnectionError(f"Ray does not answer at {address}: {error}") from error

    async def start(self, entry: ModelEntry) -> None:
        """Make the replica of a model, or find it, and wait until its model is loaded.

        Raises:
            ModelUnusable: the model cannot be loaded; the message says why.
            ReplicaLost: the replica died on the way.
        """
        # Ray counts nothing here: what fits where is decided by placement, not by Ray's idea of CPUs.
        actor_class = ray.remote(num_cpus=0, max_concurrency=1000, max_restarts=0)(Replica)
        actor = actor_class.options(name=_name(entry), lifetime="detached", get_if_exists=True).remote(
            entry.model_dump(mode="json"),
            self._installation.model_dump(mode="json"),
            self._settings.model_dump(),  # not as JSON, which hides secrets
        )
        try:
            await actor.start.remote()
        except ray.exceptions.RayTaskError as error:
            ray.kill(actor)
            raise ModelUnusable(str(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise ReplicaLost("The process that loads the model died; it is started again.") from error
        self._actors[entry.id] = actor

    def stop(self, model: str) -> None:
        """End the replica of ``model``; its zygote and executors go with it."""
        actor = self._actors.pop(model, None)
        if actor is not None:
            ray.kill(actor)

    def survivors(self, entries: Iterable[ModelEntry]) -> list[str]:
        """Which of ``entries`` have a replica that an earlier dispatcher has left; all other replicas are ended."""
        names = {_name(entry): entry.id for entry in entries}
        found = [name for name in ray.util.list_named_actors() if name.startswith("replica:")]
        for name in found:
            if name not in names:
                log.info("a replica that nobody knows is ended", replica=name)
                with contextlib.suppress(ValueError):  # gone meanwhile
                    ray.kill(ray.get_actor(name))
        return [names[name] for name in found if name in names]

    async def run(self, model: str, call: Call) -> Outcome:
        """Run one job on the replica of ``model``.

        Raises:
            ReplicaLost: it died under the job.
        """
        actor = self._actors.get(model)
        if actor is None:
            raise ReplicaLost("The model's process was lost; it is started again.")
        try:
            outcome: Outcome = await actor.run.remote(call)
        except ray.exceptions.RayError as error:
            log.warning("replica lost", model=model, error=type(error).__name__)
            if self._actors.get(model) is actor:
                del self._actors[model]
            raise ReplicaLost("The model's process was lost while the job ran; the job starts again.") from error
        return outcome

    async def stop_job(self, model: str, job: str, attempt: int) -> None:
        """Stop a job that runs on the replica of ``model``; :meth:`run` then ends with the outcome ``cancelled``."""
        actor = self._actors.get(model)
        if actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # a lost replica has stopped its jobs
                await actor.stop_job.remote(job, attempt)

    async def rejoin(self, entry: ModelEntry | None, call: Call) -> Outcome:
        """How a job ends, or has ended, that an earlier dispatcher has sent to the replica of ``entry``.

        Raises:
            ReplicaLost: there is no such replica any more, or it never heard of the job.
        """
        lost = "Part of the workbench was started again; the job starts again."
        try:
            if entry is None:
                raise ReplicaLost(lost)
            outcome: Outcome | None = await ray.get_actor(_name(entry)).rejoin.remote(call)
        except (ValueError, ray.exceptions.RayError) as error:  # ValueError: there is no actor of that name
            raise ReplicaLost(lost) from error
        if outcome is None:
            raise ReplicaLost(lost)
        return outcome

    async def reachable(self) -> bool:
        """Whether the Ray cluster still answers; an idle dispatcher hears nothing of its end otherwise."""
        host, _, port = self._address.rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), timeout=5)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def loaded(self, model: str) -> bool:
        """Whether a replica of ``model`` is known and not known to be lost."""
        return model in self._actors


def _name(entry: ModelEntry) -> str:
    """The actor's name, other for every other way to load the model: what was changed meanwhile is not found again."""
    loaded = entry.model_dump_json(exclude={"title", "pinned", "purpose", "replicas", "groups"})
    return f"replica:{entry.id}@{hashlib.sha256(loaded.encode()).hexdigest()[:12]}"
