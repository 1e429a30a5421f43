"""A probe finds what is there and nothing in shuffled labels; its effects are those of a trace by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif.engine.decoder import Decoder
from edif.engine.linear import fit, folds
from edif.probing import Probe

NAMES = ("Mary", "John")
PLACES = ("store", "city", "park", "river", "school", "garden", "house", "bridge")
#: The class can be read at the last token: it is the name itself.
PROMPTS = [f"They went to the {place} and gave it to {name}" for place in PLACES for name in NAMES]
LABELS = [name for _ in PLACES for name in NAMES]
ANSWERS = {"Mary": " Mary", "John": " John"}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _probed(model: TransformersModel, **how: Any) -> Probe:
    asked: dict[str, Any] = {"prompts": PROMPTS, "labels": LABELS, "folds": 4, **how}
    return edif.probe(model, **asked, progress=False)


def test_what_is_there_is_found_and_shuffled_labels_are_at_chance(model: TransformersModel) -> None:
    found = _probed(model, shuffles=30)
    assert float(found.data["accuracy"].sel(layer=3, position=-1)) == 1.0
    control = found.data["control"]
    assert abs(float(control.mean()) - 0.5) < 0.15
    assert (found.data["low"] <= found.data["accuracy"]).all()
    assert float(found.data["low"].max()) < 1
    assert (found.selectivity().sel(position=-1) > 0.3).all()
    assert found.summary()["p"].loc[3] <= 0.1


def test_labels_that_mean_nothing_are_not_found(model: TransformersModel) -> None:
    drawn, found = np.random.default_rng(5), []
    for _ in range(6):  # of one draw alone chance may make more
        labels = drawn.permutation(["heads", "tails"] * 8).tolist()
        found.append(_probed(model, labels=labels, layers=[3], shuffles=0).data["accuracy"].item())
    assert np.mean(found) < 0.7


def test_effects_are_those_of_a_trace_by_hand(model: TransformersModel) -> None:
    found = _probed(model, layers=[1], answers=ANSWERS, strengths=[0, 0.3], effects_on=2, shuffles=1)
    decoder, case = Decoder(model), int(found.data["case"][0])
    tokens = [model.tokenizer(ANSWERS[name]).input_ids[0] for name in ("Mary", "John")]
    source = found.provenance["sources"][0][1]

    def lead(logits: torch.Tensor) -> float:
        return float(logits[tokens[1]] - logits[tokens[0]])

    with model.trace(PROMPTS[source]):
        other = decoder.read("residual", 1)[0, -1].clone().save()
    with model.trace(PROMPTS[case]):
        logits = model.output.logits[0, -1].save()
    with model.trace(PROMPTS[case]):
        decoder.read("residual", 1)[:, -1] = other
        put = model.output.logits[0, -1].save()
    here = found.data.isel(case=0, layer=0, position=0, towards=0)
    np.testing.assert_allclose(here["unchanged"], lead(logits), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(here["steered"].sel(strength=0), lead(logits), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(here["interchanged"], lead(put), rtol=1e-3, atol=1e-5)
    assert abs(float(here["steered"].sel(strength=0.3)) - lead(logits)) > 1e-5


def test_a_swap_at_the_last_layer_moves_the_lead_by_the_part_along_the_direction(model: TransformersModel) -> None:
    # with the same direction, from a prompt of its own class at the same place: the whole activation minus the rest
    found = _probed(model, layers=[3], answers=ANSWERS, strengths=[0], effects_on=4, shuffles=1)
    changed = found.data["swapped"] - found.data["unchanged"]
    other = changed.where(found.data["case_label"] != "John", drop=True)
    assert float(abs(other).min()) > 1e-6
    assert found.effect("swapped")["mean"].shape == (1, 1, 1)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_three_classes_have_a_direction_each(self, model: TransformersModel) -> None:
        names = ("Mary", "John", "Paris")
        prompts = [f"They went to the {place} and gave it to {name}" for place in PLACES for name in names]
        answers = {name: f" {name}" for name in names}
        found = _probed(model, prompts=prompts, labels=list(names) * 8, answers=answers, effects_on=3, shuffles=2)
        assert found.data["towards"].values.tolist() == list(names)
        assert float(found.data["accuracy"].sel(layer=3, position=-1)) == 1.0
        assert found.data["steered"].shape == (3, 4, 1, 3, 7)
        np.testing.assert_allclose(found.data["steered"].sel(strength=0)[:, 0, 0], found.data["unchanged"], atol=1e-4)
        flipped = found.flipped().sel(layer=3)
        assert ((flipped >= 0) & (flipped <= 1) | np.isnan(flipped)).all()

    def test_groups_stay_on_one_side(self, model: TransformersModel) -> None:
        groups = [place for place in PLACES for _ in NAMES]
        found = _probed(model, groups=groups, layers=[3], shuffles=1)
        folds = found.data["fold"].values.reshape(8, 2)
        assert (folds[:, 0] == folds[:, 1]).all()
        assert len(set(folds[:, 0])) == 4

    def test_directions_steer(self, model: TransformersModel) -> None:
        found = _probed(model, shuffles=1, layers=[1, 3])
        steered = edif.steer(model, PROMPTS[0], found.directions(), layers=[1, 3], strengths=[0.5], progress=False)
        np.testing.assert_array_equal(steered.data["direction"], found.data["direction"][:, 0, 0])
        assert float(np.linalg.norm(steered.data["direction"][0])) == pytest.approx(1, abs=1e-5)

    def test_positions_are_those_positions(self, model: TransformersModel) -> None:
        whole = _probed(model, positions=[-1, -2], layers=[2], shuffles=1)
        alone = _probed(model, positions=[-2], layers=[2], shuffles=1)
        np.testing.assert_array_equal(
            whole.data["direction"].sel(position=-2), alone.data["direction"].sel(position=-2)
        )
        assert float(whole.data["accuracy"].sel(position=-1)[0]) > float(whole.data["accuracy"].sel(position=-2)[0])

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (_probed(model, answers=ANSWERS, effects_on=2, shuffles=2, remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = _probed(model, answers=ANSWERS, effects_on=2, shuffles=2)
        again = edif.load(found.save(tmp_path / "probe.edif"))
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance
        assert "control" in again.table()
        assert "1909.03368" in again.cite()
        assert list(again.summary().columns[-3:]) == ["steered", "swapped", "interchanged"]

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"labels": LABELS[:-1]}, "There are 16 prompts and 15 labels"),
            ({"labels": ["one"] * 16}, "labels of at least two"),
            ({"labels": ["rare", *["often"] * 15]}, "The class 'rare' has 1 prompts, and 4 folds need"),
            ({"groups": ["same"] * 16}, "1 groups cannot be spread over 4 folds"),
            ({"groups": ["same"]}, "16 prompts and 1 groups"),
            ({"answers": {"Mary": " Mary"}}, "a token for each of Mary, John"),
            ({"answers": {"Mary": " Mary", "John": " gave a drink"}}, "tokens here"),
            ({"answers": ANSWERS, "strengths": range(3000), "effects_on": 16}, "cells, and one job computes 100000"),
            ({"prompts": [*PROMPTS[:-1], [1] * 3000]}, "3000 tokens and this model takes 2048"),
            ({"positions": [40]}, "There is no position 40"),
            ({"positions": "last"}, "There is no choice of positions 'last': choose from all"),
            ({"prompts": [*PROMPTS[:-1], "John"], "positions": "all"}, "needs prompts of equal length"),
            ({"site": "q"}, "There is no site to probe 'q'"),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, how: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            _probed(model, **how)

    def test_what_is_not_there_is_missed_in_words(self, model: TransformersModel) -> None:
        found = _probed(model, layers=[3], shuffles=1)
        with pytest.raises(KeyError, match="answers="):
            found.effect()
        with pytest.raises(KeyError, match="no position 3 in this result: there is -1"):
            found.directions(position=3)


def test_a_fit_is_the_least_of_its_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(12, 30, generator=generator) + 5
    labels = (torch.arange(12) % 3 == 0).double()[:, None]
    found = fit(states, labels, 0.1)
    # the loss is convex: where its slope is nothing, it is least
    centred = (states - states.mean(0)).double()
    scaled = centred / centred.square().sum(1).mean().sqrt()
    weights = found.weights * centred.square().sum(1).mean().sqrt()
    wrong = torch.sigmoid(found.scores(states)) - labels
    np.testing.assert_allclose(scaled.T @ wrong / 12 + 0.1 * weights, 0, atol=1e-5)
    np.testing.assert_allclose(wrong.mean(), 0, atol=1e-5)
    assert float(weights.norm()) > 0.1


def test_folds_have_all_classes_and_whole_groups() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    found = folds(labels, torch.arange(12), 4, seed=3)
    for fold in range(4):
        assert sorted(labels[found == fold].tolist()) == [0, 1, 2]
