"""Attribution is the slope of the exact effect, is flagged where it misleads, and its top cells can be made exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif.attribution import AttributionPatching, attribution_patching
from edif.engine.decoder import SITES, Decoder
from edif.engine.patches import pattern_outputs
from edif.patching import activation_patching

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
ANSWER = (" Mary", " John")
PLACE = 11


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _attributed(model: TransformersModel, **changes: Any) -> AttributionPatching:
    asked: dict[str, Any] = {"clean": CLEAN, "corrupt": CORRUPT, "answer": ANSWER, **changes}
    return attribution_patching(model, **asked, progress=False)


def test_it_is_the_slope_of_the_exact_effect(model: TransformersModel) -> None:
    # a small step from the corrupt towards the clean activation changes the metric by that part of the estimate
    model._module.double()  # differences of small steps would drown in single precision
    parallel = getattr(model._module.config, "use_parallel_residual", False)
    sites = [site for site in SITES if not (site == "residual_mid" and parallel)]
    found = _attributed(model, sites=sites)
    decoder, right, wrong = Decoder(model), *(model.tokenizer(token).input_ids[0] for token in ANSWER)
    span = float(found.data["clean"][0] - found.data["corrupt"][0])
    step, ids = 2e-2, [model.tokenizer(text).input_ids for text in (CLEAN, CORRUPT)]
    for site in sites:
        if site == "pattern":  # what the clean pattern makes of the corrupt run's values
            with model.session():
                clean = pattern_outputs(model, decoder, *ids)[1].save()
        else:
            with model.trace(CLEAN):
                clean = decoder.read(site, 1).clone().save()
        values = []
        for sign in (step, -step):
            with model.trace(CORRUPT):
                here = decoder.read("head" if site == "pattern" else site, 1)[:, PLACE]
                decoder.write(site, 1, slice(None), PLACE, here + sign * (clean[:, PLACE] - here))
                logits = model.output.logits[0, -1].save()
            values.append(float(logits[right] - logits[wrong]))
        slope = (values[0] - values[1]) / (2 * step) / span
        estimate = found.data[site][0].sel(layer=1).isel(position=PLACE).sum()
        np.testing.assert_allclose(estimate, slope, rtol=0.02, atol=5e-4, err_msg=site)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_baselines_are_those_of_exact_patching(self, model: TransformersModel) -> None:
        found = _attributed(model)
        exact = activation_patching(model, CLEAN, CORRUPT, ANSWER, layers=[0], positions=[13], progress=False)
        for name in ("clean", "corrupt"):
            np.testing.assert_allclose(found.data[name][0], exact.data[name][0, 0, 0], rtol=1e-4)

    def test_before_the_difference_there_is_nothing(self, model: TransformersModel) -> None:
        found = _attributed(model, sites=["head", "residual", "v"])
        assert found.data["v"].sizes["group"] == 2
        for site in found.sites:
            np.testing.assert_allclose(found.data[site][0, :, :9], 0, atol=1e-6)

    def test_where_it_misleads_it_says_so(self, model: TransformersModel) -> None:
        assert _attributed(model, sites="head").warning == ""
        flagged = _attributed(model, sites=["head", "mlp"])
        assert "mislead at mlp" in flagged.warning
        assert "0.436" in repr(flagged)
        assert flagged.provenance["approximate"]

    def test_top_cells_are_refined_exactly(self, model: TransformersModel) -> None:
        found = _attributed(model, sites=["head", "mlp"])
        refined = found.refine(model, 4, progress=False)
        assert [cell["estimate"] for cell in refined] == [cell[-1] for cell in found.top(4)]
        for cell in refined:
            exact = activation_patching(
                model, CLEAN, CORRUPT, ANSWER, sites=cell["site"], layers=[cell["layer"]],
                positions=[cell["position"]], progress=False,
            ).effect()[0, 0, cell["position"]]  # fmt: skip
            value = exact if cell["head"] is None else exact[cell["head"]]
            assert cell["exact"] == pytest.approx(float(value), abs=1e-5)

    def test_refining_keeps_to_the_alignment_that_was_given(self, model: TransformersModel) -> None:
        corrupt = CLEAN.replace("store", "city of Paris")
        ids = [model.tokenizer(text).input_ids for text in (CLEAN, corrupt)]
        last = edif.Alignment([(len(ids[0]) - 1, len(ids[1]) - 1), (2, 5)])
        found = _attributed(model, sites=["residual"], corrupt=corrupt, alignment=last)
        refined = found.refine(model, 3, progress=False)
        exact = activation_patching(model, CLEAN, corrupt, ANSWER, alignment=last, progress=False).effect()[0]
        assert {cell["position"] for cell in refined} <= {5, len(ids[1]) - 1}
        for cell in refined:
            value = float(exact.sel(layer=cell["layer"])[cell["position"]])
            assert cell["exact"] == pytest.approx(value, abs=1e-5)

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (_attributed(model, sites=["head", "attention"], remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = _attributed(model, sites=["q", "residual"])
        again = edif.load(found.save(tmp_path / "map.edif"))
        assert again.data.identical(found.data)
        assert again.warning == found.warning

    def test_it_leaves_no_gradients_behind(self, model: TransformersModel) -> None:
        _attributed(model)
        assert all(parameter.grad is None for parameter in model._module.parameters())
        with model.trace(CLEAN):
            logits = model.output.logits.save()
        assert not logits.requires_grad

    def test_a_pattern_is_not_put_into_other_places(self, model: TransformersModel) -> None:
        with pytest.raises(ValueError, match="patched between prompts of equal length only"):
            _attributed(model, sites="pattern", corrupt=CLEAN.replace("store", "city of Paris"))

    def test_an_unknown_site_is_refused(self, model: TransformersModel) -> None:
        with pytest.raises(ValueError, match="There is no site 'neuron'"):
            _attributed(model, sites=["neuron"])
