"""Placement: what it promises, tried on thousands of situations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edif_backend.dispatch.placement import Copy, Plan, plan
from edif_backend.dispatch.sites import Device, Need, Part

TURN_S = 30.0
NOW = 1000.0
MODELS = [f"m{number}" for number in range(8)]

Situation = tuple[list[Device], list[Need], list[Copy]]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Devices, copies that fit on them, and needs of any size."""
    devices = [Device(f"d{number}", draw(st.integers(0, 100))) for number in range(draw(st.integers(1, 4)))]
    free = {device.name: device.capacity_bytes for device in devices}
    copies, needs = [], []
    for model in draw(st.permutations(MODELS)):
        if draw(st.booleans()):
            layers = tuple(draw(st.lists(st.integers(1, 40), max_size=5)))
            size = sum(layers) or draw(st.integers(1, 120))
            needs.append(Need(model, size, draw(st.floats(0, NOW)), draw(st.booleans()), layers))
            continue
        parts = []
        for device in draw(st.lists(st.sampled_from(sorted(free)), min_size=1, max_size=2, unique=True)):
            size = draw(st.integers(0, free[device]))
            free[device] -= size
            parts.append(Part(device, size))
        used = draw(st.floats(900, NOW))
        flags = [draw(st.booleans()) for _ in range(3)]
        copies.append(Copy(model, tuple(parts), draw(st.floats(900, used)), used, *flags))
    return devices, needs, copies


def held(devices: list[Device], parts: list[Part]) -> dict[str, int]:
    sizes = Counter({device.name: 0 for device in devices})
    for part in parts:
        sizes[part.device] += part.size_bytes
    return sizes


def decide(situation: Situation) -> Plan:
    devices, needs, copies = situation
    return plan(devices, needs, copies, NOW, TURN_S)


@given(situations())
def test_never_over_capacity_not_even_while_one_goes_and_another_comes(situation: Situation) -> None:
    devices, _, copies = situation
    decided = decide(situation)
    parts = [part for copy in copies for part in copy.parts]
    parts += [part for load in decided.loads.values() for part in load]
    assert all(held(devices, parts)[device.name] <= device.capacity_bytes for device in devices)


@given(situations())
def test_each_load_is_whole_or_cut_between_layers_one_part_a_device(situation: Situation) -> None:
    _, needs, _ = situation
    for model, parts in decide(situation).loads.items():
        need = next(need for need in needs if need.name == model)
        assert sum(part.size_bytes for part in parts) == need.size_bytes
        assert len({part.device for part in parts}) == len(parts)
        cuts = {sum(need.layers[:number]) for number in range(len(need.layers) + 1)} | {need.size_bytes}
        assert all(sum(part.size_bytes for part in parts[:number]) in cuts for number in range(1, len(parts) + 1))


@given(situations())
def test_pinned_models_and_those_in_their_turn_stay(situation: Situation) -> None:
    evicts = set(decide(situation).evicts)
    for copy in situation[2]:
        if copy.pinned or copy.leaving or (copy.busy and NOW - copy.loaded_at < TURN_S):
            assert copy.name not in evicts


@given(situations())
def test_nobody_goes_without_need(situation: Situation) -> None:
    # tried on whole loads and with nobody on the way out: then who finds room by best fit is known beforehand
    devices, needs, copies = situation
    needs = [Need(need.name, need.size_bytes, need.since, need.pinned) for need in needs]
    copies = [copy for copy in copies if not copy.leaving]
    decided = plan(devices, needs, copies, NOW, TURN_S)
    taken = held(devices, [part for copy in copies for part in copy.parts])
    room = {device.name: device.capacity_bytes - taken[device.name] for device in devices}
    for need in sorted(needs, key=lambda need: (not need.pinned, need.since, need.name)):
        if need.name in decided.impossible:
            continue
        fitting = [(left, name) for name, left in room.items() if left >= need.size_bytes]
        if not fitting:
            return  # somebody may have to go
        room[min(fitting)[1]] -= need.size_bytes
    assert decided.evicts == ()
    assert set(decided.loads) == {need.name for need in needs} - set(decided.impossible)
    if not needs:
        assert decided == Plan()


@given(situations())
def test_a_need_is_loaded_or_impossible_or_waits_for_room(situation: Situation) -> None:
    devices, needs, copies = situation
    decided = decide(situation)
    assert not set(decided.loads) & set(decided.impossible)
    pinned = [part for copy in copies if copy.pinned and not copy.leaving for part in copy.parts]
    free = {d.name: d.capacity_bytes - held(devices, pinned)[d.name] for d in devices}
    for need in needs:
        if need.name in decided.impossible and not any(other.pinned for other in needs):
            assert need.size_bytes > max(free.values())


@given(st.lists(st.tuples(st.integers(0, 900), st.booleans()), min_size=1, max_size=6, unique_by=lambda c: c[0]))
def test_the_least_recently_used_of_equals_goes(copies: list[tuple[int, bool]]) -> None:
    device = [Device("host", 10 * len(copies))]
    there = [Copy(f"m{used}", (Part("host", 10),), 0, used, pinned) for used, pinned in copies]
    decided = plan(device, [Need("new", 10, 0)], there, NOW, TURN_S)
    unpinned = [used for used, pinned in copies if not pinned]
    assert decided.evicts == ((f"m{min(unpinned)}",) if unpinned else ())
    assert decided.impossible == ({} if unpinned else {"new": 0})
    assert decided.loads == {}


