"""Models come and go as jobs, the catalogue and the operator want it; with a fleet of names instead of processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edif_backend.dispatch import residents, sizes
from edif_backend.dispatch.residents import Residents
from edif_backend.errors import ModelUnusable, ReplicaLost
from edif_backend.jobs import Jobs, Submission, open_jobs
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.devices import Shares
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.orders import Order, Orders
from edif_backend.replicas.fleet import Survivor
from edif_backend.replicas.nodes import Node
from edif_backend.settings import BackendSettings

GB = 10**9


def table(id: str, *lines: str) -> str:
    return f'[models."x/{id}"]\ntitle = "t"\nsource = "hub"\n' + "".join(f"{line}\n" for line in lines)


class NamesOnly:
    """A fleet whose replicas are names; a model called ``broken`` cannot be loaded."""

    def __init__(self, capacity_bytes: int) -> None:
        self.copies: dict[str, str] = {}  #: and the nodes they are on
        self.waiting: dict[str, str] = {}  #: warm ones, and the nodes in whose memory they are
        self.shares: dict[str, Shares] = {}  #: what each was given of a node's devices
        self.starts: list[str] = []
        self.left_by_another: list[Survivor] = []
        self.deaths = 0  #: of the next processes that load something
        self.nodes = (Node("n1", "one", capacity_bytes),)
        self.free: int | None = None

    @property
    def there(self) -> set[str]:
        return {name.rpartition("#")[0] for name in self.copies}

    async def survivors(self, entries: tuple[ModelEntry, ...]) -> list[Survivor]:
        return self.left_by_another

    async def start(self, entry: ModelEntry, number: int, node: str, parts: Shares, *, alone: bool) -> None:
        name = f"{entry.id}#{number}"
        assert self.waiting.get(name, node) == node, "an actor's name is found on whichever node it is"
        if self.waiting.pop(name, None):
            self.copies[name] = node
            return
        self.starts.append(entry.id)
        self.shares[name] = parts
        if "broken" in entry.id:
            raise ModelUnusable("its weights are damaged.")
        if self.deaths:
            self.deaths -= 1
            raise ReplicaLost("The process that loads the model died; it is started again.")
        self.copies[f"{entry.id}#{number}"] = node

    async def stop(self, copy: str) -> None:
        self.copies.pop(copy, None)
        self.waiting.pop(copy, None)

    async def park(self, copy: str) -> bool:
        if copy not in self.copies:
            return False
        self.waiting[copy] = self.copies.pop(copy)
        return True

    def parked(self, copy: str) -> bool:
        return copy in self.waiting

    def loaded(self, copy: str) -> bool:
        return copy in self.copies

    def free_bytes(self, node: str) -> int | None:
        return self.free


class House:
    """Residents with all that they need, every model half a gigabyte large, and a clock."""

    def __init__(self, folder: Path, text: str, capacity_bytes: int = GB) -> None:
        self.path = folder / "models.toml"
        self.path.write_text(text)
        self.now = 1000.0
        self.jobs: Jobs = open_jobs(folder / "jobs.sqlite", clock=lambda: self.now)
        self.fleet = NamesOnly(capacity_bytes)
        self.orders = Orders(folder / "orders")
        self.waiting: dict[str, int] = {}
        self._work: list[Coroutine[Any, Any, None]] = []
        self.residents = Residents(
            self.jobs,
            LiveCatalogue(self.path),
            self.fleet,  # type: ignore[arg-type]
            BackendSettings(slots=2, model_turn_s=30, scale_up_s=5, scale_down_s=60),
            folder / "models",
            self.orders,
            spawn=self._work.append,
            turn=lambda: None,
        )
        asyncio.run(self.residents.start())

    def turn(self) -> None:
        """A turn, and all that it starts, twice: the second one finds the room that the first has made."""

        async def all_of_it() -> None:
            for _ in range(3):
                self.residents.tend(self.waiting)
                while self._work:
                    await self._work.pop(0)

        asyncio.run(all_of_it())

    def rewrite(self, text: str) -> None:
        before = self.path.stat().st_mtime_ns
        self.path.write_text(text)
        os.utime(self.path, ns=(before + 1_000_000,) * 2)

    def state(self, id: str) -> tuple[str, str]:
        found = self.jobs.deployments()[f"x/{id}"]
        return found.state, found.description


Build = Callable[..., House]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    monkeypatch.setattr(residents, "complete", lambda entry, folder: entry)
    monkeypatch.setattr(sizes, "replica_bytes", lambda snapshot, slots: GB // 2)
    monkeypatch.setattr(sizes, "parked_bytes", lambda snapshot: GB // 4)
    monkeypatch.setattr(sizes, "beside_bytes", lambda snapshot, slots: GB // 4)
    monkeypatch.setattr(sizes, "layer_bytes", lambda snapshot, slots: (GB // 8,) * 4)
    made = []

    def build(text: str, **options: Any) -> House:
        made.append(House(tmp_path, text, **options))
        return made[-1]

    yield build
    for one in made:
        one.jobs.close()


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
