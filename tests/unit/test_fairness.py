"""Turns among users: nobody starves, equals get equal shares, weights count, a flood harms its sender alone."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.bench.fairness import Simulation, classroom, interactive, lab_hour, long_jobs_in_turn, p95, slow_first

from edif_backend.dispatch.fairness import FairShare, jain_index

USERS = st.sampled_from("abcdefgh")


@given(
    rounds=st.lists(st.tuples(st.dictionaries(USERS, st.integers(0, 20)), st.integers(0, 6)), max_size=20),
    cost=st.floats(0.001, 100),
)
def test_only_waiting_jobs_are_chosen_and_all_slots_are_used(
    rounds: list[tuple[dict[str, int], int]], cost: float
) -> None:
    share = FairShare()
    for waiting, slots in rounds:
        chosen = share.choose(waiting, slots)
        assert len(chosen) == min(slots, sum(waiting.values()))
        assert all(count <= waiting[user] for user, count in Counter(chosen).items())
        for user in chosen:
            share.settle(user, cost)


@pytest.mark.parametrize("seed", range(5))
def test_backlogged_equals_get_equal_shares_whatever_their_jobs_cost(seed: int) -> None:
    rng = random.Random(seed)
    arrivals = []
    for number in range(50):
        size = rng.choice([0.05, 0.5, 1, 5])
        arrivals += [(0.0, f"user{number}", size * rng.uniform(0.5, 1.5)) for _ in range(int(400 / size))]
    simulation = Simulation(slots=4)
    simulation.run(sorted(arrivals), until=2000)
    assert len(simulation.served) == 50
    assert jain_index(list(simulation.served.values())) >= 0.95


def test_weights_divide_the_device() -> None:
    arrivals = [(0.0, user, 1.0) for user in ("student", "staff") for _ in range(1000)]
    simulation = Simulation(slots=2, weight=lambda user: 3.0 if user == "staff" else 1.0)
    simulation.run(arrivals, until=200)
    assert simulation.served["staff"] / simulation.served["student"] == pytest.approx(3, rel=0.1)


def test_a_flood_keeps_light_users_within_twice_their_fair_share() -> None:
    rng = random.Random(1)
    light = [f"light{number}" for number in range(20)]
    arrivals = [(0.0, "flood", 1.0)] * 1000
    arrivals += [(rng.uniform(0, 400), user, 0.2) for user in light for _ in range(20)]
    simulation = Simulation(slots=2)
    simulation.run(sorted(arrivals))
    # Fair share: a slot must come free (a job of the flood at most), and each other user may be served once before.
    fair_s = 1.0 + len(light) * 0.2 / 2
    assert p95([wait for user in light for wait in simulation.waits[user]]) <= 2 * fair_s
    assert len(simulation.waits["flood"]) == 1000


def test_nobody_starves_beside_longer_and_heavier_users() -> None:
    arrivals = [(0.0, f"heavy{number}", 20.0) for number in range(10) for _ in range(50)]
    arrivals += [(float(number), "small", 0.1) for number in range(0, 1000, 50)]
    simulation = Simulation(slots=1, weight=lambda user: 0.1 if user == "small" else 10.0)
    simulation.run(sorted(arrivals), until=10_000)
    assert len(simulation.waits["small"]) == 20


def test_who_ran_longer_than_expected_pays_with_later_turns() -> None:
    share = FairShare()
    assert share.choose({"a": 5, "b": 5}, 2) == ["a", "b"]
    share.settle("a", 10.0)
    share.settle("b", 1.0)
    assert Counter(share.choose({"a": 5, "b": 50}, 15))["b"] >= 10


def test_a_debt_is_paid_by_staying_away_as_it_is_by_waiting() -> None:
    def first_again(waits: bool) -> int:
        """How many jobs of others start before the debtor's next one, where they wait or come back after 30 of them."""
        share = FairShare()
        assert share.choose({"a": 1, "b": 99, "c": 99}, 3) == ["a", "b", "c"]
        share.settle("a", 20.0)
        before = 0
        while True:
            here = {"a": 1} if waits or before >= 30 else {}
            (user,) = share.choose({**here, "b": 99, "c": 99}, 1)
            if user == "a":
                return before
            share.settle(user, 1.0)
            before += 1

    assert first_again(waits=True) == pytest.approx(first_again(waits=False), abs=3)
    assert first_again(waits=True) > 30


def test_what_was_used_while_nobody_waited_is_no_debt() -> None:
    share = FairShare()
    assert share.choose({"a": 1}, 2) == ["a"]
    share.settle("a", 30.0)
    assert share.choose({"b": 1}, 2) == ["b"]
    share.settle("b", 1.0)
    assert share.choose({"a": 1, "b": 99}, 1) == ["a"]  # nor must they save up for another as long


