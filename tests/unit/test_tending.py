"""Models are looked after at once where something is missing, and else not with every job."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edif_backend.dispatch.tending import PAUSE_S, Tending


class House:
    """Models that are noted as tended or pressed."""

    def __init__(self) -> None:
        self.here = {"here"}
        self.said: list[str] = []
        self.now = 100.0

    def serving(self, model: str) -> bool:
        return model in self.here

    def tend(self, waiting: Mapping[str, int]) -> None:
        self.said.append("tend")

    def press(self, waiting: Mapping[str, int]) -> None:
        self.said.append("press")


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def tending(house: House) -> Tending:
    return Tending(house, lambda: house.now)


def test_jobs_that_come_and_go_do_not_have_the_models_looked_after_each_time(house: House, tending: Tending) -> None:
    for _ in range(5):
        tending.turn({"here": 3}, passing=True)
        house.now += PAUSE_S / 4
    assert house.said == ["tend", "press", "press", "press", "tend"]


def test_what_is_waited_for_and_not_there_is_looked_after_at_once(house: House, tending: Tending) -> None:
    for waiting in ({"here": 1}, {"here": 1, "away": 1}, {"away": 1}, {}):
        tending.turn(waiting, passing=True)
    assert house.said == ["tend", "tend", "tend", "press"]


def test_when_something_has_happened_they_are_looked_after_at_once(house: House, tending: Tending) -> None:
    for passing in (True, True, False):
        tending.turn({}, passing=passing)
    assert house.said == ["tend", "press", "tend"]


def test_what_was_put_off_is_not_forgotten_when_no_more_jobs_come(house: House, tending: Tending) -> None:
    tending.turn({}, passing=True)
    assert tending.within_s(6.0) == 6.0
    tending.turn({}, passing=True)
    assert tending.within_s(6.0) == PAUSE_S
    assert tending.within_s(0.1) == 0.1
    house.now += PAUSE_S
    tending.turn({}, passing=True)
    assert house.said[-1] == "tend"
    assert tending.within_s(6.0) == 6.0
