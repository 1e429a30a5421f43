"""The published figures of GPT-2 and GPT-2 XL, wherever their weights lie in the Hugging Face cache; skipped elsewhere.

Sources: the TransformerLens demos and the NNsight tutorial on indirect object identification, Meng et al. (2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import try_to_load_from_cache
from nnsight import TransformersModel

import edif

#: Prompt, and the two names that are put into it.
TEMPLATES = (
    ("When John and Mary went to the shops,{} gave the bag to", (" Mary", " John")),
    ("When Tom and James went to the park,{} gave the ball to", (" Tom", " James")),
    ("When Dan and Sid went to the shops,{} gave an apple to", (" Dan", " Sid")),
    ("After Martin and Amy went to the park,{} gave a drink to", (" Martin", " Amy")),
)
#: The part of the difference that a head's output restores, at all positions together, with BOS.
HEADS = {
    (10, 7): -0.480,
    (5, 5): 0.344,
    (8, 6): 0.319,
    (11, 10): -0.278,
    (8, 10): 0.278,
    (9, 9): 0.264,
    (7, 9): 0.192,
    (6, 9): 0.130,
    (7, 3): 0.124,
    (3, 0): 0.116,
}


def _loaded(name: str) -> TransformersModel:
    for repo in (name, f"openai-community/{name}"):
        if all(isinstance(try_to_load_from_cache(repo, file), str) for file in ("config.json", "model.safetensors")):
            torch.set_num_threads(1)
            model = TransformersModel(repo, task="text-generation", dispatch=True, attn_implementation="eager")
            model._module.eval().requires_grad_(False)
            return model
    pytest.skip(f"the weights of {name} are not in the Hugging Face cache")


@pytest.fixture(scope="module")
def gpt2() -> TransformersModel:
    return _loaded("gpt2")


def _pairs(model: TransformersModel, bos: bool) -> dict[str, Any]:
    """Eight prompts, each with its counterpart, in which the other name gives."""
    begin = [model.tokenizer.bos_token_id] if bos else []
    clean, corrupt, answers = [], [], []
    for template, names in TEMPLATES:
        for right, wrong in (names, names[::-1]):
            clean.append(begin + model.tokenizer(template.format(wrong)).input_ids)
            corrupt.append(begin + model.tokenizer(template.format(right)).input_ids)
            answers.append((right, wrong))
    return {"clean": clean, "corrupt": corrupt, "answer": answers}


@pytest.mark.parametrize(("bos", "difference"), [(True, 3.5519), (False, 2.8138)])
def test_eight_prompts_differ_by_the_published_logits(gpt2: TransformersModel, bos: bool, difference: float) -> None:
    found = edif.activation_patching(gpt2, **_pairs(gpt2, bos), layers=[11], positions=[-1], progress=False)
    means = {name: float(found.data[name].sel(metric="logit_difference").mean()) for name in ("clean", "corrupt")}
    assert means["clean"] == pytest.approx(difference, abs=2e-3)
    assert means["corrupt"] == pytest.approx(-difference, abs=2e-3)


def test_one_pair_has_the_published_map(gpt2: TransformersModel) -> None:
    prompt = "After John and Mary went to the store, {} gave a bottle of milk to"
    found = edif.activation_patching(
        gpt2, prompt.format("Mary"), prompt.format("John"), (" John", " Mary"), progress=False
    )
    clean, corrupt = (found.data[name].sel(metric="logit_difference").item() for name in ("clean", "corrupt"))
    assert clean == pytest.approx(4.124, abs=2e-3)
    assert corrupt == pytest.approx(-2.272, abs=2e-3)
    effect = found.effect()[0]
    for layer, position, value in (
        *((0, 9, 0.997), (7, 9, 0.686), (7, 15, 0.415)),
        *((8, 9, 0.110), (8, 15, 0.854), (11, 15, 1.0)),
    ):
        assert float(effect.sel(layer=layer)[position]) == pytest.approx(value, abs=3e-3)


def test_heads_restore_the_published_parts(gpt2: TransformersModel) -> None:
    found = edif.activation_patching(gpt2, **_pairs(gpt2, True), sites="head", positions="together", progress=False)
    raw = found.effect("head", normalised=False).mean("pair")[:, 0]
    clean, corrupt = (float(found.data[name].sel(metric="logit_difference").mean()) for name in ("clean", "corrupt"))
    effect = (raw - corrupt) / (clean - corrupt)
    for (layer, head), value in HEADS.items():
        assert float(effect.sel(layer=layer)[head]) == pytest.approx(value, abs=0.01)
    strongest = np.argsort(-abs(effect.values).ravel())[:6]
    assert {tuple(map(int, divmod(one, 12))) for one in strongest} == set(list(HEADS)[:6])


def test_gpt2_xl_knows_where_the_space_needle_is() -> None:
    model = _loaded("gpt2-xl")
    found = edif.causal_trace(
        model, "The Space Needle is in downtown", "The Space Needle", kinds="state", layers=[15], progress=False
    )
    assert float(found.data["clean"][0]) == pytest.approx(0.9764, abs=2e-3)
    assert str(found.data["answer_token"].values[0]) == " Seattle"
