"""A job's line in a notebook: what is shown, how often, and how Cancel comes back; without a notebook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nnsight.schema.response import ResponseModel, Status

from edif import beside, job_view
from edif.prediction import RESULT_TYPE
from edif.remote import TraceFailed

TRACEBACK = """Traceback (most recent call last):
  File "<ipython-input-3>", line 2, in <module>
    hidden[99] = 0
IndexError: index 99 is out of bounds for dimension 0 with size 9
"""


class Outputs:
    """What a notebook would show."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    def __call__(self, bundle: dict[str, Any], raw: bool, display_id: str) -> Outputs:
        self.update(bundle, raw)
        return self

    def update(self, bundle: dict[str, Any], raw: bool) -> None:
        self.shown.append(bundle[RESULT_TYPE])


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Outputs:
    found = Outputs()
    monkeypatch.setattr("IPython.display.display", found)
    monkeypatch.setattr(job_view, "_hear", lambda: None)
    monkeypatch.setattr(job_view, "in_notebook", lambda: True)
    monkeypatch.setattr(job_view, "_EVERY_S", 0.0)
    return found


def test_a_line_is_updated_in_place_and_folds(outputs: Outputs) -> None:
    with beside.Telling(4, progress=True, what="sweep") as told:
        told.status(ResponseModel(id="1", status=Status.QUEUED, description="2 jobs start before this one."))
        told.cells_done([0, 1], torch.ones(2, 1))
        told.cells_done([2], torch.ones(1, 1))
    states = [(line["state"], line["done"], line["folded"]) for line in outputs.shown]
    running = [("RUNNING", done, False) for done in (2, 3, 4)]
    assert states == [("QUEUED", 0, False), *running, ("COMPLETED", 4, True)]
    assert outputs.shown[0]["description"] == "2 jobs start before this one."
    assert outputs.shown[1]["left_s"] is None  # how long the first took nobody has seen
    assert outputs.shown[2]["left_s"] >= 0


def test_what_is_known_is_drawn_while_it_runs_and_not_kept(outputs: Outputs) -> None:
    with beside.Telling(2, progress=True, draw=lambda told: {"known": int(told.known.sum())}) as told:
        told.cells_done([1], torch.ones(1, 1), base={0: {"changed": torch.tensor(0.5)}})
    assert outputs.shown[0]["result"] == {"known": 1}
    assert outputs.shown[-1]["result"] is None
    assert told.bases[0]["changed"] == 0.5
    np.testing.assert_array_equal(told.values(0, 2), [[np.nan], [1.0]])


def test_cancel_comes_back_by_the_handle_and_keeps_what_is_known(outputs: Outputs) -> None:
    ended: list[str] = []

    class Comm:
        def send(self, data: dict[str, Any]) -> None:
            ended.append(f"known {data['known']}")

        def close(self) -> None:
            ended.append("closed")

    def run() -> None:
        with beside.Telling(2, progress=True) as told:
            told.cancel = lambda: ended.append("cancelled")
            told.cells_done([0], torch.ones(1, 1))
            for handle in (outputs.shown[0]["handle"], "unknown"):
                job_view._heard(Comm(), {"content": {"data": {"cancel": handle}}})
            raise TraceFailed("Cancelled by you.")

    with pytest.raises(beside.Stopped, match="1 of 2 cells") as stopped:
        run()
    assert ended == ["known True", "closed", "cancelled", "known False", "closed"]
    assert stopped.value.told.values(0, 1).tolist() == [[1.0]]
    assert outputs.shown[-1]["state"] == "CANCELLED"


def test_a_job_that_somebody_else_has_cancelled_keeps_what_is_known_and_says_who(outputs: Outputs) -> None:
    def run(why: str) -> None:
        with beside.Telling(2, progress=True) as told:
            told.cancelled = lambda: why
            told.cells_done([0], torch.ones(1, 1))
            raise TraceFailed("It has ended.")

    with pytest.raises(beside.Stopped) as stopped:
        run("Cancelled by the operator; ask them.")
    said = str(beside.MethodStopped(stopped.value, None))
    assert said.startswith("Stopped after 1 of 2 steps. Cancelled by the operator; ask them. Nothing of it can be used")
    with pytest.raises(TraceFailed):  # another end is a failure
        run("")


def test_a_failure_takes_the_place_of_the_line(outputs: Outputs) -> None:
    def run() -> None:
        with beside.Telling(2, progress=True):
            raise TraceFailed(TRACEBACK)

    with pytest.raises(TraceFailed):
        run()
    assert outputs.shown[-1]["error"] == {
        "line": "hidden[99] = 0",
        "cause": "IndexError: index 99 is out of bounds for dimension 0 with size 9",
    }
    assert job_view.error_of("The job would need 9 GB.")["line"] == ""


def test_a_trace_shows_what_it_prints_and_how_it_ends(outputs: Outputs) -> None:
    line = job_view.TraceLine("trace", lambda: None)
    for status, said in (
        (Status.RECEIVED, ""),
        (Status.RUNNING, ""),
        (Status.LOG, "seen on the server\n"),
        (Status.COMPLETED, ""),
    ):
        line.update(ResponseModel(id="1", status=status, description=said))
    assert outputs.shown[-1]["log"] == ["seen on the server"]
    assert [shown["state"] for shown in outputs.shown] == ["RECEIVED", "RUNNING", "RUNNING", "COMPLETED"]


def test_a_terminal_gets_no_line() -> None:
    assert not job_view.in_notebook()
