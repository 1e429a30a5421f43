"""Steering is what a trace by hand gives, nothing at strength 0 and along nothing, on every family."""

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
from edif.steering import Steering

PROMPT = "When Mary and John went to the store, John gave a drink to"
SHORT = "The Eiffel Tower is in the city of"
PAIRS = [("the store", "the city"), ("Mary gave a drink to John", "Mary and John went to")]
ANSWER = (" Mary", " John")


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _steered(model: TransformersModel, prompt: Any = PROMPT, direction: Any = PAIRS, **how: Any) -> Steering:
    return edif.steer(model, prompt, direction, progress=False, **{"answer": ANSWER, **how})


def _difference(model: TransformersModel, logits: torch.Tensor) -> float:
    right, wrong = (model.tokenizer(token).input_ids[0] for token in ANSWER)
    return float(logits[right] - logits[wrong])


def test_strength_0_and_a_direction_of_nothing_change_nothing(model: TransformersModel) -> None:
    found = _steered(model, strengths=[0, 0.5])
    assert (found.data["steered"].sel(strength=0) == found.data["unsteered"]).all()
    top = found.data["top_id"].sel(strength=0).values
    assert (top == top[:, :1]).all()
    assert float(abs(found.effect().sel(strength=0.5)).min()) > 1e-4
    nothing = _steered(model, direction=np.zeros(32), strengths=[1.0], ablate=["here", "everywhere"])
    assert (nothing.effect() == 0).all()
    ablated = nothing.data["ablated"] - nothing.data["unsteered"]
    np.testing.assert_allclose(ablated.sel(metric="logit_difference"), 0, atol=1e-5)


def test_a_direction_of_contrasts_is_added_as_by_hand(model: TransformersModel) -> None:
    layer, decoder, states = 2, Decoder(model), []
    for side in (0, 1):
        for pair in PAIRS:
            with model.trace(pair[side]):
                states.append(decoder.read("residual", layer)[0, -1].clone().save())
    direction = (states[0] + states[1] - states[2] - states[3]) / 2
    with model.trace(PROMPT):
        before = decoder.read("residual", layer).clone().save()
    norm = before[0, 1:].norm(dim=-1).mean()
    with model.trace(PROMPT):
        decoder.read("residual", layer)[:] += 0.5 * norm * direction / direction.norm()
        logits = model.output.logits[0, -1].save()
    found = _steered(model, layers=[layer], strengths=[0.5])
    np.testing.assert_allclose(found.data["direction"][0], direction, atol=1e-5)
    np.testing.assert_allclose(found.data["norm"], float(norm), rtol=1e-5)
    np.testing.assert_allclose(
        found.data["steered"].sel(metric="logit_difference"), _difference(model, logits), rtol=1e-3, atol=1e-5
    )
    assert int(found.data["top_id"][0, 0, 0, 0]) == int(logits.argmax())


def test_ablation_leaves_nothing_along_the_direction(model: TransformersModel) -> None:
    decoder, vector = Decoder(model), torch.randn(32, generator=torch.Generator().manual_seed(1))
    towards = vector / vector.norm()
    with model.trace(PROMPT):
        for layer in range(4):
            state = decoder.read("residual", layer)
            state[:] = state - (state @ towards)[..., None] * towards
        logits = model.output.logits[0, -1].save()
    found = _steered(model, direction=vector, layers=[1, 3], ablate=["here", "everywhere"])
    everywhere = found.data["ablated"].sel(metric="logit_difference", ablation="everywhere")[0]
    np.testing.assert_allclose(everywhere, _difference(model, logits), rtol=1e-3, atol=1e-5)
    here = found.data["ablated"].sel(metric="logit_difference", ablation="here")[0]
    assert abs(float(here[0] - everywhere[0])) > 1e-5


def test_what_is_written_unsteered_is_what_generate_writes(model: TransformersModel) -> None:
    found = _steered(model, SHORT, layers=[1], strengths=[0, 3.0], tokens=6)
    ids = model.tokenizer(SHORT, return_tensors="pt").input_ids
    said = model._module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    expected = said[0, ids.shape[1] :].tolist()
    assert found.data["unsteered_text_id"][0].values.tolist() == expected
    assert found.data["text_id"].sel(strength=0)[0, 0].values.tolist() == expected
    assert found.data["text_id"].sel(strength=3.0)[0, 0].values.tolist() != expected


