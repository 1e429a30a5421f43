"""What is put back after each job comes back whole, whatever it has grown to, and changes are named in few words."""

from __future__ import annotations

from typing import Any

import pytest

from edif_backend.executors.heap import Heap, works

pytestmark = pytest.mark.skipif(not works(), reason="this Python keeps its objects otherwise")


def test_dicts_lists_and_sets_are_put_back_each_time() -> None:
    a_dict: dict[str, Any] = {"a": [1], "b": 2}
    a_list, a_set, other = [[1], [2]], {1, 2}, {"mine": 1}
    heap = Heap.of([a_dict, a_list, a_set, other])
    heap._put_back_later([0, 1, 2])
    before = a_dict["a"]
    for turn in range(3):
        a_dict.update(a=[1], c=3)
        del a_dict["b"]
        a_list.extend([turn] for _ in range(100_000))  # moves elsewhere
        a_set.update(range(1000))
        assert heap.changed() == ""
        assert a_dict == {"a": [1], "b": 2}
        assert a_dict["a"] is before
        assert (a_list, a_set) == ([[1], [2]], {1, 2})
    other["mine"] = 2
    assert heap.changed() == "dict {'mine': 2}"


def test_a_dict_that_was_put_back_is_put_back_when_it_changes_again() -> None:
    a_dict, a_list = {"a": 1}, [1]
    heap = Heap.of([a_dict, a_list])
    heap._put_back_later([0])
    assert heap.changed() == ""
    a_dict["a"] = 2
    assert heap.changed() == ""
    assert a_dict == {"a": 1}
    a_dict["b"] = 2
    assert heap.changed() == ""
    assert a_dict == {"a": 1}


class Shown:
    """Counts how often one is written out."""

    times = 0

    def __repr__(self) -> str:
        Shown.times += 1
        return "shown"


def test_a_large_thing_is_named_without_going_through_all_of_it() -> None:
    modules, a_list = {f"module {number}": Shown() for number in range(1000)}, [1]
    heap = Heap.of([modules, a_list])
    modules["one more"] = Shown()
    assert heap.changed().startswith("dict {'module 0': shown")
    assert Shown.times < 10


def test_what_may_have_moved_away_is_not_read_any_more() -> None:
    mine, other = [object()] * 1000, [object()] * 10
    heap = Heap.of([mine, other])
    before = {int(place) for place in heap._items._places}
    heap._put_back_later([0])
    kept = {int(place) for place in heap._items._places} & before
    assert len(kept) == len(other)
    other[3] = object()
    assert heap.changed().startswith("list [")