def test_nobody_of_a_class_pays_for_what_they_used_before_it() -> None:
    """All had the devices to themselves once; then they come one after the other, and each finds others waiting."""
    share, students = FairShare(), [f"student {number}" for number in range(6)]
    for student in students:
        assert share.choose({student: 1}, 1) == [student]
        share.settle(student, 30.0)
    assert share.choose({"new": 1}, 1) == ["new"]  # runs, and the slot is taken from here on
    waiting: dict[str, int] = {}
    for student in students:
        waiting[student] = 1
        assert share.choose(waiting, 0) == []
    waiting["newer"] = 20
    began = []
    while waiting.keys() != {"newer"}:
        (user,) = share.choose(waiting, 1)
        share.settle(user, 30.0 if user in students else 1.0)
        began.append(user)
        waiting[user] -= 1
        waiting = {name: count for name, count in waiting.items() if count}
        waiting.setdefault("newer", 1)
    assert began.count("newer") <= 2


def test_turns_are_not_saved_up_while_away() -> None:
    share = FairShare()
    for _ in range(100):
        share.choose({"a": 1}, 1)
        share.settle("a", 0.5)
    share.choose({"b": 1}, 1)
    share.settle("b", 0.5)
    assert Counter(share.choose({"a": 50, "b": 50}, 20))["a"] <= 12


@given(
    costs=st.lists(st.tuples(st.floats(0.1, 60), st.floats(0.1, 60)), min_size=100, max_size=100),
    heavier=st.sampled_from([1.0, 2.0, 5.0]),
)
@settings(max_examples=60)
def test_nobody_who_waits_falls_behind_by_more_than_a_job(costs: list[tuple[float, float]], heavier: float) -> None:
    """Goyal, Vin and Cheng, theorem 1, whatever was expected: the seconds had, by weight, of two who always wait."""
    share, weights = FairShare(), {"a": 1.0, "b": heavier}
    jobs = {"a": iter([one for one, _ in costs]), "b": iter([other for _, other in costs])}
    had_s, longest_s = {"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.0}
    for _ in range(100):
        (user,) = share.choose({"a": 200, "b": 200}, 1, weights.__getitem__)
        seconds = next(jobs[user])
        share.settle(user, seconds)
        had_s[user] += seconds / weights[user]
        longest_s[user] = max(longest_s[user], seconds / weights[user])
        assert abs(had_s["a"] - had_s["b"]) <= longest_s["a"] + longest_s["b"] + 1e-6


def test_every_second_is_charged_of_jobs_that_run_at_once() -> None:
    share = FairShare()
    for user in share.choose({"a": 99, "b": 99}, 8):  # four each, as nothing is known of either
        share.settle(user, 40.0 if user == "a" else 1.0)
    before = 0
    while share.choose({"a": 99, "b": 999}, 1) != ["a"]:
        share.settle("b", 1.0)
        before += 1
    assert before == pytest.approx(160 - 4, abs=2)


def test_a_short_job_after_a_slow_one_is_not_paid_for_ahead() -> None:
    """A student whose first job was slow by chance waits until the others have had as much, and no longer."""
    found = [slow_first(seed, slots=2) for seed in range(3)]
    fair_s = 42 * 19 / 2
    assert max(one["wait_s"] for one in found) <= fair_s


def test_a_class_waits_a_few_rounds_at_most() -> None:
    found = [classroom(seed, slots=2) for seed in range(10)]
    assert sum(one["short_max_rounds"] for one in found) / len(found) <= 3
    assert min(one["jain_of_waits"] for one in found) >= 0.95


def test_who_sends_long_jobs_one_by_one_gets_no_more_than_others() -> None:
    assert long_jobs_in_turn(seed=1) == pytest.approx(1 / 11, abs=0.02)


def others_before(habit_s: list[float]) -> int:
    """How many jobs of 1 s another, who always waits, has before somebody with these jobs behind them starts again."""
    share = FairShare()
    for seconds in habit_s:
        while share.choose({"a": 1, "b": 99}, 1) != ["a"]:
            share.settle("b", 1.0)
        share.settle("a", seconds)
        share.choose({"b": 99}, 0)  # a is away for a moment
    before = 0
    while share.choose({"a": 1, "b": 999}, 1) != ["a"]:
        share.settle("b", 1.0)
        before += 1
    return before


def test_an_accident_is_shared_and_a_habit_of_long_jobs_is_not() -> None:
    assert others_before([30.0] * 8) == pytest.approx(30, abs=2)
    assert others_before([500.0] * 8) == pytest.approx(500, abs=25)
    assert others_before([1.0] * 5 + [500.0]) == pytest.approx(
        5 * (1 + 151) / 2, abs=5
    )  # five of what jobs are expected


@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 6),
    weights=st.dictionaries(USERS, st.sampled_from([0.5, 1.0, 3.0, 10.0]), min_size=1),
    limits=st.dictionaries(USERS, st.integers(1, 3)),
)
@settings(max_examples=60)
def test_slots_and_running_limits_hold_and_no_slot_stays_free_for_nothing(
    seed: int, slots: int, weights: dict[str, float], limits: dict[str, int]
) -> None:
    rng = random.Random(seed)
    arrivals = sorted((rng.uniform(0, 30), rng.choice("abcdefgh"), rng.choice([0.1, 1.0, 7.0])) for _ in range(120))
    simulation = Simulation(
        slots, weight=lambda user: weights.get(user, 1.0), most=lambda user: limits.get(user, math.inf)
    )
    simulation.run(arrivals)  # asserts slots and limits at every start
    assert simulation.idle_s == 0
    assert sum(map(len, simulation.waits.values())) == 120  # nobody starves


