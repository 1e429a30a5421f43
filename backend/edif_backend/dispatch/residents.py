"""The models that are loaded, being loaded or on their way out, and why.

The dispatcher's part for models: on every turn :meth:`Residents.tend` follows the catalogue, the operator's orders and
the waiting jobs, asks :mod:`~edif_backend.dispatch.placement` what goes where, and has the fleet do it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from edif_backend.dispatch.fetching import Fetching
from edif_backend.dispatch.loaded import Copies, Resident, loads_alike
from edif_backend.dispatch.placement import plan
from edif_backend.dispatch.reasons import too_large, too_little_free, who_holds
from edif_backend.dispatch.rooms import Rooms, on_node
from edif_backend.dispatch.scaling import missing, surplus, wants_spare
from edif_backend.dispatch.sites import Device, Need, Part
from edif_backend.dispatch.sizes import Size
from edif_backend.dispatch.warm import WarmCopy, WarmTier
from edif_backend.errors import ModelUnusable, ReplicaLost, SetupFailed
from edif_backend.jobs import Jobs
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.experience import experience_with
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.orders import Orders
from edif_backend.models.snapshots import complete, folder_of
from edif_backend.replicas.fleet import Fleet, Survivor, copy_name
from edif_backend.settings import BackendSettings
from edif_protocol.wire import State

log = structlog.get_logger(__name__)

#: A model that could not be loaded is tried again, for jobs that come later, after this long.
_RETRY_S = 30.0

#: How long a model is taken to need for loading before it was ever loaded, and where it waits warm.
_USUAL_LOAD_S, _WARM_LOAD_S = 20.0, 1.0

#: How often a model is loaded whose process dies on the way, and how long to wait in between.
_LOADS, _LOAD_AGAIN_S = 3, 1.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Residents(Copies):
    """Which models are loaded, in how many copies; all changes of that are made here.

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
        super().__init__(fleet, settings.slots, jobs.now)
        self._jobs = jobs
        self._catalogue = catalogue
        self._settings = settings
        self._models_dir = models_dir
        self._orders = orders
        self._spawn = spawn
        self._turn = turn
        self._fetching = Fetching(
            spawn, lambda entry, text: self._tell(entry, State.PROVISIONING, text), self._fetch_ended
        )
        self._warm = WarmTier(fleet, spawn)
        self._rooms = Rooms(fleet, self, self._warm, jobs.now)
        self._nodes: tuple[str, ...] = ()
        self._fetched: set[str] = set()
        self._wanted_since: dict[str, float] = {}
        self._ordered: set[str] = set()
        self._failed_at: dict[str, float] = {}
        self._losses: Counter[str] = Counter()
        self._load_s: dict[str, float] = {}

    async def start(self) -> dict[tuple[str, int], str]:
        """Take over the replicas that an earlier dispatcher has left; on which copy each job is that they know."""
        for entry in self._catalogue.entries:
            self._jobs.deploy(entry.id, "NOT_STARTED", "", 0)
        survivors = await self._fleet.survivors(self._catalogue.entries)
        for found in survivors:
            self._take_over(found)
        return {job: found.copy for found in survivors for job in found.jobs}

    def serves_in_s(self, model: str) -> float:
        """In how many seconds ``model`` is expected to be loaded, by the last time that it was; a guess at first."""
        usual_s = _WARM_LOAD_S if self._warm.of(model) else self._load_s.get(model, _USUAL_LOAD_S)
        began = [found.loaded_at for found in self._of(model) if found.loading]
        return max(usual_s - (self._jobs.now() - min(began)), 1.0) if began else usual_s

    # -- the turn -------------------------------------------------------------

    def tend(self, waiting: Mapping[str, int]) -> None:
        """Load what is wanted, let go what has to."""
        self._follow_catalogue()
        self._follow_nodes()
        self._take_orders()
        for model in waiting.keys() - self._entries.keys():
            self._jobs.refuse_waiting(model, f"The model {model} is not served any more.", {"code": "model-unknown"})
        self._forget_lost()
        self._warm.follow(self._entries)
        self._rooms.keep_free()
        self.press(waiting)
        self._let_go_idle()
        self._end_leaving()
        devices = self._rooms.devices()
        if devices:  # until the cluster has said what there is, nothing is impossible
            self._follow_plan(devices, waiting)
        self._fetch_missing()

    def _follow_plan(self, devices: list[Device], waiting: Mapping[str, int]) -> None:
        needs = self._needs(waiting, spread=any(device.beside for device in devices))
        copies = [self._copy(resident, waiting) for resident in self._residents.values()]
        self._warm.wanted = frozenset(name for name, need in needs.items() if need.warm_on)
        decided = plan(devices, needs.values(), copies, self._jobs.now(), self._settings.model_turn_s)
        for name in decided.evicts:
            self._residents[name].leaving = "Another model needs its memory."
            self._residents[name].parks = True
        for name, most in decided.impossible.items():
            if not self.serving(needs[name].model):
                self._refuse(needs[name].model, too_large(needs[name], most, devices))
        for name, parts in decided.loads.items():
            if not self._waits_for_memory(needs[name], parts):
                self._load(self._entries[needs[name].model], int(name.rpartition("#")[2]), parts)
        for name, need in needs.items():
            if not (name in decided.loads or name in decided.impossible or self._of(need.model)):
                self._jobs.deploying(need.model, State.PROVISIONING, who_holds(copies))
        self._end_leaving()

    def _waits_for_memory(self, need: Need, parts: Iterable[Part]) -> bool:
        """Whether a load has to wait because memory is not there that should be; who waits and the operator hear it."""
        short = self._rooms.short_of(need, parts)
        if short and not self._of(need.model):
            self._tell(self._entries[need.model], State.PROVISIONING, too_little_free(need.model, *short))
        return short is not None

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
        for resident in self._residents.values():
            entry = entries.get(resident.entry.id)
            if entry is None:
                resident.leaving = "It is not in models.toml any more."
            elif loads_alike(entry, resident.entry):
                resident.entry = entry
            else:
                resident.leaving = "It was changed in models.toml and is loaded anew."
        self._fetched.clear()
        self._failed_at.clear()  # what was wrong may be mended now

    def _follow_nodes(self) -> None:
        nodes = tuple(node.id for node in self._fleet.nodes)
        if set(nodes) - set(self._nodes):
            self._failed_at.clear()  # what fitted nowhere may fit now
        self._nodes = nodes

    def _take_orders(self) -> None:
        for order in self._orders.take():
            log.info("order", act=order.act, model=order.model)
            copies = self._of(order.model)
            if order.model not in self._entries:
                continue
            if order.act == "deploy" and not copies:
                self._ordered.add(order.model)
                self._failed_at.pop(order.model, None)
                self._jobs.deploy(order.model, "DEPLOYING", "Ordered.", 0)
            elif order.act == "deploy":
                self._note(order.model)
            elif not copies:
                self._warm.let_go(*self._warm.of(order.model))
                self._ordered.discard(order.model)
                self._jobs.deploy(order.model, "NOT_STARTED", "", 0)
            elif not copies[0].entry.pinned:
                self._warm.let_go(*self._warm.of(order.model))
                for resident in copies:
                    resident.leaving, resident.parks = "Evicted on the operator's word.", False
                count = len(self._serving(order.model))
                self._jobs.deploy(order.model, "RUNNING", "It goes when its running jobs have ended.", count)

    def _let_go_idle(self) -> None:
        for entry in self._catalogue.entries:
            staying = sorted((r for r in self._of(entry.id) if not r.leaving), key=lambda found: found.number)
            if len(staying) <= entry.replicas.min:
                continue
            for place in surplus(self._crew(entry, wanted=True), self._jobs.now(), self._settings.scale_down_s):
                staying[place].leaving = "Fewer copies are needed."

    def _needs(self, waiting: Mapping[str, int], *, spread: bool) -> dict[str, Need]:
        """What is wanted, not there, and on disk, by name of the copy; what is not on disk yet is fetched."""
        now = self._jobs.now()
        needs = {}
        for id, entry in self._entries.items():
            resting = now - self._failed_at.get(id, 0.0) < _RETRY_S and id not in waiting
            wanted = (id in waiting or id in self._ordered or entry.pinned) and not resting
            crew = self._crew(entry, wanted)
            count = missing(crew) if not resting else 0
            spare = not count and not resting and wants_spare(crew, now, self._settings.scale_up_s)
            if not (count or spare) or id in self._fetching.under_way:
                if not wanted:
                    self._wanted_since.pop(id, None)
                continue
            size = self._size(entry, spread=spread)
            if size is None:
                continue
            since, waits_on = self._wanted_since.setdefault(id, now), {w.number: w.node for w in self._warm.of(id)}
            for number in self._free_numbers(id, count + spare):
                name, pinned, node = copy_name(id, number), entry.pinned and not spare, waits_on.get(number)
                needs[name] = Need(name, size.memory_bytes, since, pinned, (), id, spare, size.spread, node)
        return needs

    def _size(self, entry: ModelEntry, *, spread: bool) -> Size | None:
        """Bytes of a copy; None when its files are not there yet, or are of no use."""
        snapshot = complete(entry, self._models_dir)
        if snapshot is None:
            self._fetching.begin(entry)
            return None
        try:
            return Size.of(snapshot, self._settings.slots, spread=spread)
        except ModelUnusable as error:
            self._refuse(entry.id, str(error))
            return None

    # -- coming ---------------------------------------------------------------

    def _fetch_missing(self) -> None:
        """Fetch what nobody waits for yet, one model at a time: clients need its tokenizer before their first job."""
        if self._fetching.under_way or any(resident.loading for resident in self._residents.values()):
            return
        for id, entry in self._entries.items():
            if id in self._fetched or self._jobs.now() - self._failed_at.get(id, 0.0) < _RETRY_S:
                continue
            if complete(entry, self._models_dir) is None:
                self._fetching.begin(entry)
                return
            self._fetched.add(id)

    def _fetch_ended(self, entry: ModelEntry, line: str, failed: bool) -> None:
        if failed or complete(entry, self._models_dir) is None:
            self._refuse(entry.id, line)
        else:
            self._jobs.deploy(entry.id, "NOT_STARTED", "", 0)
        self._turn()

    def _take_over(self, found: Survivor) -> None:
        entry = self._entries[found.model]
        number = int(found.copy.rpartition("#")[2])
        size = self._size(entry, spread=bool(found.parts))
        if size is None:
            return
        if found.parked:
            self._warm.take_over(WarmCopy(entry, number, found.node, size.parked_bytes))
        else:
            self._load(entry, number, size.parts(found.node, found.parts))

    def _load(self, entry: ModelEntry, number: int, parts: tuple[Part, ...]) -> None:
        now = self._jobs.now()
        back = self._warm.take(copy_name(entry.id, number), on_node(parts)[0])
        if not back and number in self._warm.numbers(entry.id):  # that one waits on a node without room for it
            number = self._free_numbers(entry.id, 1, fresh=True)[0]
        resident = Resident(entry, number, parts, now, now)
        alone = not self._of(entry.id)
        self._residents[resident.name] = resident
        self._ordered.discard(entry.id)
        self._wanted_since.pop(entry.id, None)
        if known_s := experience_with(entry, folder_of(entry, self._models_dir)).load_s:
            self._load_s.setdefault(entry.id, known_s)
        if alone:
            said = "comes back from memory" if back else "is not loaded; a place for it is made"
            self._jobs.deploying(entry.id, State.PROVISIONING, f"{entry.id} {said}.")
            self._jobs.deploy(entry.id, "DEPLOYING", "Starting.", 0)
        self._spawn(self._load_now(resident, alone, back))

    async def _load_now(self, resident: Resident, alone: bool, back: bool) -> None:
        began, entry = self._jobs.now(), resident.entry
        try:
            await self._fleet.start(entry, resident.number, *on_node(resident.parts), alone=alone)
        except (ModelUnusable, SetupFailed) as error:
            self._residents.pop(resident.name, None)
            self._refuse(entry.id, str(error), error.code)
        except ReplicaLost as error:
            await self._load_again(resident, error)
        else:
            self._failed_at.pop(entry.id, None)
            self._losses.pop(entry.id, None)
            self._pressed_since.pop(entry.id, None)  # what it changes is to be seen first
            if not back:
                self._load_s[entry.id] = self._jobs.now() - began
            resident.loading, resident.loaded_at, resident.used_at = False, self._jobs.now(), self._jobs.now()
            log.info("model is there", copy=resident.name, seconds=round(resident.loaded_at - began, 2))
            self._jobs.deploying(entry.id, State.QUEUED, "The model is loaded; waiting for a free slot.")
            self._note(entry.id)
        finally:
            self._turn()

    async def _load_again(self, resident: Resident, error: ReplicaLost) -> None:
        """Load a model anew whose process died on the way, also when only an order asked for it; not for ever."""
        id = resident.entry.id
        self._losses[id] += 1
        log.warning("replica lost while loading", model=id, times=self._losses[id])
        if self._losses[id] >= _LOADS:
            self._residents.pop(resident.name, None)
            self._losses.pop(id)
            self._refuse(
                id,
                f"The process that loads it died {_LOADS} times; most often the machine has too little memory for it.",
            )
            return
        if not self.serving(id):
            self._jobs.deploy(id, "DEPLOYING", str(error), 0)
        await asyncio.sleep(_LOAD_AGAIN_S)  # one that dies at once must not be started in a tight circle
        self._residents.pop(resident.name, None)
        if not self._of(id):
            self._ordered.add(id)

    def _tell(self, entry: ModelEntry, state: State, text: str) -> None:
        self._jobs.deploying(entry.id, state, text)
        self._jobs.deploy(entry.id, "DEPLOYING", text, 0)

    def _note(self, model: str) -> None:
        """Write down how many copies serve."""
        if count := len(self._serving(model)):
            self._jobs.deploy(model, "RUNNING", "", count)

    def _refuse(self, model: str, reason: str, code: str = ModelUnusable.code) -> None:
        """Tell everybody who waits that the model cannot be loaded, and wait before it is tried again."""
        log.error("model cannot be loaded", model=model, reason=reason)
        self._failed_at[model] = self._jobs.now()
        self._ordered.discard(model)
        if self.serving(model):
            return  # one copy fewer than there should be
        self._jobs.deploy(model, "UNHEALTHY", reason, 0)
        self._jobs.refuse_waiting(model, f"{model} cannot be loaded: {reason}", {"code": code})

    # -- going ----------------------------------------------------------------

    def lost(self, copy: str, reason: str) -> None:
        """The process of a copy was lost under a job."""
        model = copy.rpartition("#")[0]
        if self.serving(model):
            self._note(model)
        else:
            self._jobs.deploy(model, "DEPLOYING", reason, 0)

    def _forget_lost(self) -> None:
        for name, found in list(self._residents.items()):
            if not found.loading and not found.ending and not self._fleet.loaded(name):
                del self._residents[name]
                self.lost(name, "The model's process was lost; it is started again.")

    def _end_leaving(self) -> None:
        """End copies that are to go and run nothing any more; their memory is free afterwards."""
        for resident in self._residents.values():
            if resident.leaving and not resident.loading and not resident.running and not resident.ending:
                log.info("copy goes", copy=resident.name, reason=resident.leaving)
                resident.ending = True
                self._spawn(self._end(resident))

    async def _end(self, resident: Resident) -> None:
        size, node = self._size(resident.entry, spread=False) if resident.parks else None, on_node(resident.parts)[0]
        coming = size and WarmCopy(resident.entry, resident.number, node, size.parked_bytes)
        parks = coming and await self._warm.keep(coming, leaves_bytes=resident.bytes_of(node))
        if not parks:
            await self._fleet.stop(resident.name)
        self._residents.pop(resident.name, None)
        if self.serving(resident.entry.id):
            self._note(resident.entry.id)
        else:
            said = f"{resident.leaving} It waits in memory to come back at once." if parks else resident.leaving
            self._jobs.deploy(resident.entry.id, "NOT_STARTED", said, 0)
        self._turn()

    def _free_numbers(self, model: str, count: int, *, fresh: bool = False) -> list[int]:
        return self._warm.free_numbers(model, {found.number for found in self._of(model)}, count, fresh=fresh)
