"""An interrupted method keeps what is known, marks it, and never lets it pass for whole."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnsight import TransformersModel
from nnsight.schema.response import ResponseModel, Status

import edif
from edif import beside
from edif.engine import paths, probes, sweeps

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
SHORT = "The Eiffel Tower is in the city of"
ANSWER = (" Mary", " John")


def _probe(model: Any, **how: Any) -> edif.Probe:
    texts = [f"{name} gave {thing}" for name in ("Mary", "John") for thing in ("a drink to", "it to", "the bag to")]
    return edif.probe(model, texts, [0] * 3 + [1] * 3, folds=3, shuffles=2, progress=False, **how)


#: Each method, how often it tells something before the interruption, and where its numbers are.
METHODS: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    "patching": (
        lambda m: edif.activation_patching(m, [CLEAN] * 2, [CORRUPT] * 2, ANSWER, progress=False),
        2,
        "residual",
    ),
    "paths": (
        lambda m: edif.path_patching(
            m, CLEAN, CORRUPT, ANSWER, edif.Cell(3, -1, "residual"), batch_tokens=2, progress=False
        ),
        10,
        "head",
    ),
    "trace": (
        lambda m: edif.causal_trace(m, [CLEAN, CLEAN], ["Mary", "John"], samples=2, progress=False),
        2,
        "restored",
    ),
    "steer": (
        lambda m: edif.steer(m, [CLEAN, SHORT], [(CLEAN, CORRUPT)], answer=ANSWER, tokens=2, progress=False),
        3,
        "steered",
    ),
    "attention": (lambda m: edif.attention(m, [CLEAN, SHORT], answer=ANSWER, progress=False), 3, "effect"),
    "lens": (lambda m: edif.logit_lens(m, [CLEAN, SHORT], progress=False), 5, "entropy"),
    "attribution": (
        lambda m: edif.attribution_patching(m, [CLEAN] * 3, [CORRUPT] * 3, ANSWER, progress=False),
        2,
        "head",
    ),
    "probe": (_probe, 2, "accuracy"),
    "probe_effects": (lambda m: _probe(m, answers={0: " Mary", 1: " John"}, effects_on=3), 13, "steered"),
    "comparison": (lambda m: edif.compare_models(m, m, [CLEAN, SHORT, CORRUPT], progress=False), 5, "kl"),
    "comparison_first": (lambda m: edif.compare_models(m, m, [CLEAN, SHORT, CORRUPT], progress=False), 2, "entropy"),
}

#: Of these there are whole prompts, pairs or layers, and not all of them.
FEWER = ("lens", "attribution", "probe", "probe_effects", "comparison")


NOTHING_KEPT: dict[str, Callable[[Any], Any]] = {
    "attention": lambda m: edif.attention(m, CLEAN, top=2, progress=False),
    "one_lens": lambda m: edif.logit_lens(m, CLEAN, progress=False),
}


@pytest.fixture
def model(families: Callable[[str], TransformersModel], monkeypatch: pytest.MonkeyPatch) -> TransformersModel:
    monkeypatch.setattr(sweeps, "TELL_EVERY_S", 0.0)
    return families("llama")


def _interrupted(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As if the user pressed ■ after so many batches, of one job or of several."""
    take, taken = beside.Telling._take, itertools.count(1)

    def taking(self: Any, places: Sequence[int], values: Any) -> None:
        take(self, places, values)
        if next(taken) == times:
            raise KeyboardInterrupt

    monkeypatch.setattr(beside.Telling, "_take", taking)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_known_is_kept_and_marked(
    method: str, model: TransformersModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, times, name = METHODS[method]
    whole = run(model)
    _interrupted(monkeypatch, times)
    with pytest.raises(edif.MethodStopped, match=r"Stopped after \d+ of \d+ steps. What it has is kept") as stopped:
        run(model)
    partial = stopped.value.partial
    assert type(partial) is type(whole)
    assert not partial.complete
    assert whole.complete
    here = partial.data[name]
    there = whole.data[name].isel({axis: slice(size) for axis, size in here.sizes.items()})
    known = ~np.isnan(here.values)
    assert known.any()
    np.testing.assert_array_equal(here.values[known], there.values[known])
    if method in FEWER:
        assert here.size < whole.data[name].size
        assert known.all() or method in ("lens", "comparison")  # of which prompts are filled up to the longest
    else:
        assert (np.isnan(here.values) & ~np.isnan(there.values)).any()
    if method == "attention":
        steps = partial.weights() - whole.weights()
        assert float(abs(steps).max()) <= 0.5 / 255 + 1e-6
        assert "steps of 1/255" in partial.as_json()["foot"]
        assert "steps of 1/255" not in whole.as_json()["foot"]
    bundle = partial._repr_mimebundle_()
    assert "NOT COMPLETE: stopped after" in bundle["text/plain"]
    assert "NOT COMPLETE: stopped after" in bundle["text/html"]
    again = edif.load(partial.save(tmp_path / "partial.edif"))
    assert not again.complete
    assert again.data.identical(partial.data)


def test_of_many_senders_effects_come_before_all_of_them_were_read(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, name = METHODS["paths"]
    whole = run(model)
    monkeypatch.setattr(paths, "_PORTION", 4)
    portions = run(model)
    for array in whole.data.data_vars:
        np.testing.assert_allclose(portions.data[array], whole.data[array], rtol=1e-5, atol=1e-6)
    _interrupted(monkeypatch, 5)  # of the first portion both sweeps, and something of the second
    with pytest.raises(edif.MethodStopped) as stopped:
        run(model)
    partial = stopped.value.partial
    here, there = partial.data[name].values, portions.data[name].values
    known = ~np.isnan(here)
    np.testing.assert_array_equal(here[known], there[known])
    assert 0 < known.sum() < (~np.isnan(there)).sum()
    done = partial.provenance["stopped"]
    assert done["done"] < done["of"] / 2  # with one portion no effect would be known yet


def test_of_a_comparison_the_side_that_is_whole_is_shown_alone(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, _, _ = METHODS["comparison"]
    _interrupted(monkeypatch, 3)  # the first has read everything, the second nothing
    with pytest.raises(edif.MethodStopped, match="Stopped after 3 of 6 steps") as stopped:
        run(model)
    partial = stopped.value.partial
    drawn = partial.as_json()
    assert drawn["foot"].startswith("NOT COMPLETE: stopped after 3 of 6 steps")
    assert "the second model was not read" in drawn["foot"]
    (side,) = drawn["sides"]
    assert side["foot"].startswith("NOT COMPLETE")
    assert len(side["prompts"]) == 3
    assert partial.data["kl"].isnull().all()
    assert (partial.data["top_id"].sel(side="second") == -1).all()
    for made in (partial.to_html(), partial.to_svg(), partial._repr_mimebundle_()["text/html"]):
        assert "NOT COMPLETE" in made
    assert len(partial.cost()) == 2
    partial.summary()
    partial.final()


def test_of_a_probe_effects_are_those_of_whole_prompts(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, times, _ = METHODS["probe_effects"]
    whole = run(model)
    _interrupted(monkeypatch, times)
    with pytest.raises(edif.MethodStopped) as stopped:
        run(model)
    partial = stopped.value.partial
    assert 0 < partial.data.sizes["case"] < whole.data.sizes["case"]
    same = whole.data.isel(case=slice(partial.data.sizes["case"]))
    assert partial.data["interchanged"].identical(same["interchanged"])
    assert partial.data["direction"].identical(whole.data["direction"])
    assert f"effects on {partial.data.sizes['case']} prompts" in partial.as_json()["foot"]


def test_of_a_probe_without_effects_yet_is_said_that_there_are_none(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "MOST_TOLD", 10)
    _interrupted(monkeypatch, 2)
    with pytest.raises(edif.MethodStopped) as stopped:
        METHODS["probe_effects"][0](model)
    partial = stopped.value.partial
    assert partial.data["layer"].values.tolist() == [0, 1]
    assert partial.data["direction"].isnull().all()
    foot = partial.as_json()["foot"]
    assert "no effects: not known yet" in foot
    assert "the directions were not told of" in foot
    assert "NOT COMPLETE" in partial.to_svg()


@pytest.mark.parametrize("method", NOTHING_KEPT)
def test_a_method_that_keeps_nothing_says_so(
    method: str, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted(monkeypatch, 1)
    with pytest.raises(
        edif.MethodStopped, match=r"Stopped after \d of \d+ steps. Nothing of it can be used"
    ) as stopped:
        NOTHING_KEPT[method](model)
    assert stopped.value.partial is None


def test_the_drawing_says_that_it_is_not_complete(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    run, times, _ = METHODS["patching"]
    _interrupted(monkeypatch, times)
    with pytest.raises(edif.MethodStopped) as stopped:
        run(model)
    assert stopped.value.partial is not None
    assert stopped.value.partial.as_json()["foot"].startswith("NOT COMPLETE: stopped after")


def test_of_an_interrupted_trace_every_fact_has_a_picture(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, times, _ = METHODS["trace"]
    _interrupted(monkeypatch, times)
    with pytest.raises(edif.MethodStopped) as stopped:
        run(model)
    pictures = [stopped.value.partial.to_svg(fact=fact) for fact in (0, 1)]
    assert all("NOT COMPLETE" in made for made in pictures)
    assert "→ –" in pictures[1]


def test_before_anything_is_known_nothing_is_kept(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupted(monkeypatch, 1)
    with pytest.raises(edif.MethodStopped, match="Nothing of it can be used") as stopped:
        edif.logit_lens(model, [CLEAN, SHORT], progress=False)
    assert stopped.value.partial is None


def test_parts_travel_as_lines_while_there_is_room(capsys: pytest.CaptureFixture[str]) -> None:
    tell, nothing = sweeps.TellByLine(), torch.zeros(0, 0)
    known = {"changed": torch.tensor([1.5, float("nan")]), "answer": torch.tensor(7)}
    tell([], nothing, base={3: known})
    tell([], nothing, base={3: {**known, "written": torch.arange(5000)}})  # what is not new is not said again
    tell([], nothing, base={4: {"large": torch.zeros(sweeps.BASE_CHARACTERS)}})
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["edif.sweep"][:2] for line in lines] == [[1, 1], *([n, 5] for n in range(1, 6))]
    told = beside.Telling(1, progress=False)
    assert all(told.status(ResponseModel(id="job", status=Status.LOG, description=line)) for line in lines)
    assert told.bases.keys() == {3}
    assert told.bases[3]["answer"].item() == 7
    np.testing.assert_array_equal(told.bases[3]["changed"], [1.5, np.nan])
    np.testing.assert_array_equal(told.bases[3]["written"], torch.arange(5000))
