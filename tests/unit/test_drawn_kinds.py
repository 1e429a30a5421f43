"""What a notebook keeps of steering, probes, compared models, estimates: the arrays' figures, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edif
from edif.outputs import OutputTooLarge
from edif.prediction import RESULT_TYPE

RESULTS = Path(__file__).parents[1] / "e2e" / "results"


def kept(name: str) -> Any:
    return edif.load(RESULTS / f"{name}.edif")


def numbers(values: Any, *shape: int) -> Any:
    return np.array(values, dtype=float).reshape(shape)


class TestAttribution:
    def test_is_a_map_of_estimates_that_says_so(self) -> None:
        found = kept("attribution")
        drawn = found.as_json()
        assert drawn["kind"] == "activation_patching"
        assert drawn["title"] == "Attribution patching"
        assert drawn["approximate"].startswith("Approximate, and known to mislead at mlp, residual")
        (run,) = drawn["pairs"][0]["runs"]
        layers, positions, heads = found.data["head"].shape[1:]
        shown = numbers(run["values"]["head"], layers, positions, heads)
        estimates = (shown - run["corrupt"][0]) / (run["clean"][0] - run["corrupt"][0])
        np.testing.assert_allclose(estimates, found.data["head"].values[0], atol=2e-3)

    def test_refines_without_naming_the_model_only_where_that_is_known(self) -> None:
        with pytest.raises(edif.NotShown, match="load it, or give it as model="):
            kept("attribution").refine()


def test_path_patching_says_where_it_goes() -> None:
    drawn = kept("path").as_json()
    assert drawn["title"] == "Path patching"
    assert drawn["path"] == "to residual 29 at -1"


class TestSteering:
    def test_has_changes_controls_and_texts_of_every_cell(self) -> None:
        found = kept("steering")
        drawn, data = found.as_json(), found.data
        sizes = [data.sizes[axis] for axis in ("metric", "layer", "strength")]
        for row, prompt in enumerate(drawn["prompts"]):
            change = (data["steered"] - data["unsteered"])[row].transpose("metric", "layer", "strength")
            np.testing.assert_allclose(numbers(prompt["change"], *sizes), change, rtol=1e-3, atol=1e-6)
            low, high = (numbers(prompt["control"][name], *sizes) for name in ("low", "high"))
            assert (low <= high).all()
            assert prompt["texts"] == data["text"].values[row].ravel().tolist()
        np.testing.assert_allclose(
            numbers(drawn["mean"]["mean"], *sizes)[0], found.mean("logit_difference")["mean"], rtol=1e-3, atol=1e-6
        )

    def test_gives_up_prompts_then_texts_then_layers(self) -> None:
        found = kept("steering")
        whole = found.as_json()
        size = len(str(whole))
        fewer = found.as_json(size * 6 // 10)
        assert len(fewer["prompts"]) == 1
        assert fewer["prompts"][0]["texts"] is not None
        assert "1 of 2 prompts" in fewer["foot"]
        least = found.as_json(9000)
        assert least["prompts"][0]["texts"] is None
        assert least["layers"][-1] == whole["layers"][-1]
        assert "no texts" in least["foot"]
        with pytest.raises(OutputTooLarge):
            found.as_json(500)


def test_a_probe_has_its_control_beside_and_effects_in_columns() -> None:
    found = kept("probe")
    drawn, data = found.as_json(), found.data
    layers, positions, towards = (data.sizes[axis] for axis in ("layer", "position", "towards"))
    np.testing.assert_allclose(numbers(drawn["accuracy"], layers, positions), data["accuracy"], rtol=1e-3)
    shuffled = data["control"].mean("shuffle").transpose("layer", "position")
    np.testing.assert_allclose(numbers(drawn["control"]["mean"], layers, positions), shuffled, rtol=1e-3)
    columns = len(drawn["strengths"]) + 2
    effects = numbers(drawn["effects"]["mean"], layers, positions, towards, columns)
    steered = found.effect("steered")["mean"].transpose("layer", "position", "towards", "strength")
    np.testing.assert_allclose(effects[..., :-2], steered, rtol=1e-3, atol=1e-6)
    swapped = found.effect("swapped")["mean"].transpose("layer", "position", "towards")
    np.testing.assert_allclose(effects[..., -2], swapped, rtol=1e-3, atol=1e-6)
    assert drawn["chance"] == 0.5
    assert drawn["positions"] == ["-1 ␣that", "-2 ␣said"]


class TestComparison:
    def test_has_agreement_and_what_each_says(self) -> None:
        found = kept("comparison")
        drawn = found.as_json()
        for row, prompt in enumerate(drawn["prompts"]):
            places = len(prompt["tokens"])
            shown = numbers(prompt["values"]["kl"], len(drawn["layers"]), places)
            np.testing.assert_allclose(shown, found.data["kl"].values[row][:, :places], rtol=1e-3, atol=1e-6)
        first, second = drawn["sides"]
        assert [first["kind"], second["kind"]] == ["logit_lens", "logit_lens"]
        assert first["provenance"]["model"] == found.provenance["models"][0]
        top = first["vocabulary"]["texts"][first["prompts"][0]["top"][-first["top"]]]
        assert top == found.final(0).iloc[-1, 0] or top in found.final(0).iloc[:, 0].tolist()

    def test_of_layers_that_do_not_rise_has_no_lenses(self) -> None:
        found = kept("comparison")
        found.data["layer"].values[1] = 3
        assert found.as_json()["sides"] == []


class TestTogether:
    def test_two_results_are_one_output_that_fits(self) -> None:
        lens = kept("lens")
        both = edif.side_by_side(lens, kept("lens-rome"))
        bundle = both._repr_mimebundle_()
        drawn = bundle[RESULT_TYPE]
        assert [one["kind"] for one in drawn["results"]] == ["logit_lens", "logit_lens"]
        assert all("handle" in one for one in drawn["results"])
        assert bundle["text/html"].count("<table>") == 2
        with pytest.raises(OutputTooLarge):
            both.as_json(3000)

    def test_what_does_not_go_together_is_a_sentence(self) -> None:
        lens, trace = kept("lens"), kept("trace")
        with pytest.raises(ValueError, match="Results of one kind are drawn together, and these are"):
            edif.side_by_side(lens, trace)
        with pytest.raises(ValueError, match="takes two results"):
            edif.side_by_side(lens, lens, lens)
        with pytest.raises(ValueError, match="has one prompt"):
            edif.side_by_side(lens)
        with pytest.raises(ValueError, match="A series has 2 to 60 results, and these are 1"):
            edif.series([trace])
        with pytest.raises(ValueError, match="differ in nothing: name one or two"):
            edif.series([trace, kept("trace")])

    def test_a_series_finds_what_its_results_differ_in(self) -> None:
        traces = [kept(f"trace-{window}") for window in (10, 1, 5)]
        drawn = edif.series(traces).as_json()
        assert drawn["axes"] == [{"name": "window", "values": ["1", "5", "10"]}]
        assert [drawn["results"][place]["window"] for place in drawn["places"]] == [1, 5, 10]

    def test_a_series_by_two_settings_leaves_places_empty_and_knows_one_in_other_words(self) -> None:
        traces = [kept(f"trace-{window}") for window in (1, 5, 10)]
        for trace, noise in zip(traces, (1.0, 3.0, 1.0), strict=True):
            trace.provenance |= {"noise": noise, "level": noise * 0.04}
        found = edif.series(traces)
        assert found.axes == {"window": [1, 5, 10], "noise": [1.0, 3.0]}
        assert found.as_json()["places"] == [0, None, None, 1, 2, None]
        with pytest.raises(ValueError, match="Two of these results have the same noise"):
            edif.series(traces, by="noise")
