"""The exact invariants of activation patching, on every family; alignment; keeping and averaging."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif import beside
from edif.alignment import Alignment, align
from edif.engine.patches import Pair, patching
from edif.patching import ActivationPatching, activation_patching

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
ANSWER = (" Mary", " John")
LAST, SECOND_NAME = 13, 9


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _patched(model: TransformersModel, **changes: Any) -> ActivationPatching:
    asked: dict[str, Any] = {"clean": CLEAN, "corrupt": CORRUPT, "answer": ANSWER, **changes}
    return activation_patching(model, **asked, progress=False)


def test_patching_a_run_with_its_own_activations_changes_nothing(model: TransformersModel) -> None:
    # by the engine itself: the method would not compute such cells at all
    ids = model.tokenizer(CLEAN).input_ids
    pair = Pair(ids, ids, ids, {place: place for place in range(len(ids))}, 3, 4)
    sites = [site for site in edif.SITES if not (site == "residual_mid" and _parallel(model))]
    cells = [edif.Cell(layer, place, site) for layer in (1, 3) for place in (2, LAST) for site in sites]
    limits = {"layers": None, "batch_tokens": None, "batch_bytes": 1 << 30}
    work = functools.partial(patching, pairs=[pair], cells=[cells], everywhere=False, metric=None, limits=limits)
    found = beside.run(model, work, len(cells), remote=False, progress=False)
    base = found["changed"][0].numpy()
    np.testing.assert_allclose(found["values"][0], np.broadcast_to(base, (len(cells), 5)), rtol=1e-4, atol=1e-5)
    assert np.isnan(_patched(model, corrupt=CLEAN, layers=[1]).effect()).all()  # nothing to normalise by


def test_the_last_layer_at_the_last_position_gives_the_clean_run(model: TransformersModel) -> None:
    found = _patched(model)
    np.testing.assert_allclose(found.effect()[0, -1, LAST], 1, atol=1e-4)
    np.testing.assert_allclose(found.effect(metric="kl", normalised=False)[0, -1, LAST], 0, atol=1e-5)


def test_the_last_layer_elsewhere_and_positions_before_the_difference_give_the_corrupt_run(
    model: TransformersModel,
) -> None:
    effect = _patched(model).effect()[0]
    np.testing.assert_allclose(effect[-1, :LAST], 0, atol=1e-4)
    assert (effect[:, :SECOND_NAME] == 0).all()


def test_all_positions_at_one_layer_give_the_clean_run(model: TransformersModel) -> None:
    effect = _patched(model, positions="together").effect()
    assert effect.shape == (1, 4, 1)
    np.testing.assert_allclose(effect, 1, atol=1e-4)


def test_a_map_is_one_forward_pass_per_cell(model: TransformersModel) -> None:
    found = _patched(model, sites=["residual", "mlp"], direction="both")
    ids = {text: torch.tensor([model.tokenizer(text).input_ids]) for text in (CLEAN, CORRUPT)}
    right, wrong = (model.tokenizer(token).input_ids[0] for token in ANSWER)
    layer = edif_layers(model)[2]
    for way, (changed, source) in {"denoise": (CORRUPT, CLEAN), "noise": (CLEAN, CORRUPT)}.items():
        with model.trace(ids[source]):
            mlp = layer.mlp.output.save()
            state = layer.output.save()
        for place in (SECOND_NAME, LAST):
            for site, value in (("mlp", mlp), ("residual", state)):
                module = layer.mlp if site == "mlp" else layer
                with model.trace(ids[changed]):
                    module.output[:, place] = value[:, place]
                    logits = model.output.logits[0, -1].save()
                if site == "mlp" and "gemma2" in str(type(model._module)).lower():
                    continue  # there the site is what is added to the stream, after a norm of its own
                here = found.effect(site, direction=way, normalised=False)[0, 2, place]
                np.testing.assert_allclose(here, float(logits[right] - logits[wrong]), rtol=1e-3, atol=1e-4)


def edif_layers(model: Any) -> Any:
    from edif.engine.decoder import layers_of

    return layers_of(model)


def _parallel(model: Any) -> bool:
    return bool(getattr(model._module.config, "use_parallel_residual", False))


@pytest.mark.parametrize("model", ["llama", "gpt2"], indirect=True)
def test_all_heads_together_are_the_attention_output(model: TransformersModel) -> None:
    # attention is linear in its heads' outputs, so effects of all of a layer's heads at once are those of the block
    whole = _patched(model, sites="attention", layers=[1], positions=[LAST]).effect(normalised=False)
    decoder = edif.engine.decoder.Decoder(model)
    with model.trace(CLEAN):
        heads = decoder.read("head", 1).save()
    with model.trace(CORRUPT):
        for head in range(4):
            decoder.write("head", 1, slice(None), LAST, heads[:, LAST, head], head)
        logits = model.output.logits[0, -1].save()
    right, wrong = (model.tokenizer(token).input_ids[0] for token in ANSWER)
    np.testing.assert_allclose(whole[0, 0, LAST], float(logits[right] - logits[wrong]), rtol=1e-4)


def test_a_pattern_is_patched_as_in_the_attention_itself(model: TransformersModel) -> None:
    # the source's weights at one query and head, put where eager attention multiplies them with the values
    layer, head = 1, 2
    found = _patched(model, sites="pattern", layers=[layer], positions=[LAST]).effect(normalised=False)
    source = edif.attention(model, CLEAN, layers=[layer], progress=False).data["pattern"][0, 0].values
    decoder = edif.engine.decoder.Decoder(model)
    with model.trace(CORRUPT):
        values = decoder.of_heads(decoder.read("v", layer))
        mixed = torch.tensor(source[head, LAST]) @ values[0, :, head]
        decoder.write("head", layer, slice(None), LAST, mixed, head)
        logits = model.output.logits[0, -1].save()
    right, wrong = (model.tokenizer(token).input_ids[0] for token in ANSWER)
    np.testing.assert_allclose(found[0, 0, LAST, head], float(logits[right] - logits[wrong]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_metrics_are_what_they_say(self, model: TransformersModel) -> None:
        found = _patched(model, metric=_own)
        with model.trace(CLEAN):
            clean = model.output.logits[0, -1].save()
        with model.trace(CORRUPT):
            corrupt = model.output.logits[0, -1].save()
        right, wrong = (model.tokenizer(token).input_ids[0] for token in ANSWER)
        says, said = clean.log_softmax(-1), corrupt.log_softmax(-1)
        base = found.data["corrupt"].sel(direction="denoise").isel(pair=0)
        expected = {
            "logit_difference": corrupt[right] - corrupt[wrong],
            "probability": said[right].exp(),
            "log_probability": said[right],
            "rank": (corrupt > corrupt[right]).sum() + 1,
            "kl": (says.exp() * (says - said)).sum(),
            "_own": corrupt[:7].amax(),
        }
        assert found.data["metric"].values.tolist() == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(base.sel(metric=name), float(value), rtol=1e-4, atol=1e-6)
        assert found.data["clean"].sel(metric="kl").values[0, 0] == pytest.approx(0, abs=1e-6)

    def test_single_heads_and_groups_have_an_axis_of_their_own(self, model: TransformersModel) -> None:
        found = _patched(model, sites=["head", "v"], layers=[2], positions=[LAST])
        assert found.effect("head").sizes["head"] == 4
        assert found.effect("v").sizes["group"] == 2
        assert int(found.effect("head").notnull().sum()) == 4

    def test_prompts_of_unequal_length_are_aligned_and_the_rest_is_left_out(self, model: TransformersModel) -> None:
        longer = "When Mary and John went to the city of Paris, Mary gave a drink to"
        found = _patched(model, corrupt=longer)
        aligned = found.provenance["pairs"][0]["aligned"]
        assert [0, 0] in aligned
        assert [13, 15] in aligned
        effect = found.effect()[0]
        known = {corrupt for _, corrupt in aligned}
        assert {int(p) for p in np.flatnonzero(effect.notnull().all("layer"))} == known
        np.testing.assert_allclose(effect[-1, 15], 1, atol=1e-4)

    def test_many_pairs_have_a_mean_and_an_interval(self, model: TransformersModel) -> None:
        clean = [CLEAN, CLEAN.replace("store", "city"), CLEAN.replace("drink", "store")]
        corrupt = [CORRUPT, CORRUPT.replace("store", "city"), CORRUPT.replace("drink", "store")]
        found = _patched(model, clean=clean, corrupt=corrupt)
        mean = found.mean()
        np.testing.assert_allclose(mean["mean"], found.effect().mean("pair"))
        inner = mean.isel(layer=2, position=LAST)
        assert inner["low"] <= inner["mean"] <= inner["high"]
        assert int(inner["pairs"]) == 3
        alone = _patched(model, clean=clean[1], corrupt=corrupt[1])
        np.testing.assert_allclose(found.effect()[1], alone.effect()[0], atol=1e-4)

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (_patched(model, sites=["residual", "head"], remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = _patched(model, sites=["residual", "k"], direction="both")
        again = edif.load(found.save(tmp_path / "map.edif"))
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"sites": "neuron"}, "There is no site 'neuron': choose from residual_pre"),
            ({"direction": "sideways"}, "choose from denoise, noise, both"),
            ({"clean": [CLEAN, CLEAN]}, "2 clean and 1 corrupt"),
            ({"answer": (" Mary", " gave a drink")}, "' gave a drink' is .* tokens here"),
            ({"corrupt": "to"}, "no position in common"),
            ({"sites": "pattern", "corrupt": CORRUPT.replace("store", "city of Paris")}, "equal length only"),
            ({"answer": [(" Mary", " John")] * 2}, "as many answers"),
            ({"answer": (" Mary", 421)}, "There is no token 421: ids go from 0 to 420"),
            ({"alignment": Alignment([(0, 0), (3, 99)])}, r"\(3, 99\) cannot be aligned: .* the corrupt one 0 to 13"),
            ({"layers": [4]}, "There is no layer 4: it has layers 0 to 3"),
            ({"positions": [14]}, "There is no position 14: it has positions 0 to 13"),
            ({"clean": "", "corrupt": ""}, "An empty prompt has no position"),
            (
                {"clean": [[1] * 3000], "corrupt": [[2] * 3000]},
                "3000 tokens and this model takes 2048 at most: shorten",
            ),
            (
                {"clean": [[1] * 2000], "corrupt": [[2] * 2000], "sites": ["head", "q", "k", "v", "mlp", "attention"]},
                r"112000 cells, and one job computes 100000 at most: every 2. layer fits: layers=range\(1, 4, 2\)",
            ),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, change: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            _patched(model, **change)

    def test_a_metric_that_is_not_finite_is_said_where_it_is_drawn(self, model: TransformersModel) -> None:
        said_of = []
        for text in (CLEAN, CORRUPT):
            with model.trace(text):
                logits = model.output.logits[0, -1, 7].save()
            said_of.append(float(logits))
        middle, sign = sum(said_of) / 2, np.sign(said_of[0] - said_of[1])

        def broken(logits: torch.Tensor) -> torch.Tensor:  # a number in the clean run, and none in the corrupt one
            return torch.sqrt(sign * (logits[:, 7] - middle))

        found = _patched(model, metric=broken, layers=[2, 3])
        said = "broken is not finite in 1 of 2 baselines and"
        assert said in " ".join(found.provenance["notes"])
        assert "left empty" in found.as_json()["foot"]
        assert said in found._repr_mimebundle_()["text/plain"]
        assert np.isfinite(found.effect()).all()
        assert np.isnan(found.effect(metric="broken")).any()

    def test_a_metric_of_another_shape_is_one_sentence(self, model: TransformersModel) -> None:
        with pytest.raises(
            ValueError, match=r"The metric gave shape \(1, 421\) for logits of 1 rows: one value for each"
        ):
            _patched(model, metric=_unreduced)

    def test_its_alignment_is_shown_and_another_is_taken(self, model: TransformersModel) -> None:
        corrupt = CLEAN.replace("store", "city of Paris")
        found = _patched(model, corrupt=corrupt)
        shown = found.alignment()
        lines = repr(shown).splitlines()
        assert lines[0].split() == ["0", "When", "0", "When"]
        assert next(line.split() for line in lines if len(line.split()) == 2) == ["7", "␣store"]
        assert shown._repr_html_().count("<tr>") == len(lines) + 1
        edited = shown.edited(add=[(7, 9)])
        again = _patched(model, corrupt=corrupt, alignment=edited, layers=[2])
        assert again.alignment() == edited
        assert np.isfinite(again.effect().values[0, 0, 9])
        assert np.isnan(found.effect().values[0, 2, 9])

    def test_what_is_not_in_the_result_is_said_with_what_is(self, model: TransformersModel) -> None:
        found = _patched(model, layers=[3], positions=[LAST])
        for asked, said in (
            ({"site": "mlp"}, "'mlp' was not patched: there is residual"),
            ({"metric": "surprise"}, "no metric 'surprise': there is logit_difference"),
            ({"direction": "noise"}, "no direction 'noise': there is denoise"),
        ):
            with pytest.raises(KeyError, match=said):
                found.effect(**asked)


def _own(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, :7].amax(-1)


def _unreduced(logits: torch.Tensor) -> torch.Tensor:
    return logits


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_alignment_pairs_equal_tokens_or_equal_places(clean: list[int], corrupt: list[int]) -> None:
    try:
        pairs = align(clean, corrupt).pairs
    except ValueError:
        assert len(clean) != len(corrupt)
        return
    assert pairs == sorted(pairs)
    assert [other for _, other in pairs] == sorted({other for _, other in pairs})
    if len(clean) == len(corrupt):
        assert pairs == [(place, place) for place in range(len(clean))]
    else:
        assert all(clean[one] == corrupt[other] for one, other in pairs)


def test_an_alignment_is_shown_and_checked() -> None:
    alignment = align([1, 2, 3, 9], [1, 5, 6, 3, 9])
    assert alignment.pairs == [(0, 0), (2, 3), (3, 4)]
    shown = alignment.show(["a", "b", "c", "d"], ["a", "x", "y", "c", "d"]).splitlines()
    assert len(shown) == 6
    assert shown[0].split() == ["0", "a", "0", "a"]
    with pytest.raises(ValueError, match="aligned twice"):
        Alignment([(0, 0), (1, 0)])


def test_spans_correspond_from_their_ends_and_take_the_place_of_what_held_their_positions() -> None:
    # a name of two tokens, and one of three; then one word of each alone in the middle
    assert align([1, 2, 3, 9], [1, 5, 6, 7, 9], spans=[((1, 3), (1, 4))]).pairs == [(0, 0), (1, 2), (2, 3), (3, 4)]
    assert align([1, 2, 3, 4], [1, 5, 6, 4], spans=[((1, 3), (1, 2))]).pairs == [(0, 0), (2, 1), (3, 3)]
    assert align([1, 2], [3, 4, 5], spans=[((0, 2), (1, 3))]).pairs == [(0, 1), (1, 2)]
    alignment = Alignment([(0, 0), (1, 1), (2, 2)])
    assert alignment.edited(add=[(1, 2)], drop=[(0, 0)]).pairs == [(1, 2)]
    with pytest.raises(ValueError, match="no position in common"):
        alignment.edited(drop=alignment.pairs)
