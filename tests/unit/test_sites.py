"""Copies go onto one node, and where models lie on devices, what they need beside them is on it too."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edif_backend.dispatch.placement import Copy, plan
from edif_backend.dispatch.sites import Device, Need, Part, Sites, Spread

bytes_ = st.integers(0, 60)
Node = tuple[int, list[int]]
nodes = st.lists(st.tuples(bytes_, st.lists(bytes_, max_size=3)), min_size=1, max_size=3)
needs = st.builds(
    Need,
    name=st.just("new"),
    size_bytes=st.integers(1, 80),
    since=st.just(0.0),
    spread=st.none() | st.builds(Spread, st.lists(st.integers(1, 30), min_size=1, max_size=5).map(tuple), bytes_),
    warm_on=st.none() | st.sampled_from("012"),
)


def devices_of(made: list[Node]) -> list[Device]:
    found = []
    for number, (memory, sizes) in enumerate(made):
        found.append(Device(str(number), memory, node=str(number), beside=bool(sizes)))
        found += [Device(f"{number}/{place}", size, node=str(number)) for place, size in enumerate(sizes)]
    return found


@given(nodes, needs)
def test_a_copy_is_whole_on_one_node_within_what_each_device_has(made: list[Node], need: Need) -> None:
    devices = devices_of(made)
    room = {device.name: device.capacity_bytes for device in devices}
    parts = Sites(devices).fit(need, room)
    if parts is None:
        return
    [node] = {part.device.partition("/")[0] for part in parts}
    sizes = made[int(node)][1]
    taken = Counter({part.device: part.size_bytes for part in parts})
    assert len(taken) == len(parts)
    assert all(size <= room[device] for device, size in taken.items())
    if sizes:
        assert need.spread
        assert taken.pop(node) == need.spread.beside_bytes
        assert sum(taken.values()) == sum(need.spread.layers)
    else:
        assert parts == (Part(node, need.size_bytes),)


@given(nodes, needs)
def test_it_is_found_where_one_node_could_hold_it(made: list[Node], need: Need) -> None:
    devices = devices_of(made)
    room = {device.name: device.capacity_bytes for device in devices}
    could = any(
        need.spread and memory >= need.spread.beside_bytes and max(sizes) >= sum(need.spread.layers)
        if sizes
        else memory >= need.size_bytes
        for memory, sizes in made
    )
    found = Sites(devices).fit(need, room)
    assert found or not could
    if not found:
        assert plan(devices, [need], [], 0, 30).impossible == {"new": Sites(devices).most_bytes(need, room)}


def test_it_comes_back_where_it_waits_though_another_node_is_fuller() -> None:
    devices = devices_of([(20, []), (50, [])])
    room = {"0": 20, "1": 50}
    assert Sites(devices).fit(Need("new", 10, 0), room) == (Part("0", 10),)
    assert Sites(devices).fit(Need("new", 10, 0, warm_on="1"), room) == (Part("1", 10),)


def test_room_beside_is_made_by_evicting_what_holds_it() -> None:
    devices = devices_of([(10, [50, 50])])
    there = [Copy("old", (Part("0/0", 20), Part("0", 8)), 0, 0)]
    need = Need("new", 0, 0, spread=Spread((10, 10), 6))
    assert plan(devices, [need], there, 100, 30).evicts == ("old",)
