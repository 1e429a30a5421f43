"""The published figures of GPT-2 and GPT-2 XL, wherever their weights lie in the Hugging Face cache; skipped elsewhere.

Sources: the TransformerLens demos and the NNsight tutorial on indirect object identification, Wang et al. (2022) and
Meng et al. (2022).  What measures them is measured everywhere, on stand-ins and against transformers with hooks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnsight import TransformersModel

from tests import gpt2_weights

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
#: Estimates against exact patching, eight prompts with BOS; MLP 0 at its strongest, exact and estimated.
CORRELATIONS = {"head": 0.983, "q": 0.869, "k": 0.821, "v": 0.995, "pattern": 0.979}
CORRELATIONS |= {"residual_pre": 0.735, "attention": 0.982}
MLP, FIRST_MLP = 0.436, (0.851, 0.036)
#: Wang et al. (2022), section 2: mean difference over 100,000 prompts, and how often the right name is above the other.
PAPER_DIFFERENCE, PAPER_RIGHT = 3.56, 0.993
#: Meng et al. (2022), section 2.2, over 1,000 facts: average total effect; indirect ones at the last subject token, of
#: the state after layer 15, of MLPs where these are strongest, and of attention.
TOTAL, STATE, MLPS, ATTENTION = 0.186, 0.087, 0.066, 0.016
LEVEL = 0.134630  # three standard deviations of the embeddings of these facts' subjects
#: So many of the facts take about an hour on a CPU; intervals say how little these few are.
_FACTS = 16


def _published(name: str) -> TransformersModel:
    folder = gpt2_weights.snapshot(name)
    if folder is None:
        pytest.skip(f"the weights of {name} are not in the Hugging Face cache")
    return gpt2_weights.loaded(folder)


@pytest.fixture(scope="module")
def gpt2() -> TransformersModel:
    return _published("gpt2")


@pytest.mark.parametrize(("bos", "difference"), [(True, 3.5519), (False, 2.8138)])
def test_eight_prompts_differ_by_the_published_logits(gpt2: TransformersModel, bos: bool, difference: float) -> None:
    assert gpt2_weights.differences(gpt2, bos) == pytest.approx((difference, -difference), abs=2e-3)


def test_one_pair_has_the_published_map(gpt2: TransformersModel) -> None:
    clean, corrupt, effect = gpt2_weights.one_pair(gpt2)
    assert (clean, corrupt) == pytest.approx((4.124, -2.272), abs=2e-3)
    for layer, position, value in (
        *((0, 9, 0.997), (7, 9, 0.686), (7, 15, 0.415)),
        *((8, 9, 0.110), (8, 15, 0.854), (11, 15, 1.0)),
    ):
        assert float(effect.sel(layer=layer)[position]) == pytest.approx(value, abs=3e-3)


def test_heads_restore_the_published_parts(gpt2: TransformersModel) -> None:
    effect = gpt2_weights.head_effects(gpt2)
    for head, value in HEADS.items():
        assert float(effect[head]) == pytest.approx(value, abs=0.01)
    strongest = np.argsort(-abs(effect).ravel())[:6]
    assert {tuple(map(int, divmod(one, 12))) for one in strongest} == set(list(HEADS)[:6])


def test_gpt2_xl_knows_where_the_space_needle_is() -> None:
    answer, clean, *_ = gpt2_weights.needle(_published("gpt2-xl"))
    assert answer == " Seattle"
    assert clean == pytest.approx(0.9764, abs=2e-3)


def test_estimates_go_with_exact_patching_as_published(gpt2: TransformersModel) -> None:
    found, first = gpt2_weights.correlations(gpt2)
    assert found == pytest.approx({**CORRELATIONS, "mlp": MLP}, abs=0.02)
    assert first == pytest.approx(FIRST_MLP, abs=0.01)


def test_prompts_of_the_ioi_paper_differ_as_it_says(gpt2: TransformersModel) -> None:
    found = gpt2_weights.paper_differences(gpt2)
    # 120 prompts with 20 of the paper's 100 names: names differ, so this is loose
    assert found.mean() == pytest.approx(PAPER_DIFFERENCE, abs=0.5)
    assert (found > 0).mean() == pytest.approx(PAPER_RIGHT, abs=0.03)


@pytest.fixture(scope="module")
def facts() -> list[dict[str, str]]:
    found = gpt2_weights.known_facts()
    if not found:
        pytest.skip("known_1000.json, the facts of the ROME paper, is not in the Hugging Face cache")
    return found


def test_noise_of_gpt2_xl_has_the_published_level(facts: list[dict[str, str]]) -> None:
    # the paper embeds subjects by themselves, here they are a part of their prompts
    assert gpt2_weights.noise_level(_published("gpt2-xl"), facts) == pytest.approx(LEVEL, rel=0.02)


def test_published_averages_are_within_the_intervals_of_some_facts(facts: list[dict[str, str]]) -> None:
    found = gpt2_weights.averages(_published("gpt2-xl"), facts[:_FACTS], LEVEL, layers=[13, 15, 17])
    assert found["total"][1] <= TOTAL <= found["total"][2]
    (state, low, high), (mlp, mlp_low, mlp_high), attention = (found[kind] for kind in ("state", "mlp", "attention"))
    assert low[1] <= STATE <= high[1]
    assert mlp_low.max() <= MLPS <= mlp_high.max()
    assert attention[1][1] <= ATTENTION <= attention[2][1]
    assert state[1] > mlp.max() > attention[0].max()


# -- stand-ins: what is measured above is found where a cache has it, and is what hooks in transformers give ---------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with both stand-ins."""
    folder = tmp_path_factory.mktemp("cache")
    gpt2_weights.stand_in("gpt2", folder, layers=12)
    gpt2_weights.stand_in("gpt2-xl", folder, layers=16)
    return folder


