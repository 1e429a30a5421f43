"""A cell of a patching map looked into: its lens ends where the map's figure says; and results by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif import shown_results
from edif.engine import decoder as decoder_module
from edif.engine.decoder import Decoder
from edif.patching import ActivationPatching, activation_patching
from edif.prediction import RESULT_TYPE

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
SECOND_NAME = 9


def patched(model: TransformersModel, **changes: object) -> ActivationPatching:
    asked = {"sites": ["residual", "mlp", "head"], "direction": "both", "progress": False, **changes}
    return activation_patching(model, CLEAN, CORRUPT, (" Mary", " John"), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_of_a_cell_ends_at_the_cells_own_figure(
    family: str, families: Callable[[str], TransformersModel]
) -> None:
    model = families(family)  # held here, as a user's variable holds it
    found = patched(model, layers=[1, 2], positions=[SECOND_NAME])
    for way in ("denoise", "noise"):
        for site, head in (("residual", None), ("mlp", None), ("head", 3)):
            cell = found.effect(site, direction=way, normalised=False)[0].sel(layer=2)[SECOND_NAME]
            lens = found.patched_lens(2, SECOND_NAME, site=site, head=head, direction=way, progress=False)
            value = float(cell if head is None else cell[head])
            np.testing.assert_allclose(lens.difference(" Mary", " John")[0, -1, -1], value, rtol=1e-4, atol=1e-5)
            assert f"({way})" in lens.as_json()["foot"]


def test_another_place_can_be_the_source(families: Callable[[str], TransformersModel]) -> None:
    model = families("llama")
    found = patched(model, layers=[1])
    plain = found.patched_lens(3, 13, site="residual", progress=False)
    # the clean run's last state of a lower layer in the place of the top one
    moved = found.patched_lens(3, 13, source=(1, 13), site="residual", progress=False)
    clean = edif.logit_lens(model, CLEAN, progress=False)
    np.testing.assert_allclose(plain.data["kl"][0, 3, 13], 0, atol=1e-5)
    ends, taken = moved.data["top_id"][0, 3, 13], clean.data["top_id"][0, 1, 13]
    np.testing.assert_array_equal(ends, taken)
    assert "layer 1, position 13" in moved.as_json()["foot"]


def test_another_head_can_be_the_source(families: Callable[[str], TransformersModel]) -> None:
    model = families("llama")
    found = patched(model, layers=[1])
    moved = found.patched_lens(2, SECOND_NAME, source=(1, SECOND_NAME, 3), site="head", head=0, progress=False)
    decoder = Decoder(model)
    with model.trace(CLEAN):
        head = decoder.read("head", 1)[:, SECOND_NAME, 3].clone().save()
    with model.trace(CORRUPT):
        decoder.write("head", 2, slice(None), SECOND_NAME, head, 0)
        logits = model.output.logits[0, -1].save()
    right, wrong = (model.tokenizer(token).input_ids[0] for token in (" Mary", " John"))
    expected = float(logits[right] - logits[wrong])
    np.testing.assert_allclose(moved.difference(" Mary", " John")[0, -1, -1], expected, rtol=1e-4)
    same = found.patched_lens(2, SECOND_NAME, source=(1, SECOND_NAME), site="head", head=0, progress=False)
    assert abs(float(same.difference(" Mary", " John")[0, -1, -1]) - expected) > 1e-4
    assert "head 0 of layer 2, position 9, patched with that of layer 1, position 9, head 3" in moved.as_json()["foot"]


def test_parts_that_were_named_are_found_again(
    families: Callable[[str], TransformersModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = families("llama")
    named = {part: places[0] for part, places in decoder_module.PLACES.items()} | {
        "mlp_norm": "post_attention_layernorm",
        **{part: f"{part}_proj" for part in "qkv"},
    }
    monkeypatch.setattr(decoder_module, "PLACES", dict.fromkeys(decoder_module.PLACES, ("nowhere",)))
    found = patched(model, layers=[2], positions=[SECOND_NAME], path=named)
    cell = found.effect("mlp", normalised=False)[0, 0, SECOND_NAME]
    lens = found.patched_lens(2, SECOND_NAME, site="mlp", progress=False)
    np.testing.assert_allclose(lens.difference(" Mary", " John")[0, -1, -1], cell, rtol=1e-4)
    estimates = edif.attribution_patching(
        model, CLEAN, CORRUPT, (" Mary", " John"), layers=[2], path=named, progress=False
    )
    assert len(estimates.refine(count=1, progress=False)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_patch_changes_no_earlier_position_and_of_its_layer_and_those_below_nothing_but_the_cell(
    family: str, families: Callable[[str], TransformersModel]
) -> None:
    model = families(family)
    layer, place = 2, SECOND_NAME
    found = patched(model, layers=[layer], positions=[place])
    unpatched = edif.logit_lens(model, CORRUPT, targets=[" Mary", " John"], progress=False)
    for site, head in (("residual", None), ("mlp", None), ("head", 1)):
        lens = found.patched_lens(layer, place, site=site, head=head, progress=False)
        moved = abs(lens.data["target_logit"] - unpatched.data["target_logit"])[0].max("target").values > 0
        assert not moved[:, :place].any(), f"{site}: an earlier position has changed"
        assert not moved[:layer].any(), f"{site}: a layer below has changed"
        assert np.flatnonzero(moved[layer]).tolist() == [place], f"{site}: something beside the cell has changed"
        assert moved[layer + 1 :, place:].any(), f"{site}: nothing after the cell has changed"


def test_what_cannot_be_looked_into_is_a_sentence(families: Callable[[str], TransformersModel]) -> None:
    model = families("gpt2")
    found = patched(model, layers=[1])
    with pytest.raises(ValueError, match="name a head"):
        found.patched_lens(1, SECOND_NAME, site="head")
    with pytest.raises(ValueError, match="no counterpart"):
        found.patched_lens(1, 40, site="residual")
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"layer": 9, "site": "mlp"}, "There is no layer 9"),
        ({"source": (9, SECOND_NAME), "site": "mlp"}, "There is no layer 9"),
        ({"head": 4, "site": "head"}, "There is no head 4"),
        ({"source": (1, SECOND_NAME, 2), "site": "mlp"}, "There are no heads at mlp"),
        ({"site": "pattern", "head": 0}, "no activation that could be put anywhere"),
    )
    for asked, said in refused:
        with pytest.raises(ValueError, match=said):
            found.patched_lens(**{"layer": 1, "position": SECOND_NAME, **asked})


def test_a_result_is_found_by_the_name_in_its_view_and_the_name_lasts(
    families: Callable[[str], TransformersModel],
) -> None:
    one, again = (patched(families("gpt2"), layers=[1]) for _ in range(2))
    names = {found._repr_mimebundle_()[RESULT_TYPE]["handle"] for found in (one, again)}
    assert len(names) == 1
    assert edif.shown(names.pop()) is again
    with pytest.raises(edif.NotShown, match="run the cell that made it"):
        edif.shown("0123456789ab")


def test_only_so_many_are_remembered() -> None:
    names = [shown_results.remember("kind", {"number": n}, n) for n in range(100)]
    assert edif.shown(names[-1]) == 99
    with pytest.raises(edif.NotShown):
        edif.shown(names[0])
