"""Agreement of results is exact for equal ones, falls with noise, and says over what its interval is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nnsight import TransformersModel

import edif

ROOT = Path(__file__).parents[2]
CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"


@pytest.mark.parametrize("kind", ["lens", "patching", "trace"])
def test_a_result_agrees_with_itself(kind: str) -> None:
    result = edif.load(ROOT / "tests" / "e2e" / "results" / f"{kind}.edif")
    found = edif.agreement(result, result)
    np.testing.assert_allclose(found[["correlation", "low", "high", "rank_correlation", "top_overlap"]], 1, atol=1e-9)
    assert (found[["mean_difference", "largest_difference"]] == 0).all(axis=None)


def test_noise_lowers_it_and_the_interval_holds_it(families: Callable[[str], TransformersModel]) -> None:
    model = families("llama")
    noisy = families("llama")
    clean = [CLEAN, CLEAN.replace("store", "city"), CLEAN.replace("drink", "store")]
    corrupt = [text.replace("John gave", "Mary gave") for text in clean]

    def patched(one: TransformersModel) -> edif.ActivationPatching:
        sites = ["residual", "mlp"]
        return edif.activation_patching(one, clean, corrupt, (" Mary", " John"), sites=sites, progress=False)

    generator = torch.Generator().manual_seed(0)
    for part in noisy._module.parameters():
        part.data *= 1 + 0.05 * torch.randn(part.shape, generator=generator)
    found = edif.agreement(patched(model), patched(noisy))
    assert set(found.index) == {"mlp", "residual"}
    assert (found["low"] <= found["correlation"]).all()
    assert (found["correlation"] <= found["high"] + 1e-12).all()
    assert (found["correlation"] < 1).all()
    assert (found["largest_difference"] > 0).all()
    assert (found["over"] == "examples").all()


def test_results_of_other_things_are_refused(families: Callable[[str], TransformersModel]) -> None:
    model = families("llama")
    lens = edif.logit_lens(model, CLEAN, progress=False)
    with pytest.raises(ValueError, match="different prompts, layers or sites"):
        edif.agreement(lens, edif.logit_lens(model, CORRUPT, progress=False))
    with pytest.raises(ValueError, match="different prompts, layers or sites"):
        edif.agreement(lens, edif.logit_lens(model, CLEAN, stride=2, progress=False))
    with pytest.raises(ValueError, match="A logit_lens and a attention cannot be compared"):
        edif.agreement(lens, edif.attention(model, CLEAN, progress=False))