def test_several_models_share_a_device_and_the_fullest_that_suffices_is_taken() -> None:
    devices = [Device("a", 100), Device("b", 50)]
    needs = [Need("x", 30, 1), Need("y", 20, 2), Need("z", 90, 3)]
    assert plan(devices, needs, [], NOW, TURN_S).loads == {
        "x": (Part("b", 30),),
        "y": (Part("b", 20),),
        "z": (Part("a", 90),),
    }


def test_one_model_goes_over_several_devices_by_layers() -> None:
    devices = [Device("a", 50), Device("b", 70), Device("c", 40)]
    fits, too_large = Need("fits", 120, 0, layers=(30,) * 4), Need("large", 150, 0, layers=(30,) * 5)
    decided = plan(devices, [fits], [], NOW, TURN_S)
    assert decided.loads == {"fits": (Part("b", 60), Part("a", 30), Part("c", 30))}
    assert plan(devices, [too_large], [], NOW, TURN_S).impossible == {"large": 160}


def test_room_that_somebody_waits_for_is_not_given_to_a_smaller_one() -> None:
    old = Copy("old", (Part("host", 60),), 0, 0, leaving=True)
    needs = [Need("large", 90, 1), Need("small", 40, 2)]
    assert plan([Device("host", 100)], needs, [old], NOW, TURN_S) == Plan()


@pytest.mark.parametrize("turn_s", [10.0, 30.0])
def test_two_models_larger_together_than_the_device_take_turns(turn_s: float) -> None:
    """Both always have work; loading takes four seconds, a job that still runs when a model is to go takes two."""
    device = [Device("host", 100)]
    loaded: dict[str, Copy] = {}
    since = {"a": 0.0, "b": 0.5}
    free_at: dict[str, float] = {}
    served: Counter[str] = Counter()
    changes = 0
    for second in range(1000):
        now = float(second)
        for model in [model for model, at in free_at.items() if at <= now]:
            del loaded[model], free_at[model]
            since[model] = now
        needs = [Need(model, 60, since[model]) for model in "ab" if model not in loaded]
        decided = plan(device, needs, list(loaded.values()), now, turn_s)
        for model in decided.evicts:
            free_at[model] = now + 2
            old = loaded[model]
            loaded[model] = Copy(model, old.parts, old.loaded_at, old.used_at, busy=True, leaving=True)
        for model, parts in decided.loads.items():
            loaded[model] = Copy(model, parts, now + 4, now + 4, busy=True)
            changes += 1
        served.update(model for model, copy in loaded.items() if not copy.leaving and copy.loaded_at <= now)
    assert abs(served["a"] - served["b"]) <= turn_s + 10
    assert sum(served.values()) >= 1000 * turn_s / (turn_s + 10)
    assert 1000 / (turn_s + 10) <= changes <= 1000 / turn_s + 1


@given(situations(), st.lists(st.booleans(), min_size=8, max_size=8))
def test_spare_copies_take_room_that_is_free_and_send_nobody_away(situation: Situation, spare: list[bool]) -> None:
    devices, needs, copies = situation
    marked = [replace(need, spare=is_spare) for need, is_spare in zip(needs, spare, strict=False)]
    decided = plan(devices, marked, copies, NOW, TURN_S)
    without = plan(devices, [need for need in marked if not need.spare], copies, NOW, TURN_S)
    assert decided.evicts == without.evicts
    assert {name: parts for name, parts in decided.loads.items() if name in without.loads} == without.loads
    assert decided.impossible == without.impossible
    parts = [part for copy in copies for part in copy.parts]
    parts += [part for load in decided.loads.values() for part in load]
    assert all(held(devices, parts)[device.name] <= device.capacity_bytes for device in devices)


@given(situations(), st.lists(st.integers(0, 100), min_size=4, max_size=4))
def test_memory_that_others_have_taken_is_not_given_away_and_makes_nothing_impossible(
    situation: Situation, lost: list[int]
) -> None:
    devices, needs, copies = situation
    short = [replace(device, lost_bytes=taken) for device, taken in zip(devices, lost, strict=False)]
    decided = plan(short, needs, copies, NOW, TURN_S)
    before = held(devices, [part for copy in copies for part in copy.parts])
    after = held(devices, [part for load in decided.loads.values() for part in load])
    assert all(not after[d.name] or before[d.name] + after[d.name] <= d.capacity_bytes - d.lost_bytes for d in short)
    if not any(need.pinned for need in needs):
        assert decided.impossible == plan(devices, needs, copies, NOW, TURN_S).impossible


def test_copies_of_a_model_are_apart_where_they_can_be_and_do_not_displace_each_other() -> None:
    devices = [Device("a", 100), Device("b", 150)]
    needs = [Need(f"x#{number}", 60, 0, model="x") for number in range(3)]
    decided = plan(devices, needs, [], NOW, TURN_S)
    assert decided.loads == {"x#0": (Part("a", 60),), "x#1": (Part("b", 60),), "x#2": (Part("b", 60),)}
    there = [Copy("x#0", (Part("a", 60),), 0, 0, model="x")]
    assert plan(devices[:1], needs[1:2], there, NOW, TURN_S) == Plan()


def test_a_spare_copy_goes_before_the_only_one_of_another_model() -> None:
    only = Copy("x#0", (Part("a", 50),), 0, 1, model="x")
    spare = Copy("y#1", (Part("a", 50),), NOW, NOW, busy=True, model="y", spare=True)
    assert plan([Device("a", 100)], [Need("z", 40, 0)], [only, spare], NOW, TURN_S).evicts == ("y#1",)