@given(
    weights=st.lists(st.sampled_from([1.0, 2.0, 3.0, 5.0]), min_size=2, max_size=5),
    costs=st.lists(st.floats(0.2, 4.0), min_size=5, max_size=5),
)
@settings(max_examples=40)
def test_weights_are_honoured_in_the_long_run(weights: list[float], costs: list[float]) -> None:
    arrivals = [(0.0, str(user), costs[user]) for user in range(len(weights)) for _ in range(int(1200 / costs[user]))]
    simulation = Simulation(slots=1, weight=lambda user: weights[int(user)])
    simulation.run(arrivals, until=600)
    for user, weight in enumerate(weights):
        due_s = 600 * weight / sum(weights)
        assert simulation.served[str(user)] == pytest.approx(due_s, abs=0.05 * 600)


def test_a_running_limit_costs_no_more_than_it_says() -> None:
    """Who is at their limit keeps their place: whoever is due more than the two slots they may have, has two."""
    rng = random.Random(4)
    users = ["staff", *(f"student{number}" for number in range(8))]
    arrivals = [(0.0, user, rng.uniform(0.5, 1.5)) for user in users for _ in range(1000)]
    simulation = Simulation(
        slots=4,
        weight=lambda user: 16.0 if user == "staff" else 1.0,
        most=lambda user: 2 if user == "staff" else math.inf,
    )
    simulation.run(arrivals, until=300)
    assert simulation.served["staff"] == pytest.approx(600, rel=0.03)


def test_a_reservation_counts_in_its_time_alone() -> None:
    shares = lab_hour(seed=3)["students_share"]
    assert shares["before"] == pytest.approx(30 / 40, abs=0.05)
    assert shares["lab_hour"] == pytest.approx(120 / 130, abs=0.03)
    assert shares["after"] == pytest.approx(30 / 40, abs=0.05)


def test_short_jobs_do_not_wait_behind_a_sweep() -> None:
    waits = interactive(seed=2)["interactive_wait"]
    assert waits["unlimited"]["p95_s"] <= 10  # one running job of the sweep at most, not all that wait
    assert waits["sweep_may_run_3"]["p95_s"] <= 1


def test_what_a_lost_job_was_charged_is_given_back() -> None:
    share = FairShare()
    assert share.choose({"a": 3, "b": 3}, 1) == ["a"]
    share.give_back("a")
    assert share.choose({"a": 3, "b": 3}, 3) == ["a", "b", "a"]  # it is still the turn of the one whose job was lost


@example(waiting={"c": 2, "a": 6}, weights={"a": 5.0}, costs={"b": 1.0})  # a fifth five times is not quite one
@given(
    waiting=st.dictionaries(USERS, st.integers(1, 30), min_size=1),
    weights=st.dictionaries(USERS, st.sampled_from([1.0, 2.0, 5.0])),
    costs=st.dictionaries(USERS, st.floats(0.05, 20)),
)
def test_the_order_that_is_told_is_the_order_that_comes(
    waiting: dict[str, int], weights: dict[str, float], costs: dict[str, float]
) -> None:
    share = FairShare()
    for user, seconds in costs.items():
        share.settle(user, seconds)
    weight = lambda user: weights.get(user, 1.0)  # noqa: E731 - one line
    told = share.order(waiting, weight)
    came = []
    left = Counter(waiting)
    while +left:
        (user,) = share.choose(+left, 1, weight)
        left[user] -= 1
        share.settle(user, share.expected_s(user))  # it costs what was expected
        came.append(user)
    assert told == came


def test_a_job_must_be_worth_something() -> None:
    with pytest.raises(ValueError, match="worth some time"):
        FairShare(0)


def test_jain_index_is_what_the_paper_says() -> None:
    assert jain_index([1, 1, 1, 1]) == 1
    assert jain_index([1, 0, 0, 0]) == 0.25
    assert jain_index([]) == jain_index([0, 0]) == 1