def test_what_is_written_is_steered_at_every_token(model: TransformersModel) -> None:
    # by hand and without a cache: the whole text again for every token
    found = _steered(model, SHORT, layers=[2], strengths=[0.8], tokens=4)
    decoder, vector = Decoder(model), torch.tensor(found.data["direction"].values[0])
    push = 0.8 * float(found.data["norm"][0]) * vector / vector.norm()
    ids = model.tokenizer(SHORT).input_ids
    start = len(ids)
    for _ in range(4):
        with model.trace(torch.tensor([ids])):
            decoder.read("residual", 2)[:] += push
            said = model.output.logits[0, -1].argmax().save()
        ids = [*ids, int(said)]
    assert found.data["text_id"][0, 0, 0].values.tolist() == ids[start:]


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_some_positions_are_those_positions(self, model: TransformersModel) -> None:
        decoder, vector = Decoder(model), torch.ones(32)
        found = _steered(model, direction=vector, layers=[1], strengths=[2.0], unit="direction", positions=[4, -2])
        with model.trace(PROMPT):
            decoder.read("residual", 1)[:, [4, 12]] += 2 * vector
            logits = model.output.logits[0, -1].save()
        np.testing.assert_allclose(
            found.data["steered"].sel(metric="logit_difference"), _difference(model, logits), rtol=1e-4
        )

    def test_controls_are_as_long_and_elsewhere(self, model: TransformersModel) -> None:
        found = _steered(model, strengths=[0, 0.5], controls=3, seed=2)
        assert found.data["control"].sizes["control"] == 3
        unsteered = found.data["unsteered"].sel(metric="kl")
        assert (found.data["control"].sel(metric="kl", strength=0) == unsteered).all()
        moved = found.data["control"].sel(metric="logit_difference", strength=0.5)
        assert len(np.unique(moved.values.round(6))) == moved.size

    def test_prompts_of_any_lengths_a_mean_and_a_metric_of_ones_own(self, model: TransformersModel) -> None:
        both = _steered(model, [PROMPT, SHORT, PROMPT + " the"], strengths=[0.3], metric=_own)
        assert both.data["metric"].values.tolist()[-1] == "_own"
        mean = both.mean().isel(layer=1, strength=0)
        assert mean["low"] <= mean["mean"] <= mean["high"]
        np.testing.assert_allclose(both.mean()["mean"], both.effect().mean("prompt"))

    def test_vectors_are_taken_in_every_form(self, model: TransformersModel) -> None:
        vectors = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
        forms = (vectors, torch.tensor(vectors), dict(enumerate(vectors)))
        first, *others = (_steered(model, direction=form, layers=[1, 3], strengths=[0.2]).data for form in forms)
        assert all(other.equals(first) for other in others)
        np.testing.assert_array_equal(first["direction"], vectors[[1, 3]])

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        how: dict[str, Any] = {"tokens": 3, "ablate": "here", "controls": 1}
        here, there = (_steered(model, remote=r, **how) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = _steered(model, [PROMPT, SHORT], tokens=3, ablate=["here", "everywhere"], controls=1)
        again = edif.load(found.save(tmp_path / "steering.edif"))
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance
        assert "2308.10248" in again.cite()
        assert "Steering" in again.table()
        assert again.texts().shape == (7, 4)

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"prompt": ""}, "An empty prompt"),
            ({"direction": np.ones(7)}, r"A direction has shape \(7,\), and activations of this model have 32 numbers"),
            ({"direction": {2: np.ones(32)}}, r"no direction for layer 0: name layers=\[2\]"),
            ({"direction": np.ones((3, 32))}, "3 directions for 4 layers"),
            ({"site": "head"}, "There is no site to steer 'head'"),
            ({"ablate": "there"}, "There is no ablation 'there': choose from here, everywhere"),
            ({"unit": "metres"}, "There is no unit 'metres'"),
            ({"strengths": [float("nan")]}, "strengths are finite numbers"),
            (
                {"strengths": np.linspace(0, 1, 30_000)},
                "120000 cells, and one job .* every 2. layer fits: layers=range",
            ),
            ({"layers": [7]}, "There is no layer 7: it has layers 0 to 3"),
            ({"positions": [14]}, "There is no position 14: it has positions 0 to 13"),
            ({"answer": (" Mary", " gave a drink")}, "tokens here"),
            ({"answer": (" Mary", 5000)}, "There is no token 5000: ids go from 0 to 420"),
            ({"answer": " Mary"}, "1 prompts need as many answers|An answer is a pair"),
            ({"tokens": 2040}, "2054 tokens, 2040 new ones included, and this model takes 2048 at most"),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, how: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            _steered(model, **how)

    def test_what_is_not_there_is_missed_in_words(self, model: TransformersModel) -> None:
        found = _steered(model, layers=[1], strengths=[0.1], answer=None)
        assert found.data["metric"].values.tolist() == ["kl"]
        with pytest.raises(KeyError, match="no metric 'rank': there is kl"):
            found.effect("rank")
        with pytest.raises(KeyError, match="tokens=30"):
            found.texts()


def _own(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, :7].amax(-1)