@pytest.fixture(scope="module")
def small(cache: Path) -> TransformersModel:
    folder = gpt2_weights.snapshot("gpt2", cache)
    assert folder is not None
    return gpt2_weights.loaded(folder)


def test_weights_are_found_only_where_all_files_are(cache: Path, tmp_path: Path) -> None:
    assert gpt2_weights.snapshot("gpt2", tmp_path) is None
    gpt2_weights.stand_in("gpt2", tmp_path, layers=12)
    found = gpt2_weights.snapshot("gpt2", tmp_path)
    assert found is not None
    (found / "model.safetensors").unlink()
    assert gpt2_weights.snapshot("gpt2", tmp_path) is None


@pytest.mark.parametrize("bos", [True, False])
def test_of_a_stand_in_differences_as_hooks_give(small: TransformersModel, bos: bool) -> None:
    asked = gpt2_weights.pairs(small, bos)
    assert (asked["clean"][0][0] == small.tokenizer.bos_token_id) is bos
    expected = [
        np.mean([_difference(small, ids, answer) for ids, answer in zip(asked[side], asked["answer"], strict=True)])
        for side in ("clean", "corrupt")
    ]
    assert abs(expected[0] - expected[1]) > 1e-3
    assert gpt2_weights.differences(small, bos) == pytest.approx(tuple(expected), rel=1e-3, abs=1e-4)


def test_of_a_stand_in_map_of_one_pair_as_hooks_give(small: TransformersModel) -> None:
    clean, corrupt, effect = gpt2_weights.one_pair(small)
    good, bad = (small.tokenizer(gpt2_weights.PAIR.format(name)).input_ids for name in ("Mary", "John"))
    answer = (" John", " Mary")
    assert clean == pytest.approx(_difference(small, good, answer), rel=1e-4)
    for layer, position in ((0, 9), (7, 9), (8, 15), (11, 15)):
        module = small._module.transformer.h[layer]
        patched = _difference(small, bad, answer, _put(small, module, good, position))
        value = float(effect.sel(layer=layer)[position])
        assert value == pytest.approx((patched - corrupt) / (clean - corrupt), rel=1e-3, abs=1e-4)
    assert float(effect[-1, -1]) == pytest.approx(1, abs=1e-4)


