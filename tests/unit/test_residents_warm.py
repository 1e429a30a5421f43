"""Models that wait in memory, and models on devices that nodes report."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.dispatch_house import GB, Build, House, table

from edif_backend.models.orders import Order
from edif_backend.replicas.fleet import Survivor
from edif_backend.replicas.nodes import Node


def warm_house(house: Build, text: str, warm_bytes: int, **options: Any) -> House:
    """One whose machine has memory for models that wait."""
    home = house(text, **options)
    home.fleet.nodes = tuple(replace(node, warm_bytes=warm_bytes) for node in home.fleet.nodes)
    return home


def use(home: House, *ids: str) -> None:
    """Jobs come for these models, one after the other."""
    for id in ids:
        home.waiting = {f"x/{id}": 1}
        home.turn()
        home.now += 1
    home.waiting = {}


def test_an_evicted_model_waits_in_memory_and_comes_back_without_being_loaded(house: Build) -> None:
    home = warm_house(house, table("a") + table("b") + table("c"), GB // 2)
    use(home, "a", "b", "c")
    assert set(home.fleet.waiting) == {"x/a#0"}
    assert home.state("a") == (
        "NOT_STARTED",
        "Another model needs its memory. It waits in memory to come back at once.",
    )
    assert home.residents.serves_in_s("x/a") == 1
    use(home, "a")
    assert home.fleet.there == {"x/a", "x/c"}
    assert set(home.fleet.waiting) == {"x/b#0"}
    assert home.fleet.starts == ["x/a", "x/b", "x/c"]
    assert home.residents.serving("x/a")


def test_the_warm_tier_is_bounded_and_the_one_that_has_waited_longest_goes(house: Build) -> None:
    home = warm_house(house, "".join(map(table, "abcde")), GB // 2)
    use(home, *"abcde")
    assert set(home.fleet.waiting) == {"x/b#0", "x/c#0"}
    tight = warm_house(house, "".join(map(table, "abc")), GB // 5)
    use(tight, *"abc")
    assert tight.fleet.waiting == {}


def test_warm_copies_go_for_memory_that_a_load_needs_and_when_it_runs_low(house: Build) -> None:
    home = warm_house(house, "".join(map(table, "abcd")), GB)
    use(home, *"abc")
    home.fleet.free, home.waiting = GB // 3, {"x/d": 1}
    home.turn()
    assert home.fleet.waiting == {}
    assert home.fleet.there == {"x/c"}, "before an idle model goes for it"
    home.fleet.free = GB
    home.turn()
    assert home.fleet.there == {"x/c", "x/d"}
    home = warm_house(house, "".join(map(table, "abc")), GB)
    use(home, *"abc")
    home.fleet.free = GB // 30
    home.turn()
    assert home.fleet.waiting == {}


def test_one_that_comes_back_needs_only_what_it_has_not_yet(house: Build) -> None:
    home = warm_house(house, "".join(map(table, "abc")), GB)
    use(home, *"abc")
    home.fleet.free = GB // 3  # half a gigabyte is its size, a quarter of which it holds
    use(home, "a")
    assert "x/a" in home.fleet.there


def test_an_operators_evict_frees_memory_and_what_was_changed_does_not_come_back(house: Build) -> None:
    text = "".join(map(table, "abc"))
    home = warm_house(house, text, GB)
    use(home, *"abc")
    home.orders.place(Order("evict", "x/a"))
    home.orders.place(Order("evict", "x/b"))
    home.turn()
    assert home.fleet.waiting == {}
    use(home, "a", "b")
    assert set(home.fleet.waiting) == {"x/c#0"}
    home.rewrite(table("a") + table("b") + table("c", 'dtype = "bfloat16"'))
    home.turn()
    assert home.fleet.waiting == {}
    use(home, "c")
    assert home.fleet.starts.count("x/c") == 2


def test_one_that_waits_on_another_machine_leaves_its_name_to_it(house: Build) -> None:
    home = warm_house(house, "".join(map(table, "abc")), GB)
    home.fleet.nodes = (*home.fleet.nodes, Node("n2", "two", GB))
    use(home, *"ab")
    home.fleet.nodes = home.fleet.nodes[:1]
    use(home, "c")
    waiting = next(iter(home.fleet.waiting))
    home.fleet.nodes = (replace(home.fleet.nodes[0], memory_bytes=GB // 4), Node("n2", "two", GB))
    home.waiting = {waiting.removesuffix("#0"): 1}
    home.turn()
    assert home.fleet.copies[waiting.replace("#0", "#1")] == "n2"


def test_a_warm_copy_that_was_lost_is_loaded(house: Build) -> None:
    home = warm_house(house, "".join(map(table, "abc")), GB)
    use(home, *"abc")
    home.fleet.waiting.clear()
    use(home, "a")
    assert home.fleet.starts.count("x/a") == 2


def test_a_new_dispatcher_knows_the_warm_copies(house: Build) -> None:
    home = warm_house(house, table("a") + table("b"), GB)
    home.fleet.waiting = {"x/b#3": "n1"}
    home.fleet.left_by_another = [Survivor("x/b#3", "x/b", "n1", frozenset(), (), parked=True)]
    asyncio.run(home.residents.start())
    home.turn()
    assert not home.residents.serving("x/b")
    use(home, "b")
    assert home.fleet.copies == {"x/b#3": "n1"}
    assert home.fleet.starts == []


def test_models_go_onto_the_devices_that_a_node_reports_whole_or_by_layers(house: Build) -> None:
    home = house(table("a") + table("b"))
    home.fleet.nodes = (Node("n1", "one", GB, 0, (("cuda:0", 3 * GB // 5), ("cuda:1", 2 * GB // 5))),)
    use(home, "a", "b")
    assert home.fleet.shares == {"x/a#0": (("cuda:0", GB // 2),), "x/b#0": (("cuda:0", GB // 2),)}
    assert home.fleet.there == {"x/b"}, "a node's memory is no place for a model where it has devices"
    home = house(table("c"))
    home.fleet.nodes = (Node("n1", "one", GB, 0, (("cuda:0", 2 * GB // 5), ("cuda:1", GB // 4), ("cuda:2", GB // 4))),)
    use(home, "c")
    assert home.fleet.shares == {"x/c#0": (("cuda:0", 3 * GB // 8), ("cuda:1", GB // 8))}


def test_what_fits_on_no_nodes_devices_is_refused_with_their_size(house: Build) -> None:
    home = house(table("a"))
    home.fleet.nodes = (
        Node("n1", "one", GB, 0, (("cuda:0", GB // 5), ("cuda:1", GB // 5))),
        Node("n2", "two", GB, 0, (("cuda:0", GB // 5),)),
    )
    use(home, "a")
    assert "needs 0.50 GB of memory, and models may take 0.40 GB on the largest of 2 machines" in home.state("a")[1]
    assert "model_memory_bytes" not in home.state("a")[1]


def test_two_models_in_the_place_of_one_change_places_and_are_loaded_once(house: Build) -> None:
    home = warm_house(house, table("a") + table("b"), GB // 4, capacity_bytes=GB // 2)
    for _ in range(3):
        use(home, "a", "b")
    assert home.fleet.starts == ["x/a", "x/b"]
    assert set(home.fleet.waiting) == {"x/a#0"}
