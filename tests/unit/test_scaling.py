"""Scaling: its promises, tried on whatever load comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edif_backend.dispatch.scaling import Crew, missing, surplus, wants_spare

UP_S, DOWN_S = 5.0, 60.0


@given(
    limits=st.tuples(st.integers(1, 3), st.integers(0, 3)),
    load=st.lists(st.tuples(st.integers(0, 6), st.floats(0.5, 30.0)), min_size=1, max_size=80),
)
def test_copies_stay_within_their_limits_come_one_at_a_time_and_go_only_when_idle_for_long(
    limits: tuple[int, int], load: list[tuple[int, float]]
) -> None:
    """``load``: how many jobs there are, each taking a copy of its own, and for how long that stays so."""
    least, most = limits[0], sum(limits)
    used_at: list[float] = []  # of each copy
    pressed_since: float | None = None
    now = came_at = 0.0
    for jobs, seconds in load:
        now += seconds
        busy = min(jobs, len(used_at))
        used_at[:busy] = [now] * busy
        pressed_since = (now if pressed_since is None else pressed_since) if used_at and jobs > len(used_at) else None
        idle = [None if place < busy else used for place, used in enumerate(used_at)]
        crew = Crew(least, most, idle, 0, True, pressed_since)
        going = surplus(crew, now, DOWN_S)
        assert all(place >= least and now - used_at[place] >= DOWN_S and place >= busy for place in going)
        used_at = [used for place, used in enumerate(used_at) if place not in going]
        coming = missing(crew)
        if wants_spare(crew, now, UP_S):
            assert now - came_at >= UP_S
            assert not going
            coming, came_at, pressed_since = coming + 1, now, None
        used_at += [now] * coming
        assert least <= len(used_at) <= most


def test_a_model_that_nobody_wants_has_no_copy() -> None:
    assert missing(Crew(2, 3, [], 0, False, None)) == 0
    assert missing(Crew(2, 3, [], 0, True, None)) == 2


def test_while_one_is_loaded_no_other_comes() -> None:
    assert not wants_spare(Crew(1, 3, [None, None], 1, True, 0.0), 100.0, UP_S)
    assert wants_spare(Crew(1, 3, [None, None], 0, True, 0.0), 100.0, UP_S)


def test_a_lowered_maximum_sends_away_what_is_beyond_it_busy_or_not() -> None:
    assert surplus(Crew(1, 2, [None, None, None], 0, True, None), 100.0, DOWN_S) == [2]
