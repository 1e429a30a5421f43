"""A model agrees with itself exactly, and two models as far as their distributions say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif.comparison import Comparison
from edif.engine.comparing import agreement
from edif.engine.decoder import Decoder
from edif.matching import aligned_places, shared_tokens

PROMPT = "When Mary and John went to the store, John gave a drink to"
SHORT = "The Eiffel Tower is in the city of"


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


@pytest.fixture
def other(families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families("gpt2")


def _compared(model: TransformersModel, other: TransformersModel, prompt: Any = PROMPT, **how: Any) -> Comparison:
    return edif.compare_models(model, other, prompt, progress=False, **how)


def test_a_model_agrees_with_itself_exactly(model: TransformersModel) -> None:
    found = _compared(model, model, [PROMPT, SHORT]).data
    for figure, exact in {"kl": 0, "kl_back": 0, "same_top": 1, "overlap": 1, "rank_correlation": 1}.items():
        known = found[figure].values[~np.isnan(found[figure].values)]
        assert known.size == 4 * (14 + 8)
        np.testing.assert_allclose(known, exact, atol=1e-12)
    np.testing.assert_allclose(found["mass"].values[~np.isnan(found["mass"].values)], 1, atol=1e-5)


def test_figures_are_those_of_the_two_distributions(model: TransformersModel, other: TransformersModel) -> None:
    found = _compared(model, other).data.isel(prompt=0)
    said = []
    for one in (model, other):
        decoder = Decoder(one)
        with one.trace(PROMPT):
            state = decoder.read("residual", 2)[0].clone().save()
        said.append(decoder.logits(state).double().log_softmax(-1))
    expected = (said[0].exp() * (said[0] - said[1])).sum(-1)
    np.testing.assert_allclose(found["kl"].sel(depth=0.75), expected, rtol=1e-4)
    np.testing.assert_allclose(
        found["kl_back"].sel(depth=0.75), (said[1].exp() * (said[1] - said[0])).sum(-1), rtol=1e-4
    )
    tops = [set(row.topk(10).indices.tolist()) for row in (said[0][5], said[1][5])]
    assert float(found["overlap"].sel(depth=0.75)[5]) == pytest.approx(len(tops[0] & tops[1]) / 10)
    some = sorted(set(said[0][5].topk(100).indices.tolist()) | set(said[1][5].topk(100).indices.tolist()))
    here, there = (pd.Series(row[5][some].numpy()).rank() for row in said)
    np.testing.assert_allclose(found["rank_correlation"].sel(depth=0.75)[5], np.corrcoef(here, there)[0, 1], atol=1e-6)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_serialized_as_for_the_backend_it_is_the_same(
        self, model: TransformersModel, other: TransformersModel
    ) -> None:
        here, there = (_compared(model, other, [PROMPT, SHORT], remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(
        self, model: TransformersModel, other: TransformersModel, tmp_path: Path
    ) -> None:
        found = _compared(model, other, [PROMPT, SHORT])
        again = edif.load(found.save(tmp_path / "comparison.edif"))
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance
        assert again.summary().shape == (4, 7)
        assert again.cost()["parameters"].iloc[0] == sum(p.numel() for p in model._module.parameters())
        assert again.final().shape == (10, 4)
        assert "rank_correlation" in again.table()
        mean = again.mean("kl").isel(depth=1)
        assert mean["low"] <= mean["mean"] <= mean["high"]

    def test_layers_are_aligned_by_depth_and_the_last_is_always_there(
        self, model: TransformersModel, other: TransformersModel
    ) -> None:
        found = _compared(model, other, stride=3)
        assert found.data["layer"].values.tolist() == [[0, 3], [0, 3]]
        chosen = _compared(model, other, layers=[(0, 1), (-1, -1)])
        assert chosen.data["layer"].values.tolist() == [[0, 3], [1, 3]]

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"prompt": ""}, "takes texts"),
            ({"prompt": [1, 2]}, "takes texts"),
            ({"layers": [(0, 9)]}, "There is no layer 9"),
            ({"stride": 0}, "stride must be at least 1"),
            ({"top": 0}, "top must be at least 1"),
        ],
    )
    def test_bad_input_is_one_sentence(
        self, model: TransformersModel, other: TransformersModel, how: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ValueError, match=said):
            _compared(model, other, **{"prompt": PROMPT, **how})

    def test_more_than_may_be_left_beside_the_weights_is_refused_with_a_stride_that_fits(
        self, model: TransformersModel, other: TransformersModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edif.comparison.MOST_BYTES", 14 * 421 * 4 * 2)
        with pytest.raises(ValueError, match="ask for stride=2"):
            _compared(model, other)
        assert _compared(model, other, stride=2).data.sizes["depth"] == 2


class _Words:
    """A tokenizer of another family: one token a word, and one that writes nothing before them."""

    is_fast = True

    def get_vocab(self) -> dict[str, int]:
        return {"<s>": 0, "When": 1, "Mary": 2, " Mary": 3, " and": 4, "odd": 5}

    def decode(self, ids: Any) -> str:
        texts = {place: text for text, place in self.get_vocab().items()}
        return "".join("" if int(id) == 0 else texts[int(id)] for id in ids)

    def convert_ids_to_tokens(self, id: int) -> str:
        return self.decode([id])

    def __call__(self, text: str, **asked: Any) -> Any:
        class Encoded:
            offset_mapping = ((0, 0), (0, 4), (4, 9), (9, 13))

        return Encoded


class _Nothing(_Words):
    def __call__(self, text: str, **asked: Any) -> Any:
        class Encoded:
            offset_mapping = ((0, 0),)

        return Encoded


def test_other_tokens_are_aligned_where_both_end_at_the_same_character(other: TransformersModel) -> None:
    text = "When Mary and"
    tokens = other.tokenizer(text, return_offsets_mapping=True)
    here, there = aligned_places(other.tokenizer, _Words(), [text], [[tokens.input_ids], [[0, 1, 3, 4]]])
    for one, two in zip(here[0], there[0], strict=True):
        assert tokens.offset_mapping[one][1] == _Words()(text).offset_mapping[two][1]
    assert there[0] == [1, 2, 3]
    with pytest.raises(ValueError, match="end nowhere together"):
        aligned_places(other.tokenizer, _Nothing(), [text], [[tokens.input_ids], [[0]]])


def test_tokens_are_shared_when_they_write_the_same(other: TransformersModel) -> None:
    here, there = shared_tokens(other.tokenizer, _Words())
    assert [other.tokenizer.decode([one]) for one in here] == [_Words().decode([one]) for one in there]
    assert 3 in there.tolist()
    assert 0 not in there.tolist()


def test_agreement_of_distributions_that_share_nothing_at_the_top() -> None:
    rising, falling = torch.arange(300.0)[None], torch.arange(300.0).flip(0)[None]
    found = agreement(rising, falling, 10, 100)
    assert float(found["overlap"]) == 0
    assert float(found["same_top"]) == 0
    assert float(found["rank_correlation"]) == pytest.approx(-1)
    assert float(found["kl"]) > 100
