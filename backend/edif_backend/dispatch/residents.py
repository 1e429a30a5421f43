"""The models that are loaded, being loaded or on their way out, and why.

The dispatcher's part for models: on every turn :meth:`Residents.tend` follows the catalogue, the operator's orders and
the waiting jobs, asks :mod:`~edif_backend.dispatch.placement` what goes where, and has the fleet do it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from edif_backend.dispatch.placement import Copy, Device, Need, Part, plan
from edif_backend.errors import ModelUnusable, ReplicaLost, SetupFailed
from edif_backend.jobs import Jobs
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.experience import experience_with
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.memory import host_bytes, replica_bytes
from edif_backend.models.orders import Orders
from edif_backend.models.snapshots import complete, folder_of
from edif_backend.replicas.fleet import Fleet
from edif_backend.settings import BackendSettings
from edif_protocol.wire import State

log = structlog.get_logger(__name__)

#: A model that could not be loaded is tried again, for jobs that come later, after this long.
_RETRY_S = 30.0

#: How long a model is taken to need for loading before it was ever loaded.
_USUAL_LOAD_S = 20.0

#: How often a model is loaded whose process dies on the way, and how long to wait in between.
_LOADS, _LOAD_AGAIN_S = 3, 1.0

_HOST = "host"

Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(slots=True)
class _Resident:
    """A model that holds memory."""

    entry: ModelEntry
    parts: tuple[Part, ...]
    loaded_at: float
    used_at: float
    loading: bool = True
    leaving: str = ""  #: why it goes, or nothing


class Residents:
    """Which models are loaded; all changes of that are made here.

    Args:
        spawn: starts work beside the dispatcher's loop.
        turn: has the dispatcher take a turn, when something here has changed.
    """

    def __init__(
        self,
        jobs: Jobs,
        catalogue: LiveCatalogue,
        fleet: Fleet,
        settings: BackendSettings,
        models_dir: Path,
        orders: Orders,
        spawn: Spawn,
        turn: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._catalogue = catalogue
        self._fleet = fleet
        self._settings = settings
        self._models_dir = models_dir
        self._orders = orders
        self._spawn = spawn
        self._turn = turn
        self._devices = [Device(_HOST, settings.model_memory_bytes or host_bytes())]
        self._residents: dict[str, _Resident] = {}
        self._preparing: set[str] = set()
        self._fetched: set[str] = set()
        self._wanted_since: dict[str, float] = {}
        self._ordered: set[str] = set()
        self._failed_at: dict[str, float] = {}
        self._losses: Counter[str] = Counter()
        self._load_s: dict[str, float] = {}

    def start(self) -> None:
        """Forget what an earlier dispatcher said; the replicas it has left are found again."""
        self._ordered.update(self._fleet.survivors(self._catalogue.entries))
        for entry in self._catalogue.entries:
            self._jobs.deploy(entry.id, "NOT_STARTED", "", 0)

    def serving(self, model: str) -> bool:
        """Whether jobs for ``model`` can be sent now."""
        resident = self._residents.get(model)
        return bool(resident and not resident.loading and not resident.leaving and self._fleet.loaded(model))

    def serves_in_s(self, model: str) -> float:
        """In how many seconds ``model`` is expected to be loaded, by the last time that it was; a guess at first."""
        usual_s = self._load_s.get(model, _USUAL_LOAD_S)
        resident = self._residents.get(model)
        if resident is None or not resident.loading:
            return usual_s
        return max(usual_s - (self._jobs.now() - resident.loaded_at), 1.0)

    def used(self, model: str) -> None:
        """A job of ``model`` starts or ends."""
        if resident := self._residents.get(model):
            resident.used_at = self._jobs.now()

    def tend(self, waiting: Mapping[str, int], running: Mapping[str, int]) -> None:
        """Load what is wanted, let go what has to."""
        self._follow_catalogue()
        self._take_orders()
        for model in waiting.keys() - self._entries.keys():
            self._jobs.refuse_waiting(model, f"The model {model} is not served any more.", {"code": "model-unknown"})
        self._forget_lost()
        self._end_leaving(running)
        needs = self._needs(waiting)
        copies = [self._copy(resident, waiting, running) for resident in self._residents.values()]
        decided = plan(self._devices, needs, copies, self._jobs.now(), self._settings.model_turn_s)
        for model in decided.evicts:
            self._residents[model].leaving = "Another model needs its memory."
        for model, most in decided.impossible.items():
            size = next(need.size_bytes for need in needs if need.model == model)
            self._refuse(model, _too_large(size, most, self._devices[0].capacity_bytes))
        for model, parts in decided.loads.items():
            self._load(self._entries[model], parts)
        for need in needs:
            if need.model not in decided.loads and need.model not in decided.impossible:
                self._jobs.deploying(need.model, State.PROVISIONING, _who_holds(copies))
        self._fetch_missing()
        if decided.evicts and self._end_leaving(running):
            asyncio.get_running_loop().call_soon(self._turn)  # what waited for their memory has it now

    @property
    def _entries(self) -> dict[str, ModelEntry]:
        return {entry.id: entry for entry in self._catalogue.entries}

    # -- what is wished for ---------------------------------------------------

    def _follow_catalogue(self) -> None:
        if not self._catalogue.refresh():
            return
        entries = self._entries
        known = self._jobs.deployments()
        for id in entries.keys() - known.keys():
            self._jobs.deploy(id, "NOT_STARTED", "", 0)
        for id, resident in self._residents.items():
            entry = entries.get(id)
            if entry is None:
                resident.leaving = "It is not in models.toml any more."
            elif _loads_alike(entry, resident.entry):
                resident.entry = entry
            else:
                resident.leaving = "It was changed in models.toml and is loaded anew."
        self._fetched.clear()
        self._failed_at.clear()  # what was wrong may be mended now

    def _take_orders(self) -> None:
        for order in self._orders.take():
            log.info("order", act=order.act, model=order.model)
            resident = self._residents.get(order.model)
            if order.model not in self._entries:
                continue
            if order.act == "deploy" and resident is None:
                self._ordered.add(order.model)
                self._failed_at.pop(order.model, None)
                self._jobs.deploy(order.model, "DEPLOYING", "Ordered.", 0)
            elif order.act == "deploy" and self.serving(order.model):
                self._jobs.deploy(order.model, "RUNNING", "", 1)
            elif order.act == "evict" and resident is None:
                self._ordered.discard(order.model)
                self._jobs.deploy(order.model, "NOT_STARTED", "", 0)
            elif order.act == "evict" and resident and not resident.entry.pinned:
                resident.leaving = "Evicted on the operator's word."
                self._jobs.deploy(order.model, "RUNNING", "It goes when its running jobs have ended.", 1)

    def _needs(self, waiting: Mapping[str, int]) -> list[Need]:
        """What is wanted, not there, and on disk; what is not on disk yet is fetched."""
        now = self._jobs.now()
        needs = []
        for id, entry in self._entries.items():
            resting = now - self._failed_at.get(id, 0.0) < _RETRY_S and id not in waiting
            wanted = (id in waiting or id in self._ordered or entry.pinned) and not resting
            if not wanted or id in self._residents or id in self._preparing:
                if not wanted:
                    self._wanted_since.pop(id, None)
                continue
            since = self._wanted_since.setdefault(id, now)
            snapshot = complete(entry, self._models_dir)
            if snapshot is None:
                self._prepare(entry)
                continue
            try:
                size_bytes = replica_bytes(snapshot, self._settings.slots)
            except ModelUnusable as error:
                self._refuse(id, str(error))
                continue
            needs.append(Need(id, size_bytes, since, pinned=entry.pinned))
        return needs

    def _copy(self, resident: _Resident, waiting: Mapping[str, int], running: Mapping[str, int]) -> Copy:
        id = resident.entry.id
        return Copy(
            id,
            resident.parts,
            # The turn of a model that is still being loaded has not begun.
            self._jobs.now() if resident.loading else resident.loaded_at,
            resident.used_at,
            pinned=resident.entry.pinned,
            busy=resident.loading or bool(waiting.get(id) or running.get(id)),
            leaving=bool(resident.leaving),
        )

    # -- coming ---------------------------------------------------------------

    def _fetch_missing(self) -> None:
        """Fetch what nobody waits for yet, one model at a time: clients need its tokenizer before their first job."""
        if self._preparing or any(resident.loading for resident in self._residents.values()):
            return
        for id, entry in self._entries.items():
            if id in self._fetched or self._jobs.now() - self._failed_at.get(id, 0.0) < _RETRY_S:
                continue
            if complete(entry, self._models_dir) is None:
                self._prepare(entry)
                return
            self._fetched.add(id)

    def _prepare(self, entry: ModelEntry) -> None:
        self._preparing.add(entry.id)
        self._tell(entry, State.PROVISIONING, f"{entry.id} is fetched.")
        self._spawn(self._prepare_now(entry))

    async def _prepare_now(self, entry: ModelEntry) -> None:
        """Have the files made in a process of its own: some sources need torch, and all need time."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edif_backend.models", "prepare", entry.id),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        line = ""
        assert process.stdout
        async for said in process.stdout:
            line = said.decode(errors="replace").strip()[:500] or line
            self._tell(entry, State.PROVISIONING, line)
        self._preparing.discard(entry.id)
        if await process.wait() or complete(entry, self._models_dir) is None:
            self._refuse(entry.id, line)
        else:
            self._jobs.deploy(entry.id, "NOT_STARTED", "", 0)
        self._turn()

    def _load(self, entry: ModelEntry, parts: tuple[Part, ...]) -> None:
        now = self._jobs.now()
        self._residents[entry.id] = _Resident(entry, parts, now, now)
        self._ordered.discard(entry.id)
        self._wanted_since.pop(entry.id, None)
        if known_s := experience_with(entry, folder_of(entry, self._models_dir)).load_s:
            self._load_s.setdefault(entry.id, known_s)
        self._jobs.deploying(entry.id, State.PROVISIONING, f"{entry.id} is not loaded; a place for it is made.")
        self._jobs.deploy(entry.id, "DEPLOYING", "Starting.", 0)
        self._spawn(self._load_now(entry))

    async def _load_now(self, entry: ModelEntry) -> None:
        began = self._jobs.now()
        try:
            await self._fleet.start(entry)
        except (ModelUnusable, SetupFailed) as error:
            self._residents.pop(entry.id, None)
            self._refuse(entry.id, str(error), error.code)
        except ReplicaLost as error:
            await self._load_again(entry, error)
        else:
            self._failed_at.pop(entry.id, None)
            self._losses.pop(entry.id, None)
            resident = self._residents[entry.id]
            self._load_s[entry.id] = self._jobs.now() - began
            resident.loading, resident.loaded_at, resident.used_at = False, self._jobs.now(), self._jobs.now()
            log.info("model is there", model=entry.id, seconds=round(resident.loaded_at - began, 2))
            self._jobs.deploying(entry.id, State.QUEUED, "The model is loaded; waiting for a free slot.")
            self._jobs.deploy(entry.id, "RUNNING", "", 1)
        finally:
            self._turn()

    async def _load_again(self, entry: ModelEntry, error: ReplicaLost) -> None:
        """Load a model anew whose process died on the way, also when only an order asked for it; not for ever."""
        self._losses[entry.id] += 1
        log.warning("replica lost while loading", model=entry.id, times=self._losses[entry.id])
        if self._losses[entry.id] >= _LOADS:
            self._residents.pop(entry.id, None)
            self._losses.pop(entry.id)
            self._refuse(
                entry.id,
                f"The process that loads it died {_LOADS} times; most often the machine has too little memory for it.",
            )
            return
        self._jobs.deploy(entry.id, "DEPLOYING", str(error), 0)
        await asyncio.sleep(_LOAD_AGAIN_S)  # one that dies at once must not be started in a tight circle
        self._residents.pop(entry.id, None)
        self._ordered.add(entry.id)

    def _tell(self, entry: ModelEntry, state: State, text: str) -> None:
        self._jobs.deploying(entry.id, state, text)
        self._jobs.deploy(entry.id, "DEPLOYING", text, 0)

    def _refuse(self, model: str, reason: str, code: str = ModelUnusable.code) -> None:
        """Tell everybody who waits that the model cannot be loaded, and wait before it is tried again."""
        log.error("model cannot be loaded", model=model, reason=reason)
        self._failed_at[model] = self._jobs.now()
        self._ordered.discard(model)
        self._jobs.deploy(model, "UNHEALTHY", reason, 0)
        self._jobs.refuse_waiting(model, f"{model} cannot be loaded: {reason}", {"code": code})

    # -- going ----------------------------------------------------------------

    def _forget_lost(self) -> None:
        lost = [id for id, found in self._residents.items() if not found.loading and not self._fleet.loaded(id)]
        for id in lost:
            del self._residents[id]

    def _end_leaving(self, running: Mapping[str, int]) -> bool:
        """End the replicas of models that are to go and run nothing any more; whether there were any."""
        ended = False
        for id, resident in list(self._residents.items()):
            if resident.leaving and not resident.loading and not running.get(id):
                log.info("model evicted", model=id, reason=resident.leaving)
                self._fleet.stop(id)
                del self._residents[id]
                self._jobs.deploy(id, "NOT_STARTED", resident.leaving, 0)
                ended = True
        return ended


