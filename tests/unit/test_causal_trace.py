"""Causal tracing by its definition: noise on the subject alone, the same for all cells; windows, severed parts."""

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
from edif.causal_trace import CausalTrace, causal_trace, subject_span
from edif.engine.decoder import Decoder

PROMPT, SUBJECT = "The Eiffel Tower is in the city of", "Eiffel Tower"
OTHER = "When Mary and John went to the store, John gave a drink to"


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _traced(model: TransformersModel, **changes: Any) -> CausalTrace:
    asked: dict[str, Any] = {"prompt": PROMPT, "subject": SUBJECT, "samples": 3, "level": 0.5, **changes}
    return causal_trace(model, **asked, progress=False)


def _by_hand(model: TransformersModel, found: CausalTrace, restore: list[tuple[str, int, int]]) -> np.ndarray[Any, Any]:
    """Probability of the answer with noise on the subject and some (site, layer, position) taken from the clean run."""
    decoder = Decoder(model)
    ids = found.provenance["facts"][0]["prompt_ids"]
    first, end = found.provenance["facts"][0]["subject"]
    noise = torch.randn(3, end - first, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    answer = int(found.data["answer_id"][0])
    with model.trace(torch.tensor([ids])):
        clean = {(s, n): decoder.read(s, n).clone() for n in range(4) for s in ("attention", "mlp", "residual")}.save()
    with model.trace(torch.tensor([ids] * 3)):
        decoder.embedding.output[:, first:end] += noise
        for layer in range(4):
            for site in ("attention", "mlp", "residual"):
                for position in [p for s, n, p in restore if (s, n) == (site, layer)]:
                    decoder.write(site, layer, slice(None), position, clean[site, layer][:, position])
        logits = model.output.logits[:, -1].save()
    probability: np.ndarray[Any, Any] = logits.softmax(-1)[:, answer].numpy()
    return probability


def test_it_is_what_its_definition_says(model: TransformersModel) -> None:
    found = _traced(model, kinds=["state", "mlp", "attention"], window=2)
    np.testing.assert_allclose(found.data["corrupted"][0], _by_hand(model, found, []), rtol=1e-4)
    last = found.data.sizes["position"] - 1
    first, end = found.provenance["facts"][0]["subject"]
    for position in (end - 1, last):
        state = found.data["restored"].sel(kind="state", layer=2)[0, position]
        np.testing.assert_allclose(state, _by_hand(model, found, [("residual", 2, position)]), rtol=1e-4)
        for kind in ("mlp", "attention"):
            window = [(kind, layer, position) for layer in (1, 2)]  # [2 − 1, 2 + 1)
            value = found.data["restored"].sel(kind=kind, layer=2)[0, position]
            np.testing.assert_allclose(value, _by_hand(model, found, window), rtol=1e-4)
    edge = found.data["restored"].sel(kind="mlp", layer=0)[0, last]  # clipped: layer 0 alone
    np.testing.assert_allclose(edge, _by_hand(model, found, [("mlp", 0, last)]), rtol=1e-4)
    assert first >= 1


def test_the_last_state_gives_the_clean_answer_back(model: TransformersModel) -> None:
    found = _traced(model, kinds="state")
    np.testing.assert_allclose(found.data["restored"][0, 0, -1, -1], np.full(3, found.data["clean"][0]), rtol=1e-4)
    np.testing.assert_allclose(found.indirect_effect()[0, -1, -1], found.total_effect()[0], atol=1e-6)
    np.testing.assert_allclose(found.spread()[0, -1, -1], found.data["corrupted"][0].std(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_tokens_before_the_subject_are_not_touched(self, model: TransformersModel) -> None:
        found = _traced(model, kinds="state")
        first, _ = found.provenance["facts"][0]["subject"]
        effect = found.indirect_effect()[0]
        np.testing.assert_allclose(effect[:, :first], 0, atol=1e-7)

    def test_a_severed_part_is_held_at_the_corrupted_run(self, model: TransformersModel) -> None:
        found = _traced(model, kinds=["state", "state_no_mlp", "state_no_attention"])
        severed, whole = found.data["restored"].sel(kind="state_no_mlp"), found.data["restored"].sel(kind="state")
        last = found.provenance["facts"][0]["subject"][1] - 1
        # in the last layer no later part is left to be held; below, holding it makes a difference
        np.testing.assert_allclose(severed[0, -1, last], whole[0, -1, last], rtol=1e-6)
        assert (abs(severed[0, 0, last] - whole[0, 0, last]) > 1e-9).all()
        decoder, ids = Decoder(model), found.provenance["facts"][0]["prompt_ids"]
        first, end = found.provenance["facts"][0]["subject"]
        noise = torch.randn(3, end - first, 32, generator=torch.Generator().manual_seed(0)) * 0.5
        with model.trace(torch.tensor([ids])):
            clean = decoder.read("residual", 1).clone().save()
        with model.trace(torch.tensor([ids] * 3)):
            decoder.embedding.output[:, first:end] += noise
            held = [decoder.read("mlp", layer).clone() for layer in range(4)].save()
        with model.trace(torch.tensor([ids] * 3)):
            decoder.embedding.output[:, first:end] += noise
            decoder.write("residual", 1, slice(None), last, clean[:, last])
            for layer in (2, 3):
                decoder.write("mlp", layer, slice(None), last, held[layer][:, last])
            logits = model.output.logits[:, -1].save()
        expected = logits.softmax(-1)[:, int(found.data["answer_id"][0])]
        np.testing.assert_allclose(severed[0, 1, last], expected, rtol=1e-4)

    def test_another_subject_instead_of_noise(self, model: TransformersModel) -> None:
        found = _traced(model, prompt=OTHER, subject="Mary", corrupt=OTHER.replace("Mary", "John"), answer=" Mary")
        assert found.data.sizes["sample"] == 1
        with model.trace(OTHER.replace("Mary", "John")):
            logits = model.output.logits[:, -1].save()
        answer = model.tokenizer(" Mary").input_ids[0]
        np.testing.assert_allclose(found.data["corrupted"][0], logits.softmax(-1)[:, answer], rtol=1e-5)

    def test_noise_is_measured_in_the_subjects_embeddings(self, model: TransformersModel) -> None:
        found = _traced(model, level=None, noise=2.0, layers=[0])
        first, end = found.provenance["facts"][0]["subject"]
        ids = found.provenance["facts"][0]["prompt_ids"][first:end]
        embedded = model._module.model.embed_tokens.weight[ids]
        assert found.provenance["level"] == pytest.approx(2 * float(embedded.std(correction=0)), rel=1e-5)

    def test_seeds_decide(self, model: TransformersModel) -> None:
        one, same, other = (_traced(model, seed=seed, layers=[1]) for seed in (1, 1, 2))
        assert one.data.equals(same.data)
        assert not one.data.equals(other.data)

    def test_several_facts_are_averaged_by_token_class(self, model: TransformersModel) -> None:
        found = _traced(model, prompt=[PROMPT, OTHER], subject=[SUBJECT, "Mary"], kinds="state")
        average = found.average()
        effect = found.indirect_effect()
        places = [f["subject"][1] - 1 for f in found.provenance["facts"]]
        expected = np.mean([effect.values[fact][:, place] for fact, place in enumerate(places)], axis=0)
        np.testing.assert_allclose(average["mean"].sel(token_class="last subject"), expected)
        assert average["facts"].sel(token_class="last subject") == 2
        inner = average.sel(token_class="last subject").isel(layer=1)
        assert inner["low"] <= inner["mean"] <= inner["high"]
        assert found.data["token_class"].values[0, -1] in ("", "last")
        alone = _traced(model, prompt=OTHER, subject="Mary", kinds="state")
        np.testing.assert_allclose(effect[1], alone.indirect_effect()[0], atol=1e-6)

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (_traced(model, kinds=["state", "mlp"], remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = _traced(model, layers=[0, -1])
        again = edif.load(found.save(tmp_path / "trace.edif"))
        assert again.data.identical(found.data)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"subject": "Space Needle"}, "'Space Needle' is not in the prompt"),
            ({"subject": ""}, "is not in the prompt"),
            ({"corrupt": "The Tower is in the city of"}, "choose another subject of as many tokens"),
            ({"kinds": "neuron"}, "There is no kind 'neuron': choose from state"),
            ({"prompt": [PROMPT, PROMPT]}, "2 prompts need as many subjects"),
            ({"samples": 0}, "at least 1"),
            ({"noise": float("nan")}, "standard deviations: finite"),
            ({"level": -1.0}, "standard deviations: finite"),
            ({"layers": [4]}, "There is no layer 4"),
            ({"answer": " gave a drink"}, "tokens here .*, and one is needed"),
            ({"prompt": PROMPT + " the" * 3000}, "tokens and this model takes 2048 at most"),
            (
                {"prompt": [PROMPT + " the" * 1500] * 11, "subject": [SUBJECT] * 11},
                r"cells, and one job computes 100000 at most: every 2. layer fits: layers=range\(1, 4, 2\)",
            ),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, change: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            _traced(model, **change)

    def test_the_subject_is_found_whatever_its_tokens_are(self, model: TransformersModel) -> None:
        ids = model.tokenizer(PROMPT).input_ids
        first, end = subject_span(model.tokenizer, ids, SUBJECT)
        assert model.tokenizer.decode(ids[first:end]).strip() == SUBJECT
