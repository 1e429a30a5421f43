"""Models come and go as jobs, the catalogue and the operator want it; with a fleet of names instead of processes."""

from __future__ import annotations

import asyncio

import pytest
from tests.dispatch_house import GB, Build, table

from edif_backend.dispatch import residents
from edif_backend.jobs import Submission
from edif_backend.models.orders import Order
from edif_backend.replicas.fleet import Survivor
from edif_backend.replicas.nodes import Node


def test_pinned_models_are_loaded_others_when_wanted(house: Build) -> None:
    home = house(table("a", "pinned = true") + table("b"))
    home.turn()
    assert home.fleet.there == {"x/a"}
    home.waiting = {"x/b": 1}
    home.turn()
    assert home.fleet.there == {"x/a", "x/b"}
    assert home.residents.serving("x/b")


def test_the_least_recently_used_goes_when_another_needs_the_room(house: Build) -> None:
    home = house(table("a") + table("b") + table("c"))
    for id in "ab":
        home.waiting = {f"x/{id}": 1}
        home.turn()
        home.now += 1
    home.residents.leave(home.residents.seat("x/a"))
    home.waiting = {"x/c": 1}
    home.turn()
    assert home.fleet.there == {"x/a", "x/c"}
    assert home.state("b") == ("NOT_STARTED", "Another model needs its memory.")


def test_a_model_that_runs_jobs_gets_no_more_of_them_and_then_goes(house: Build) -> None:
    home = house(table("a") + table("b", "pinned = true") + table("c"))
    home.waiting = {"x/a": 1}
    home.turn()
    copy = home.residents.seat("x/a")
    home.waiting = {"x/a": 5, "x/c": 1}
    home.turn()
    assert home.residents.serving("x/a"), "its turn has just begun"
    home.now += 31
    home.turn()
    assert not home.residents.serving("x/a")
    assert home.fleet.there == {"x/a", "x/b"}
    home.residents.leave(copy)
    home.waiting = {"x/c": 1}
    home.turn()
    assert home.fleet.there == {"x/b", "x/c"}


def test_who_waits_for_memory_is_told_who_holds_it(house: Build) -> None:
    home = house(table("a") + table("b", "pinned = true") + table("c"))
    home.waiting = {"x/a": 1}
    home.turn()
    id = home.jobs.submit(Submission("job", "ada", "", "x/c", "", False, {}, 0)).id
    home.residents.seat("x/a")
    home.waiting = {"x/a": 5, "x/c": 1}
    home.turn()
    found = home.jobs.job(id)
    assert found
    assert found.state == "PROVISIONING"
    assert found.description == "Waiting for memory that other models hold: x/a is busy; x/b is pinned."
    assert home.residents.serves_in_s("x/c") == 20  # a guess