def _loads_alike(one: ModelEntry, other: ModelEntry) -> bool:
    """Whether a replica of ``one`` is a replica of ``other`` too: what differs is for listings and placement."""
    outside = {"title": "", "pinned": False, "purpose": "research", "replicas": 1, "groups": ()}
    return one.model_copy(update=outside) == other.model_copy(update=outside)


def _who_holds(copies: Sequence[Copy]) -> str:
    """Why there is no room yet, for those who wait."""
    pinned = [copy.model for copy in copies if copy.pinned]
    leaving = [copy.model for copy in copies if copy.leaving]
    busy = [copy.model for copy in copies if copy.busy and copy.model not in (*pinned, *leaving)]
    parts = [
        f"{' and '.join(models)} {'is' if len(models) == 1 else 'are'} {what}"
        for models, what in ((busy, "busy"), (leaving, "ending its jobs"), (pinned, "pinned"))
        if models
    ]
    return f"Waiting for memory that other models hold: {'; '.join(parts)}." if parts else "Waiting for memory."


def _too_large(size: int, most: int, capacity: int) -> str:
    taken = f", {(capacity - most) / 1e9:.2f} GB of it taken by pinned models" if most < capacity else ""
    return (
        f"It needs {size / 1e9:.2f} GB of memory, and models may take {capacity / 1e9:.2f} GB here{taken}. "
        "A smaller dtype halves it; the operator can raise `model_memory_bytes`."
    )