def test_of_a_stand_in_heads_as_hooks_give(small: TransformersModel) -> None:
    effect, asked = gpt2_weights.head_effects(small), gpt2_weights.pairs(small, True)
    assert effect.shape == (12, 12)
    clean, corrupt = gpt2_weights.differences(small, True)
    for layer, head in ((10, 7), (3, 0)):
        module = small._module.transformer.h[layer].attn.c_proj
        patched = [
            _difference(small, bad, answer, _put(small, module, good, slice(None), head))
            for good, bad, answer in zip(asked["clean"], asked["corrupt"], asked["answer"], strict=True)
        ]
        expected = (np.mean(patched) - corrupt) / (clean - corrupt)
        assert effect[layer, head] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_of_a_stand_in_estimates_as_gradients_give(small: TransformersModel) -> None:
    found, asked = gpt2_weights.maps(small), gpt2_weights.pairs(small, True)
    clean, corrupt = gpt2_weights.differences(small, True)
    blocks = small._module.transformer.h
    prompts = list(zip(asked["clean"], asked["corrupt"], asked["answer"], strict=True))
    heads = np.mean([_estimate(small, blocks[10].attn.c_proj, *each, reads_input=True) for each in prompts], 0)
    width = small._module.config.n_embd // 12
    head = heads[:, 7 * width : 8 * width].sum() / (clean - corrupt)
    assert found["head"][1][10, 7] == pytest.approx(head, rel=1e-3, abs=1e-5)
    mlps = np.mean([_estimate(small, blocks[0].mlp, *each) for each in prompts], 0).sum(-1) / (clean - corrupt)
    np.testing.assert_allclose(found["mlp"][1][0], mlps, rtol=1e-3, atol=1e-5)

    patched = [_difference(small, bad, a, _put(small, blocks[0].mlp, good, 10)) for good, bad, a in prompts]
    assert found["mlp"][0][0, 10] == pytest.approx((np.mean(patched) - corrupt) / (clean - corrupt), rel=1e-3, abs=1e-4)
    together, (exact, guess) = gpt2_weights.correlations(small)
    assert set(together) == {*CORRELATIONS, "mlp"}
    assert together["mlp"] == pytest.approx(np.corrcoef(*(part.ravel() for part in found["mlp"]))[0, 1])
    place = int(abs(found["mlp"][0][0]).argmax())
    assert (exact, guess) == pytest.approx(tuple(part[0, place] for part in found["mlp"]))


def test_of_a_stand_in_prompts_of_the_ioi_paper_as_hooks_give(small: TransformersModel) -> None:
    found, asked = gpt2_weights.paper_differences(small), gpt2_weights.paper_prompts()
    assert len(found) == len(asked) == 120
    assert len({text for text, _, _ in asked}) > 100
    for n in (0, 50, 119):
        text, right, wrong = asked[n]
        assert text.count(wrong) == 2
        assert text.count(right) == 1
        assert found[n] == pytest.approx(_difference(small, small.tokenizer(text).input_ids, (right, wrong)), rel=1e-3)


def test_of_a_stand_in_averages_over_facts(cache: Path, tmp_path: Path) -> None:
    folder = gpt2_weights.snapshot("gpt2-xl", cache)
    assert folder is not None
    large = gpt2_weights.loaded(folder)
    assert gpt2_weights.known_facts(tmp_path) == []
    pair = gpt2_weights.PAIR.format("Mary")
    told = [{"prompt": gpt2_weights.NEEDLE, "subject": "The Space Needle"}, {"prompt": pair, "subject": "John"}]
    (tmp_path / "known_1000.json").write_text(json.dumps(told))
    known = gpt2_weights.known_facts(tmp_path)
    names = ["The", " Space", " Needle", " John"]
    ids = [large.tokenizer(name).input_ids[0] for name in names]
    spread = large._module.transformer.wte.weight[ids].std(correction=0).item()
    assert gpt2_weights.noise_level(large, known) == pytest.approx(3 * spread, rel=1e-4)
    found = gpt2_weights.averages(large, known, 3 * spread, layers=[2, 15])
    assert found["total"][1] <= found["total"][0] <= found["total"][2]
    for kind in ("state", "mlp", "attention"):
        mean, low, high = found[kind]
        assert (low <= mean).all()
        assert (mean <= high).all()
    assert found["state"][0][1] == pytest.approx(0, abs=1e-6)  # after the last layer a subject says nothing more
    assert abs(found["state"][0][0]) > 1e-5


