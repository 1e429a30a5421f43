"""When waiting jobs start: on the slots there are, in the order of turns, within the limits of running jobs."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edif_backend.dispatch.forecast import Start, forecast


def test_jobs_start_one_after_the_other_on_the_slots_there_are() -> None:
    starts = forecast(["a", "b", "a", "b"], [0.0, 5.0], {"a": 2.0, "b": 4.0}.__getitem__)
    assert starts == [
        Start("a", 0, 0, 0.0),
        Start("b", 0, 1, 2.0),
        Start("a", 1, 2, 5.0),
        Start("b", 1, 3, 6.0),
    ]


def test_who_runs_as_many_as_may_is_overtaken_and_not_forgotten() -> None:
    starts = forecast(
        ["a", "a", "a", "b"], [0.0, 0.0], lambda _: 10.0, {"a": 1, "b": math.inf}.__getitem__, {"a": [3.0]}
    )
    assert [(start.user, start.in_s) for start in starts] == [("b", 0.0), ("a", 3.0), ("a", 13.0), ("a", 23.0)]


def test_who_may_run_nothing_has_no_start() -> None:
    assert [start.user for start in forecast(["a", "b"], [0.0], lambda _: 1.0, {"a": 0, "b": 1}.__getitem__)] == ["b"]
    assert forecast([], [0.0], lambda _: 1.0) == forecast(["a"], [], lambda _: 1.0) == []


@given(
    order=st.lists(st.sampled_from("abcd"), max_size=40),
    free=st.lists(st.floats(0, 10), min_size=1, max_size=4),
    costs=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
    limits=st.lists(st.integers(1, 3) | st.just(math.inf), min_size=4, max_size=4),
)
def test_every_job_starts_once_and_never_more_at_once_than_may(
    order: list[str], free: list[float], costs: list[float], limits: list[float]
) -> None:
    cost, most = dict(zip("abcd", costs, strict=True)), dict(zip("abcd", limits, strict=True))
    starts = forecast(order, free, cost.__getitem__, most.__getitem__)
    assert sorted(start.user for start in starts) == sorted(order)
    assert [start.position for start in starts] == list(range(len(order)))
    assert [start.in_s for start in starts] == sorted(start.in_s for start in starts)
    for user in "abcd":
        mine = [start for start in starts if start.user == user]
        assert [start.number for start in mine] == list(range(len(mine)))
        for start in mine:
            at_once = [other for other in mine if other.in_s <= start.in_s < other.in_s + cost[user] - 1e-9]
            assert len(at_once) <= most[user]
    for start in starts:
        at_once = [other for other in starts if other.in_s <= start.in_s < other.in_s + cost[other.user] - 1e-9]
        assert len(at_once) <= len(free)
