"""The copies of models that hold memory, and the jobs on them: what there is, nothing of what is to be done about it.

:class:`~edif_backend.dispatch.residents.Residents` is built on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edif_backend.clock import Clock
from edif_backend.dispatch.placement import Copy
from edif_backend.dispatch.scaling import Crew
from edif_backend.dispatch.sites import Part
from edif_backend.models.catalogue import ModelEntry, Replicas
from edif_backend.replicas.fleet import Fleet, copy_name


@dataclass(slots=True)
class Resident:
    """A copy of a model that holds memory."""

    entry: ModelEntry
    number: int
    parts: tuple[Part, ...]
    loaded_at: float
    used_at: float
    loading: bool = True
    leaving: str = ""  #: why it goes, or nothing
    parks: bool = False  #: it goes only to make room, so it may wait in memory
    ending: bool = False  #: its process is being ended, or leaves its devices
    running: int = 0  #: jobs on it

    @property
    def name(self) -> str:
        return copy_name(self.entry.id, self.number)

    def bytes_of(self, device: str) -> int:
        """What it holds of ``device``."""
        return sum(part.size_bytes for part in self.parts if part.device == device)


class Copies:
    """Every copy by its name.

    Args:
        slots: jobs at once on each.
    """

    def __init__(self, fleet: Fleet, slots: int, clock: Clock) -> None:
        self._fleet = fleet
        self._slots = slots
        self._clock = clock
        self._residents: dict[str, Resident] = {}
        self._pressed_since: dict[str, float] = {}

    def serving(self, model: str) -> bool:
        """Whether jobs for ``model`` can be sent now."""
        return bool(self._serving(model))

    def slots(self, model: str) -> int:
        """How many jobs the copies of ``model`` run at once."""
        return len(self._serving(model)) * self._slots

    def free_slots(self, model: str) -> int:
        """How many more jobs the copies of ``model`` can take now."""
        return sum(max(self._slots - found.running, 0) for found in self._serving(model))

    def seat(self, model: str) -> str:
        """The copy that the next job of ``model`` goes to, the least busy one; the job is on it from now on."""
        chosen = min(self._serving(model), key=lambda found: found.running)
        self.sit(chosen.name)
        return chosen.name

    def sit(self, copy: str) -> None:
        """A job is on ``copy``."""
        if resident := self._residents.get(copy):
            resident.running += 1
            resident.used_at = self._clock()

    def leave(self, copy: str) -> None:
        """A job on ``copy`` has ended."""
        if resident := self._residents.get(copy):
            resident.running = max(resident.running - 1, 0)
            resident.used_at = self._clock()

    def _of(self, model: str) -> list[Resident]:
        return [found for found in self._residents.values() if found.entry.id == model]

    def _serving(self, model: str) -> list[Resident]:
        ready = [found for found in self._of(model) if not found.loading and not found.leaving]
        return sorted((found for found in ready if self._fleet.loaded(found.name)), key=lambda found: found.number)

    def held_bytes(self, device: str, *, loading: bool) -> int:
        """What copies have of ``device``: those that are being loaded, or those that are there."""
        return sum(found.bytes_of(device) for found in self._residents.values() if found.loading is loading)

    def press(self, waiting: Mapping[str, int]) -> None:
        """Note since when jobs wait for a model though all its slots are taken."""
        pressed = {model for model, count in waiting.items() if self.serving(model) and count > self.free_slots(model)}
        self._pressed_since = {model: self._pressed_since.get(model, self._clock()) for model in pressed}

    def _crew(self, entry: ModelEntry, wanted: bool) -> Crew:
        """The copies of a model as :mod:`~edif_backend.dispatch.scaling` looks at them."""
        staying = [found for found in self._of(entry.id) if not found.leaving]
        staying.sort(key=lambda found: found.number)
        idle = [None if found.loading or found.running else found.used_at for found in staying]
        wanted = wanted or any(found.running or found.loading for found in staying)
        loading = sum(found.loading for found in staying)
        limits = entry.replicas
        return Crew(limits.min, limits.max, idle, loading, wanted, self._pressed_since.get(entry.id))

    def _copy(self, resident: Resident, waiting: Mapping[str, int]) -> Copy:
        id, least = resident.entry.id, resident.entry.replicas.min
        before = sum(found.number < resident.number and not found.leaving for found in self._of(id))
        return Copy(
            resident.name,
            resident.parts,
            # The turn of a model that is still being loaded has not begun.
            self._clock() if resident.loading else resident.loaded_at,
            resident.used_at,
            pinned=resident.entry.pinned and before < least,
            busy=resident.loading or bool(waiting.get(id) or resident.running),
            leaving=bool(resident.leaving),
            model=id,
            spare=before >= least,
        )


def loads_alike(one: ModelEntry, other: ModelEntry) -> bool:
    """Whether a replica of ``one`` is a replica of ``other`` too: what differs is for listings and placement."""
    outside = {"title": "", "pinned": False, "purpose": "research", "replicas": Replicas(), "groups": ()}
    return one.model_copy(update=outside) == other.model_copy(update=outside)
