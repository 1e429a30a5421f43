"""The lens says at the last layer what the model says, its statistics are exact, and it is kept without loss."""

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
from edif.logit_lens import logit_lens
from edif.result import ResultUnreadable

PROMPT = "The Eiffel Tower is in the city of"


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _log_probabilities(model: TransformersModel, ids: list[int]) -> np.ndarray[Any, Any]:
    with model.trace(torch.tensor([ids])):
        logits = model.output.logits.save()
    found: np.ndarray[Any, Any] = logits[0].log_softmax(-1).numpy()
    return found


def test_the_last_layer_says_what_the_model_says(model: TransformersModel) -> None:
    found = logit_lens(model, PROMPT, targets=[7], top=5, stride=3, progress=False)
    ids = model.tokenizer(PROMPT).input_ids
    says = _log_probabilities(model, ids)
    last = found.data.isel(prompt=0, layer=-1)
    assert found.data["layer"].values.tolist() == [0, 3]
    np.testing.assert_allclose(last["kl"], 0, atol=1e-5)
    np.testing.assert_allclose(last["target_log_probability"][:, 0], says[:, 7], rtol=1e-4)
    np.testing.assert_array_equal(last["top_id"][:, 0], says.argmax(-1))
    np.testing.assert_allclose(last["entropy"], -(np.exp(says) * says).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(last["next_log_probability"][:-1], says[np.arange(len(ids) - 1), ids[1:]], rtol=1e-4)
    assert np.isnan(last["next_log_probability"][-1])
    np.testing.assert_array_equal(last["target_rank"][:, 0], (says > says[:, [7]]).sum(-1) + 1)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_every_layer_is_normed_anew(self, model: TransformersModel) -> None:
        found = logit_lens(model, PROMPT, progress=False)
        with model.trace(PROMPT):
            state = model.model.layers[1].output.save()
        says = model._module.lm_head(model._module.model.norm(state))[0].log_softmax(-1)
        np.testing.assert_allclose(found.data["top_probability"][0, 1, :, 0], says.exp().amax(-1), rtol=1e-4)
        np.testing.assert_array_equal(found.data["top_id"][0, 1, :, 0], says.argmax(-1))

    def test_the_lens_on_an_output_alone(self, model: TransformersModel) -> None:
        found = logit_lens(model, PROMPT, site="mlp", layers=[-1, 1], progress=False)
        with model.trace(PROMPT):
            state = model.model.layers[3].mlp.output.save()
        says = model._module.lm_head(model._module.model.norm(state))[0]
        assert found.data["layer"].values.tolist() == [1, 3]
        np.testing.assert_array_equal(found.data["top_id"][0, 1, :, 0], says.argmax(-1))

    def test_prompts_of_different_length_each_keep_their_own(self, model: TransformersModel) -> None:
        both = logit_lens(model, [PROMPT, "to the store"], targets=[3], progress=False)
        alone = logit_lens(model, "to the store", targets=[3], progress=False)
        length = alone.data.sizes["position"]
        np.testing.assert_array_equal(both.data["kl"][1, :, :length], alone.data["kl"][0])
        assert np.isnan(both.data["kl"][1, :, length:]).all()
        assert both.data["token"].values[1, length:].tolist() == [""] * (both.data.sizes["position"] - length)

    def test_some_positions_are_those_positions(self, model: TransformersModel) -> None:
        whole, some = (logit_lens(model, PROMPT, positions=p, progress=False) for p in (None, [2, -1]))
        np.testing.assert_allclose(some.data["entropy"], whole.data["entropy"][:, :, [2, -1]], rtol=1e-5)
        assert some.data["place"].values.tolist() == [[2, whole.data.sizes["position"] - 1]]

    def test_a_tuned_lens_translates_first(self, model: TransformersModel) -> None:
        matrix, offset = torch.randn(32, 32), torch.randn(32)
        found = logit_lens(model, PROMPT, tuned={1: (matrix, offset)}, progress=False)
        with model.trace(PROMPT):
            state = model.model.layers[1].output.save()
        says = model._module.lm_head(model._module.model.norm(state + state @ matrix.T + offset))[0]
        np.testing.assert_array_equal(found.data["top_id"][0, 1, :, 0], says.argmax(-1))
        assert found.provenance["tuned"]

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (
            logit_lens(model, PROMPT, targets=[" Paris"], progress=False, remote=r) for r in (False, "local")
        )
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = logit_lens(model, [PROMPT, "to the store"], targets=[" Paris"], progress=False)
        found.view["pins"] = [[0, 3, 2]]
        again = edif.load(found.save(tmp_path / "lens.edif"))
        assert type(again) is type(found)
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance
        assert again.view == found.view

    def test_tables_and_citations(self, model: TransformersModel) -> None:
        found = logit_lens(model, PROMPT, targets=[" Paris", 3], progress=False)
        assert found.top().shape == (4, found.data.sizes["position"])
        assert found.top().index[0] == 3
        frame = found.to_dataframe("target_rank")
        assert {"layer", "token", "target_token", "target_rank"} <= set(frame.columns)
        difference = found.difference(" Paris", 3)
        logits = found.data["target_logit"].values
        np.testing.assert_array_equal(difference, logits[..., 0] - logits[..., 1])
        assert "nostalgebraist" in found.cite()
        assert "nnsight" in found.cite()
        assert found.provenance["bos"] == [False]
        with pytest.raises(KeyError, match=r"was not followed: name it in targets"):
            found.difference(" Rome", 3)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"prompt": ""}, "An empty prompt"),
            ({"prompt": []}, "An empty prompt"),
            ({"site": "head"}, "There is no lens on 'head': choose from residual_pre"),
            ({"stride": 0}, "at least 1"),
            ({"layers": [0, 4]}, "There is no layer 4: it has layers 0 to 3"),
            ({"positions": [40]}, "There is no position 40: it has positions 0 to"),
            ({"prompt": [[1] * 3000]}, "3000 tokens and this model takes 2048 at most: shorten"),
            (
                {"prompt": [[1] * 2048] * 300},
                r"2457600 cells, and one job computes 2000000 at most: every 2. layer fits: layers=range\(1, 4, 2\)",
            ),
            ({"targets": ["zzzz"]}, "and one is needed. In the middle of a text words begin with a space"),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, change: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            logit_lens(model, **{"prompt": PROMPT, **change}, progress=False)


@pytest.mark.parametrize("content", [b"", b"PK no zip", b"\\x00" * 400])
def test_a_file_that_is_no_result_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.edif"
    path.write_bytes(content)
    with pytest.raises(ResultUnreadable, match="is not a result that edif has saved"):
        edif.load(path)