def test_of_a_stand_in_space_needle_as_hooks_give(cache: Path) -> None:
    folder = gpt2_weights.snapshot("gpt2-xl", cache)
    assert folder is not None
    large = gpt2_weights.loaded(folder)
    answer, clean, corrupted, effect = gpt2_weights.needle(large)
    ids = torch.tensor([large.tokenizer(gpt2_weights.NEEDLE).input_ids])
    spoken = large._module(ids).logits[0, -1].softmax(-1)
    assert answer == large.tokenizer.decode(int(spoken.argmax()))
    assert clean == pytest.approx(float(spoken.max()), rel=1e-4)
    # the last of 16 layers: the answer comes back at the last position alone, and there whole
    assert clean - corrupted > 1e-4
    assert effect[-1] == pytest.approx(clean - corrupted, rel=1e-3)
    assert abs(effect[:-1]).max() < 1e-5


def _difference(model: Any, ids: list[int], answer: tuple[str, str], put: Callable[[], Any] | None = None) -> float:
    """Logit difference at the last position, by transformers alone; ``put`` hangs a hook for this run."""
    right, wrong = (model.tokenizer(token).input_ids[0] for token in answer)
    hook = put() if put else None
    logits = model._module(torch.tensor([ids])).logits[0, -1]
    if hook is not None:
        hook.remove()
    return float(logits[right] - logits[wrong])


def _estimate(
    model: Any, module: Any, good: list[int], bad: list[int], answer: tuple[str, str], reads_input: bool = False
) -> np.ndarray[Any, Any]:
    """(clean − corrupt activation) · ∂ difference / ∂ activation of the corrupt run, by autograd: (position, width)."""
    right, wrong = (model.tokenizer(token).input_ids[0] for token in answer)
    kept: list[torch.Tensor] = []

    def keep(state: torch.Tensor) -> torch.Tensor:
        kept.append(state.detach().requires_grad_())  # ahead of it there is nothing to derive by
        return kept[-1]

    hook = (
        module.register_forward_pre_hook(lambda _, given: (keep(given[0]), *given[1:]))
        if reads_input
        else module.register_forward_hook(lambda _, given, made: keep(made))
    )
    with torch.enable_grad():
        model._module(torch.tensor([good]))
        logits = model._module(torch.tensor([bad])).logits[0, -1]
        (slope,) = torch.autograd.grad(logits[right] - logits[wrong], kept[1])
    hook.remove()
    found: np.ndarray[Any, Any] = ((kept[0] - kept[1]) * slope)[0].detach().numpy()
    return found


def _put(model: Any, module: Any, source: list[int], position: Any, head: int | None = None) -> Callable[[], Any]:
    """Hangs a hook that puts another run's activation in place: a block's output, or one head's part of an input."""
    kept: list[torch.Tensor] = []
    if head is None:
        reading = module.register_forward_hook(lambda _, given, made: kept.append(_first(made).clone()))
    else:
        reading = module.register_forward_pre_hook(lambda _, given: kept.append(given[0].clone()))
    model._module(torch.tensor([source]))
    reading.remove()
    width = model._module.config.n_embd // model._module.config.n_head
    part = slice(None) if head is None else slice(head * width, (head + 1) * width)

    def change(state: torch.Tensor) -> None:
        state[:, position, part] = kept[0][:, position, part]

    if head is None:
        return lambda: module.register_forward_hook(lambda _, given, made: change(_first(made)))
    return lambda: module.register_forward_pre_hook(lambda _, given: change(given[0]))


def _first(made: Any) -> torch.Tensor:
    found: torch.Tensor = made if isinstance(made, torch.Tensor) else made[0]
    return found