def test_what_can_never_fit_is_refused_with_the_number(house: Build) -> None:
    home = house(table("a"), capacity_bytes=GB // 4)
    id = home.jobs.submit(Submission("job", "ada", "", "x/a", "", False, {}, 0)).id
    home.waiting = {"x/a": 1}
    home.turn()
    found = home.jobs.job(id)
    assert found
    assert "needs 0.50 GB of memory, and models may take 0.25 GB" in found.description
    assert home.state("a")[0] == "UNHEALTHY"
    assert home.fleet.starts == []


def test_a_model_that_cannot_be_loaded_is_tried_again_when_the_file_changes(house: Build) -> None:
    home = house(table("broken", "pinned = true"))
    home.turn()
    assert home.state("broken") == ("UNHEALTHY", "its weights are damaged.")
    assert len(home.fleet.starts) == 1
    home.rewrite(table("broken", "pinned = true", 'revision = "v2"'))
    home.turn()
    assert len(home.fleet.starts) == 2


def test_the_catalogue_is_followed(house: Build) -> None:
    home = house(table("a", "pinned = true"))
    home.turn()
    home.rewrite(table("b", "pinned = true"))
    home.turn()
    assert home.fleet.there == {"x/b"}
    home.rewrite(table("b", "pinned = true", 'dtype = "bfloat16"'))
    home.turn()
    assert home.fleet.starts == ["x/a", "x/b", "x/b"]
    home.rewrite(table("b", 'dtype = "bfloat16"'))
    home.turn()
    assert home.fleet.starts == ["x/a", "x/b", "x/b"], "to be pinned or not is no other model"


def test_orders_load_and_evict_but_not_what_is_pinned(house: Build) -> None:
    home = house(table("a", "pinned = true") + table("b"))
    home.orders.place(Order("deploy", "x/b"))
    home.turn()
    assert home.fleet.there == {"x/a", "x/b"}
    for id in "ab":
        home.orders.place(Order("evict", f"x/{id}"))
    home.orders.place(Order("evict", "x/gone"))
    home.turn()
    assert home.fleet.there == {"x/a"}
    assert home.state("b") == ("NOT_STARTED", "Evicted on the operator's word.")


def test_replicas_of_an_earlier_dispatcher_are_counted(house: Build) -> None:
    home = house(table("a") + table("b"))
    home.fleet.left_by_another = [Survivor("x/b#0", "x/b", "n1", frozenset())]
    asyncio.run(home.residents.start())
    home.turn()
    assert home.residents.serving("x/b")
    assert not home.residents.serving("x/a")


@pytest.mark.parametrize(("deaths", "state"), [(2, "RUNNING"), (3, "UNHEALTHY")])
def test_a_model_ordered_by_nobodys_job_is_loaded_again_when_its_process_dies_but_not_for_ever(
    house: Build, monkeypatch: pytest.MonkeyPatch, deaths: int, state: str
) -> None:
    monkeypatch.setattr(residents, "_LOAD_AGAIN_S", 0.0)
    home = house(table("a"))
    home.fleet.deaths = deaths
    home.orders.place(Order("deploy", "x/a"))
    for _ in range(3):
        home.turn()
    assert home.state("a")[0] == state
    assert len(home.fleet.starts) == 3
    assert ("died 3 times" in home.state("a")[1]) is (state == "UNHEALTHY")


def test_a_lost_replica_holds_nothing_any_more(house: Build) -> None:
    home = house(table("a", "pinned = true"))
    home.turn()
    home.fleet.copies.clear()
    home.turn()
    assert home.fleet.starts == ["x/a", "x/a"]


def test_copies_come_up_to_the_maximum_while_jobs_wait_and_go_when_idle(house: Build) -> None:
    home = house(table("a", "replicas = {min = 1, max = 3}"), capacity_bytes=5 * GB)
    home.waiting = {"x/a": 9}
    home.turn()
    seats = [home.residents.seat("x/a") for _ in range(2)]
    home.turn()
    assert set(home.fleet.copies) == {"x/a#0"}
    for count in (2, 3, 3):
        home.now += 6
        home.turn()
        assert len(home.fleet.copies) == count
        seats += [home.residents.seat("x/a") for _ in range(home.residents.free_slots("x/a"))]
        home.turn()
    assert sorted(seats) == sorted([f"x/a#{number}" for number in range(3)] * 2), "as many on each"
    home.waiting = {}
    for copy in seats:
        home.residents.leave(copy)
    home.now += 59
    home.turn()
    assert len(home.fleet.copies) == 3
    home.now += 2
    home.turn()
    assert set(home.fleet.copies) == {"x/a#0"}
    assert home.state("a") == ("RUNNING", "")


def test_copies_are_on_different_machines_and_come_up_elsewhere_when_one_is_lost(house: Build) -> None:
    home = house(table("a", "replicas = 2", "pinned = true"))
    home.fleet.nodes = (Node("n1", "one", GB), Node("n2", "two", GB), Node("n3", "three", GB // 4))
    home.turn()
    assert set(home.fleet.copies.values()) == {"n1", "n2"}
    home.fleet.nodes = home.fleet.nodes[1:]
    home.fleet.copies = {copy: node for copy, node in home.fleet.copies.items() if node != "n1"}
    home.turn()
    assert list(home.fleet.copies.values()) == ["n2", "n2"]


def test_a_load_waits_for_memory_that_something_else_has_taken_and_idle_models_go_for_it(house: Build) -> None:
    home = house(table("a") + table("b"))
    home.waiting = {"x/a": 1}
    home.turn()
    home.fleet.free, home.waiting = GB // 4, {"x/b": 1}
    id = home.jobs.submit(Submission("job", "ada", "", "x/b", "", False, {}, 0)).id
    home.turn()
    found = home.jobs.job(id)
    assert found
    assert "x/b needs 0.50 GB, and 0.2 GB are free on the machine" in found.description
    assert found.description == home.state("b")[1]
    assert home.fleet.there == {"x/a"}
    home.now += 11
    home.turn()
    assert home.fleet.there == set(), "it made room, and there is still too little"
    home.fleet.free = GB
    home.turn()
    assert home.fleet.there == {"x/b"}
