"""Placement: which models are loaded where, and which go, as one pure function of what there is.

Called by the dispatcher on every turn.  It looks at nothing but its
arguments, so its promises are properties that tests can try on thousands of situations:

- no device ever holds more than its capacity, not even while one model goes and another comes: a load starts only in
  room that is free now, and the room of a copy that is leaving is free when it has left;
- pinned models stay; of the others the least recently used goes first, and none goes without need;
- copies beyond what a model must have take only room that nobody waits for, and are the first to go;
- copies of one model are on different devices where they can be, and never make room for one another;
- a model that was just loaded and has work keeps its place for a turn, so that two models which do not fit together
  take turns instead of throwing each other out job by job;
- a copy is on one node: whole on one device there, or cut between layers over several; where models lie on devices of
  their own, what it needs beside them in the node's memory is there too (:mod:`~edif_backend.dispatch.sites`);
- a model that can never fit is named with its need, and stands in nobody's way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edif_backend.dispatch.sites import Device, Need, Part, Sites


@dataclass(frozen=True, slots=True)
class Copy:
    """A loaded copy of a model."""

    name: str
    parts: tuple[Part, ...]
    loaded_at: float
    used_at: float
    pinned: bool = False
    busy: bool = False  #: it runs jobs, or jobs wait for it
    leaving: bool = False  #: it was told to go and gets no more jobs; what it holds is not free yet
    model: str = ""  #: whose copy it is; empty: it is the only one
    spare: bool = False  #: more than the model must have


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, by the names of copies.

    One that is in none of these waits for room that others are leaving, or for its turn.
    """

    loads: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    evicts: tuple[str, ...] = ()
    impossible: dict[str, int] = field(default_factory=dict)  #: bytes there could ever be for it


def plan(devices: Sequence[Device], needs: Iterable[Need], copies: Sequence[Copy], now: float, turn_s: float) -> Plan:
    """What to load and what to evict; pinned needs first, then whoever waits longest.

    A copy that was loaded less than ``turn_s`` seconds ago and has work is left alone, unless it is a spare one.
    """
    sites = Sites(devices)
    free = _free(devices, copies)
    staying = [copy for copy in copies if not copy.leaving]
    # The room that will be there once those on their way out have gone; whoever comes first in line counts on it.
    coming = _free(devices, staying)
    # What others than models have taken comes back one day.
    whole = [replace(device, lost_bytes=0) for device in devices]
    without_others = _free(whole, [copy for copy in staying if copy.pinned])
    evictable = sorted(
        (copy for copy in staying if not copy.pinned and not (_in_turn(copy, now, turn_s))),
        key=lambda copy: (not copy.spare, copy.used_at, copy.loaded_at, copy.name),
    )
    beside = _beside(copies)
    loads: dict[str, tuple[Part, ...]] = {}
    evicts: list[str] = []
    impossible: dict[str, int] = {}
    for need in sorted(needs, key=lambda need: (need.spare, not need.pinned, need.since, need.name)):
        others = beside[need.model or need.name]
        if sites.fit(need, without_others) is None:
            if need.spare:
                continue
            impossible[need.name] = sites.most_bytes(need, without_others)
            continue
        gone = _least_evictions(need, sites, coming, evictable)
        if gone is None:
            continue  # those in the way have their turn
        for copy in gone:
            evicts.append(copy.name)
            evictable.remove(copy)
            _give_back(coming, copy)
        parts = sites.fit(need, _both(free, coming), others) if not gone else None
        if parts is None and need.spare:
            continue
        promised = parts or sites.fit(need, coming, others)
        assert promised is not None
        if parts is not None:
            loads[need.name] = parts
            _take(free, parts)
        else:
            _reserve(free, promised)
        _take(coming, promised)
        others.update(part.device for part in promised)
        if need.pinned:
            _take(without_others, promised)
    return Plan(loads, tuple(evicts), impossible)


def _in_turn(copy: Copy, now: float, turn_s: float) -> bool:
    return copy.busy and not copy.spare and now - copy.loaded_at < turn_s


def _beside(copies: Iterable[Copy]) -> defaultdict[str, set[str]]:
    """The devices on which each model is."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for copy in copies:
        found[copy.model or copy.name].update(part.device for part in copy.parts)
    return found


def _both(free: Mapping[str, int], coming: Mapping[str, int]) -> dict[str, int]:
    """Room that is free and was promised to nobody."""
    return {device: min(left, coming[device]) for device, left in free.items()}


def _least_evictions(
    need: Need, sites: Sites, coming: Mapping[str, int], evictable: Sequence[Copy]
) -> list[Copy] | None:
    """Whom to send away for ``need``, least recently used first; None if even that makes too little room."""
    room = dict(coming)
    gone: list[Copy] = []
    model = need.model or need.name
    candidates = iter([] if need.spare else [copy for copy in evictable if (copy.model or copy.name) != model])
    while sites.fit(need, room) is None:
        copy = next(candidates, None)
        if copy is None:
            return None
        gone.append(copy)
        _give_back(room, copy)
    for copy in list(reversed(gone)):  # who was on the way but on another device, or too small to matter, stays
        trial = dict(room)
        _take(trial, copy.parts)
        if sites.fit(need, trial) is not None:
            gone.remove(copy)
            room = trial
    return gone


def _free(devices: Sequence[Device], copies: Iterable[Copy]) -> dict[str, int]:
    room = {device.name: device.capacity_bytes - device.lost_bytes for device in devices}
    for copy in copies:
        _take(room, copy.parts)
    return room


def _take(room: dict[str, int], parts: Iterable[Part]) -> None:
    for part in parts:
        if part.device in room:  # one that is lost holds nothing
            room[part.device] -= part.size_bytes


def _reserve(free: dict[str, int], parts: Iterable[Part]) -> None:
    """Keep what is free for a load that waits for the rest of its room, so that a smaller one does not take it."""
    for part in parts:
        free[part.device] = max(min(free[part.device], 0), free[part.device] - part.size_bytes)


def _give_back(room: dict[str, int], copy: Copy) -> None:
    for part in copy.parts:
        if part.device in room:
            room[part.device] += part.size_bytes
