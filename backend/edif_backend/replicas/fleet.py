"""The replicas of an installation, as the dispatcher sees them: start one, run a job on it, notice that it is lost.

Runs in the dispatcher's process.  Replicas are detached actors with fixed names, so a dispatcher that starts again
finds the ones that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
import structlog
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from edif_backend.errors import ExecutorLost, ModelUnusable, ReplicaLost
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.devices import Shares
from edif_backend.replicas.call import Call, Census, Outcome
from edif_backend.replicas.line import Line, forget
from edif_backend.replicas.nodes import Node, NodeWatch, free_here_bytes, nodes
from edif_backend.replicas.replica import Replica
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

log = structlog.get_logger(__name__)

NAMESPACE = "edif"

#: How long a replica is waited for that should answer, or end, at once.
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Survivor:
    """A replica that an earlier dispatcher has left."""

    copy: str
    model: str
    node: str
    jobs: frozenset[tuple[str, int]]  #: that it runs or has ended, by id and attempt
    parts: Shares = ()  #: devices of the node, and what it has of each
    parked: bool = False


@dataclass(slots=True)
class _Known:
    actor: Any
    node: str
    name: str  #: of the actor
    line: Line | None = None  #: where it is on this machine


class Fleet:
    """Handles of the replicas, by the name of the copy (:func:`copy_name`), and the nodes they can be on."""

    def __init__(self, installation: Installation, settings: BackendSettings) -> None:
        self._installation = installation
        self._settings = settings
        self._known: dict[str, _Known] = {}
        self._parked: dict[str, _Known] = {}
        self._address = ""
        self._here = ""
        self._lines = installation.run_dir / "lines"
        self.nodes: tuple[Node, ...] = ()

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
        self._here = str(ray.get_runtime_context().get_node_id())

    def watch(self, changed: Callable[[], None]) -> None:
        """Follow the nodes from now on; ``changed`` is called, in this loop, when one has come or gone."""
        loop = asyncio.get_running_loop()

        def follow(found: tuple[Node, ...]) -> None:
            self._follow(found)
            changed()

        self._follow(nodes())
        NodeWatch(lambda found: _soon(loop, follow, found)).start()

    def _follow(self, found: tuple[Node, ...]) -> None:
        alive = {node.id for node in found}
        log.info("nodes", nodes=[node.name for node in found])
        self.nodes = found
        for copies in (self._known, self._parked):
            for copy, known in list(copies.items()):
                if known.node not in alive:
                    log.warning("replica lost with its node", copy=copy, node=known.node)
                    del copies[copy]

    async def start(self, entry: ModelEntry, number: int, node: str, parts: Shares, *, alone: bool) -> None:
        """Make a copy of a model on ``node``, or find it or bring it back there, and wait until its model is loaded.

        Args:
            parts: devices of the node and the bytes that each has for it; none: it goes into the node's memory.
            alone: whether no other copy serves: jobs that wait are told how far it is.

        Raises:
            ModelUnusable: the model cannot be loaded; the message says why.
            ReplicaLost: the replica died on the way.
        """
        # Ray counts nothing here: what fits where is decided by placement, not by Ray's idea of CPUs.
        actor_class = ray.remote(num_cpus=0, max_concurrency=1000, max_restarts=0)(Replica)
        name = _name(entry, number)
        actor = actor_class.options(
            name=name,
            lifetime="detached",
            get_if_exists=True,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(
            entry.model_dump(mode="json"),
            self._installation.model_dump(mode="json"),
            self._settings.model_dump(),  # not as JSON, which hides secrets
            name,
        )
        self._parked.pop(copy_name(entry.id, number), None)
        try:
            await actor.start.remote(tell=alone, parts=tuple(parts))
        except ray.exceptions.RayTaskError as error:
            ray.kill(actor)
            if isinstance(error.cause, ExecutorLost):
                raise ReplicaLost(str(error.cause)) from error
            raise ModelUnusable(str(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise ReplicaLost("The process that loads the model died; it is started again.") from error
        self._known[copy_name(entry.id, number)] = await self._know(actor, node, name)

    async def _know(self, actor: Any, node: str, name: str) -> _Known:
        line = await Line.to(self._lines, name) if node == self._here else None
        return _Known(actor, node, name, line)

    async def park(self, copy: str) -> bool:
        """Have a copy that runs nothing wait in the memory of its node; :meth:`start` brings it back.

        Returns:
            Whether it does; where not, it was lost.
        """
        known = self._known.pop(copy, None)
        if known is None:
            return False
        try:
            await asyncio.wait_for(known.actor.park.remote(), _END_S)
        except (ray.exceptions.RayError, TimeoutError):
            ray.kill(known.actor)
            return False
        self._parked[copy] = known
        return True

    async def stop(self, copy: str) -> None:
        """End a copy, its zygote and executors with it; returns when its process is gone."""
        known = self._known.pop(copy, None) or self._parked.pop(copy, None)
        if known is not None:
            ray.kill(known.actor)
            if known.line:
                known.line.close()
                forget(self._lines, known.name)
            with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
                await asyncio.wait_for(known.actor.census.remote(), _END_S)

    async def survivors(self, entries: Iterable[ModelEntry]) -> list[Survivor]:
        """The copies of ``entries`` that an earlier dispatcher has left; all other replicas are ended."""
        prefixes = {_name(entry): entry.id for entry in entries}
        found = []
        for name in ray.util.list_named_actors():
            if not name.startswith("replica:"):
                continue
            prefix, _, number = name.rpartition("#")
            with contextlib.suppress(ValueError):  # gone meanwhile
                actor = ray.get_actor(name)
                census = await _census(actor) if prefix in prefixes else None
                if census is None:
                    log.info("a replica that nobody knows is ended", replica=name)
                    ray.kill(actor)
                    continue
                copy = copy_name(prefixes[prefix], int(number))
                (self._parked if census.parked else self._known)[copy] = await self._know(actor, census.node, name)
                found.append(
                    Survivor(copy, prefixes[prefix], census.node, frozenset(census.jobs), census.parts, census.parked)
                )
        return found

    async def run(self, copy: str, call: Call) -> Outcome:
        """Run one job on a copy of its model.

        Raises:
            ReplicaLost: it died under the job.
        """
        known = self._known.get(copy)
        if known is None:
            raise ReplicaLost("The model's process was lost; it is started again.")
        try:
            outcome = await _through(known, call)
        except ray.exceptions.RayError as error:
            log.warning("replica lost", copy=copy, error=type(error).__name__)
            if self._known.get(copy) is known:
                del self._known[copy]
            raise ReplicaLost("The model's process was lost while the job ran; the job starts again.") from error
        return outcome

    async def stop_job(self, copy: str, job: str, attempt: int) -> None:
        """Stop a job that runs on a copy; :meth:`run` then ends with the outcome ``cancelled``."""
        known = self._known.get(copy)
        if known is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # a lost replica has stopped its jobs
                await known.actor.stop_job.remote(job, attempt)

    async def rejoin(self, copy: str | None, call: Call) -> Outcome:
        """How a job ends, or has ended, that an earlier dispatcher has sent to a copy; None: to one that is gone.

        Raises:
            ReplicaLost: there is no such replica any more, or it never heard of the job.
        """
        known = self._known.get(copy) if copy else None
        outcome: Outcome | None = None
        if known:
            with contextlib.suppress(ray.exceptions.RayError):
                outcome = await known.actor.rejoin.remote(call)
        if outcome is None:
            raise ReplicaLost("Part of the workbench was started again; the job starts again.")
        return outcome

    def free_bytes(self, node: str) -> int | None:
        """Memory that is really free on ``node``; None where it is not this machine and not known."""
        return free_here_bytes() if node == self._here else None

    async def reachable(self) -> bool:
        """Whether the Ray cluster still answers; an idle dispatcher hears nothing of its end otherwise."""
        host, _, port = self._address.rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), timeout=5)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def parked(self, copy: str) -> bool:
        """Whether a copy waits and is not known to be lost."""
        return copy in self._parked

    def loaded(self, copy: str) -> bool:
        """Whether a copy is known and not known to be lost."""
        return copy in self._known


def copy_name(model: str, number: int) -> str:
    """How a copy is called; no model's name has such a character."""
    return f"{model}#{number}"


def _name(entry: ModelEntry, number: int | None = None) -> str:
    """The actor's name, other for every other way to load the model: what was changed meanwhile is not found again."""
    loaded = entry.model_dump_json(exclude={"title", "pinned", "purpose", "replicas", "groups"})
    prefix = f"replica:{entry.id}@{hashlib.sha256(loaded.encode()).hexdigest()[:12]}"
    return prefix if number is None else f"{prefix}#{number}"


async def _through(known: _Known, call: Call) -> Outcome:
    """How a job ends: by the line, if there is one and it holds; a ``RayError`` when the replica does not."""
    outcome: Outcome | None = None
    if known.line:
        try:
            return await known.line.run(call)
        except ConnectionError:
            known.line = None
            outcome = await known.actor.rejoin.remote(call)  # it may have the job, and have ended it
    if outcome is None:
        outcome = await known.actor.run.remote(call)
    return outcome


async def _census(actor: Any) -> Census | None:
    """What a replica tells of itself; None when it does not answer."""
    try:
        answer: Census = await asyncio.wait_for(actor.census.remote(), _END_S)
    except (ray.exceptions.RayError, TimeoutError):
        return None
    return answer


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *values: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(work, *values)
