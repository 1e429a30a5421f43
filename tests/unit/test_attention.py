"""Patterns are what the model attends with, on every family: rows sum to 1, nothing ahead, and they make the heads."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif.attention import Attention
from edif.engine.decoder import Decoder

PROMPT = "When Mary and John went to the store, John gave a drink to"
SHORT = "The Eiffel Tower is in the city of"
ANSWER = (" Mary", " John")


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _read(model: TransformersModel, prompt: Any = PROMPT, **how: Any) -> Attention:
    return edif.attention(model, prompt, progress=False, **how)


def test_rows_sum_to_one_and_nothing_ahead_is_seen(model: TransformersModel) -> None:
    pattern = _read(model).data["pattern"].values[0]
    assert pattern.shape == (4, 4, 14, 14)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
    assert (np.triu(pattern, 1) == 0).all()
    if model._module.config.model_type == "mistral":  # looks back three positions, itself included
        assert (np.tril(pattern, -3) == 0).all()


def test_pattern_times_values_is_what_heads_give(model: TransformersModel) -> None:
    pattern = torch.tensor(_read(model).data["pattern"].values[0])
    decoder = Decoder(model)
    for layer in (0, 3):
        with model.trace(PROMPT):
            values = decoder.read("v", layer)[0].clone().save()
            heads = decoder.read("head", layer)[0].clone().save()
        made = torch.einsum("hqk,khd->qhd", pattern[layer], decoder.of_heads(values))
        torch.testing.assert_close(made, heads, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", sorted(FAMILIES.keys() - {"gemma2"}), indirect=True)  # which has no fused attention
def test_a_fused_attention_gives_the_same_and_is_itself_again_afterwards(model: TransformersModel) -> None:
    eager = _read(model).data["pattern"]
    model._module.set_attn_implementation("sdpa")
    np.testing.assert_array_equal(_read(model).data["pattern"], eager)
    assert model._module.config._attn_implementation == "sdpa"


def test_norms_are_those_of_what_a_head_writes(model: TransformersModel) -> None:
    # all that a head writes at the first position is the value there: its norm is that of attention without the others
    found = _read(model, norms=True)
    decoder = Decoder(model)
    with model.trace(PROMPT):
        decoder.write("head", 2, slice(None), slice(None), torch.tensor(0.0))
        without = decoder.projection(2).output[0, 0].save()
    with model.trace(PROMPT):
        head = decoder.read("head", 2)[:, 0, 1].clone()
        decoder.write("head", 2, slice(None), slice(None), torch.tensor(0.0))
        decoder.write("head", 2, slice(None), 0, head, 1)
        alone = decoder.projection(2).output[0, 0].save()
    expected = float((alone - without).norm())
    np.testing.assert_allclose(found.weighted().sel(layer=2, head=1)[0, 0], expected, rtol=1e-4)


def test_heads_are_ranked_by_what_their_silence_does(model: TransformersModel) -> None:
    found = _read(model, answer=ANSWER)
    right, wrong = (model.tokenizer(token).input_ids[0] for token in ANSWER)
    layer, head, effect = found.ranked()[0]
    said = []
    for silent in (False, True):
        with model.trace(PROMPT):
            if silent:
                Decoder(model).write("head", layer, slice(None), slice(None), torch.tensor(0.0), head)
            logits = model.output.logits[0, -1].save()
        said.append(float(logits[right] - logits[wrong]))
    assert effect == pytest.approx(said[0] - said[1], rel=1e-3, abs=1e-5)
    assert abs(effect) == pytest.approx(float(abs(found.data["effect"]).max()))


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_the_largest_weights_alone_come_back_when_asked_for(self, model: TransformersModel) -> None:
        whole, top = _read(model), _read(model, top=3)
        assert "pattern" not in top.data
        kept = top.weights()
        assert int((kept > 0).sum("key").max()) == 3
        best = np.sort(whole.weights().values, -1)[..., -3:].sum(-1)
        np.testing.assert_allclose(kept.sum("key"), best, rtol=1e-6)

    def test_prompts_of_any_lengths_and_some_layers_and_heads(self, model: TransformersModel) -> None:
        both = _read(model, [PROMPT, SHORT], layers=[-1, 0], heads=[2])
        alone = _read(model, SHORT, layers=[3], heads=[2])
        assert both.data["layer"].values.tolist() == [0, 3]
        np.testing.assert_allclose(both.weights(1).sel(layer=[3]), alone.weights(), atol=1e-6)
        length = len(model.tokenizer(SHORT).input_ids)
        assert np.isnan(both.data["pattern"].values[1, :, :, length:]).all()

    def test_what_is_drawn_holds_the_weights(self, model: TransformersModel) -> None:
        found = _read(model, [PROMPT, SHORT], norms=True, answer=ANSWER)
        drawn = found.as_json()
        one = drawn["prompts"][1]["maps"][0]
        length = len(drawn["prompts"][1]["tokens"])
        values = np.frombuffer(base64.b64decode(one["weights"]), np.uint8)
        pattern = found.weights(1).sel(layer=one["layer"], head=one["head"]).values
        np.testing.assert_allclose(values / 255, pattern[np.tril_indices(length)], atol=0.5 / 255 + 1e-6)
        assert len(drawn["prompts"][0]["maps"]) == 16
        assert (one["layer"], one["head"]) == found.ranked(1)[0][:2]
        assert len(one["norm"]) == length
        small = found.as_json(4_000)
        assert "heads; all is in .data" in small["foot"]
        assert f"{one['layer']}.{one['head']}" in found.table()

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (_read(model, norms=True, answer=ANSWER, remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    @pytest.mark.parametrize("how", [{"norms": True, "answer": ANSWER}, {"top": 2}])
    def test_saved_and_loaded_it_is_the_same(
        self, model: TransformersModel, tmp_path: Path, how: dict[str, Any]
    ) -> None:
        found = _read(model, [PROMPT, SHORT], **how)
        again = edif.load(found.save(tmp_path / "attention.edif"))
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"heads": [4]}, "There is no head 4: it has heads 0 to 3"),
            ({"layers": [-5]}, "There is no layer -5"),
            ({"top": 0}, "top must be at least 1"),
            ({"prompt": ""}, "An empty prompt"),
            ({"answer": (" Mary", " gave a drink")}, "tokens here"),
            ({"answer": [ANSWER] * 2}, "1 prompts need as many answers"),
            ({"prompt": [[1] * 2000] * 2}, r"128 million weights.* ask for layers=… of 2 at most, .* top=1048 or less"),
            ({"prompt": [1] * 3000}, "3000 tokens and this model takes 2048 at most"),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, how: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            _read(model, **{"prompt": PROMPT, **how})

    def test_norms_that_were_not_asked_for_are_missed_in_words(self, model: TransformersModel) -> None:
        with pytest.raises(KeyError, match="norms=True"):
            _read(model).weighted()


def test_methods_keep_their_names_when_their_modules_are_imported() -> None:
    assert callable(edif.attention)
    assert all(callable(edif.causal_trace) for _ in range(2))
    assert all(callable(edif.logit_lens) for _ in range(2))
