"""Pictures of maps of heads and of lines with intervals: what they show is what the result holds, to scale."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from nnsight import TransformersModel

import edif
from edif import colours, picture, picture_chart, picture_still, picture_svg
from edif.picture_latex import latex
from edif.picture_parts import NAN, Chart, Line, Picture

CLEAN = "When Mary and John went to the store, John gave a drink to"
ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def model(families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families("llama")


def parsed(document: str) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314 (we have written it)


@pytest.fixture(scope="module")
def attention(model: TransformersModel) -> Any:
    return edif.attention(model, CLEAN, answer=(" Mary", " John"), progress=False)


@pytest.fixture(scope="module")
def trace(model: TransformersModel) -> Any:
    facts = [CLEAN, "Mary and John went to the city", "The Eiffel Tower is in the city of"]
    return edif.causal_trace(model, facts, ["Mary", "John", "Eiffel Tower"], samples=3, window=2, progress=False)


class TestAttention:
    def test_heads_are_coloured_by_their_effect_and_the_first_shown_small(self, attention: Any) -> None:
        found = attention
        drawn = picture.of(found.as_json())
        (panel,) = drawn.panels
        effect = found.data["effect"].values[0]
        shown = [[float(cell.figure.replace("−", "-")) for cell in row.cells] for row in panel.rows[::-1]]
        np.testing.assert_allclose(shown, effect, atol=6e-4)
        assert [thumb.name for thumb in drawn.thumbs] == [f"{layer}.{head}" for layer, head, _ in found.ranked()[:12]]
        layer, head, _ = found.ranked()[0]
        weights = found.weights().sel(layer=layer, head=head).values
        assert drawn.thumbs[0].steps[5][:6] == tuple(
            colours.sequential(value, 0, 1) for value in np.rint(255 * weights[5, :6]) / 255
        )
        assert set(drawn.thumbs[0].steps[5][6:]) == {"none"}

    def test_one_head_has_tokens_on_both_sides(self, attention: Any) -> None:
        found = attention
        drawn = picture.of(found.as_json(), layer=2, head=1)
        (panel,) = drawn.panels
        assert [row.name for row in panel.rows] == list(panel.columns)
        weights = found.weights().sel(layer=2, head=1).values
        assert [float(cell.figure) for cell in panel.rows[9].cells[:10]] == pytest.approx(weights[9, :10], abs=3e-3)
        for said, chosen in (("no head 9 of layer 2", {"layer": 2, "head": 9}), ("no head None", {"layer": 2})):
            with pytest.raises(ValueError, match=said):
                picture.of(found.as_json(), **chosen)

    def test_of_a_long_prompt_a_small_square_loses_no_line(self, model: TransformersModel) -> None:
        found = edif.attention(model, [list(range(3, 103))], layers=[0], heads=[0], progress=False)
        drawn = picture.of(found.as_json())
        (thumb,) = drawn.thumbs
        assert len(thumb.steps) == 24
        weights = np.rint(255 * found.weights().values[0, 0]) / 255
        assert thumb.steps[23][0] == colours.sequential(weights[95:, :4].max(), 0, 1)
        with pytest.raises(ValueError, match="100 tokens are too many for one head's picture"):
            picture.of(found.as_json(), layer=0, head=0)


class TestTrace:
    def test_lines_are_effects_at_the_subjects_last_token_and_the_last(self, trace: Any) -> None:
        found = trace
        drawn = picture.of(found.as_json(), fact=2)
        last = found.provenance["facts"][2]["subject"][1] - 1
        assert [chart.name for chart in drawn.charts] == [
            "indirect effect at ␣Tower, ± spread",
            "indirect effect at ␣of, ± spread",
        ]
        for chart, column in zip(
            drawn.charts, (last, len(found.provenance["facts"][2]["prompt_ids"]) - 1), strict=True
        ):
            for line in chart.lines:
                effect, spread = (
                    some(line.name)[2, :, column].values for some in (found.indirect_effect, found.spread)
                )
                np.testing.assert_allclose(line.values, effect, rtol=1e-3, atol=1e-7)
                np.testing.assert_allclose(line.high, effect + spread, rtol=2e-3, atol=1e-6)

    def test_the_average_has_its_interval(self, trace: Any) -> None:
        found = trace
        drawn = picture.of(found.as_json(), average=True)
        assert len(drawn.panels) == 3
        assert drawn.panels[0].columns[3] == "last subject"
        average = found.average("mlp").sel(token_class="last")
        line = drawn.charts[1].lines[1]
        for shown, name in ((line.values, "mean"), (line.low, "low"), (line.high, "high")):
            np.testing.assert_allclose(shown, average[name], rtol=1e-3, atol=1e-7)
        alone = found.as_json()
        alone["average"] = None
        with pytest.raises(ValueError, match="an average needs several"):
            picture.of(alone, average=True)


class TestPatching:
    @pytest.mark.parametrize("how", [{}, {"positions": "together"}])
    def test_the_average_over_pairs_is_that_of_the_result(self, model: TransformersModel, how: dict[str, Any]) -> None:
        pairs = [CLEAN, CLEAN.replace("drink", "book")]
        found = edif.activation_patching(
            model, pairs, [text.replace("John gave", "Mary gave") for text in pairs], (" Mary", " John"),
            sites=["mlp", "head"], progress=False, **how,
        )  # fmt: skip
        for site, chosen in (("mlp", {}), ("head", {"position": -1, "metric": "kl"})):
            (panel,) = picture.of(found.as_json(), average=True, site=site, **chosen).panels
            mean = found.mean(site, metric=chosen.get("metric", "logit_difference"))["mean"].values
            shown = [
                [float(cell.figure.replace("−", "-").replace("–", "nan")) for cell in row.cells] for row in panel.rows
            ]
            np.testing.assert_allclose(shown[::-1], mean if site == "mlp" else mean[:, -1], rtol=2e-3, atol=6e-4)

    def test_without_a_mean_it_says_so(self, model: TransformersModel) -> None:
        found = edif.activation_patching(
            model, CLEAN, CLEAN.replace("John gave", "Mary gave"), (" Mary", " John"), layers=[1], progress=False
        )
        with pytest.raises(ValueError, match="no mean in this drawing"):
            picture.of(found.as_json(), average=True)


class TestCharts:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
            (-0.9, 0.3, [-0.75, -0.5, -0.25, 0, 0.25]),
            (0, 0, [0, 1]),
            (0, 29, [0, 10, 20]),
        ],
    )
    def test_ticks_are_round(self, low: float, high: float, expected: list[float]) -> None:
        assert picture_chart.ticks(low, high) == pytest.approx(expected)

    def test_points_stand_where_their_values_are_and_gaps_stay_open(self) -> None:
        line = Line("probe", "blue", (0.0, 1.0, NAN, 0.5), (0.0, 0.5, NAN, 0.25), (0.5, 1.0, NAN, 0.75))
        other = Line("chance", "muted", (0.5, 0.5, 0.5, 0.5), dashed=True)
        chart = Chart("accuracy", "layer", (0.0, 1.0, 2.0, 3.0), (line, other))
        document = picture_svg.svg(_picture(chart))
        paths = [node.attrib["d"] for node in parsed(document).iter(f"{SVG}path") if node.attrib.get("fill") == "none"]
        points = [[tuple(map(float, at.split())) for at in way[1:].split("L")] for way in paths if "h" not in way]
        (first, second), level = points
        assert len(level) == 4
        assert first[1] > level[0][1] > second[1]  # downwards is less
        assert level[0][1] - second[1] == pytest.approx(first[1] - level[0][1], abs=0.2)
        assert second[0] - first[0] == pytest.approx(level[2][0] - level[1][0], abs=0.2)
        (dot,) = parsed(document).iter(f"{SVG}circle")
        assert float(dot.attrib["cy"]) == pytest.approx(level[0][1], abs=0.2)
        texts = [node.text for node in parsed(document).iter(f"{SVG}text")]
        assert {"accuracy", "layer", "probe", "chance", "0.0", "1.0"} <= set(texts)

    def test_a_long_name_stays_in_its_place(self) -> None:
        document = picture_svg.svg(
            _picture(Chart("lead of " + "x" * 80, "layer", (0.0,), (Line("a", "blue", (1.0,)),)))
        )
        wide = float(parsed(document).attrib["width"])
        (name,) = [node for node in parsed(document).iter(f"{SVG}text") if (node.text or "").startswith("lead of")]
        assert (name.text or "").endswith("…")
        assert len(name.text or "") * 7.4 < min(wide, picture_chart.WIDE)

    def test_latex_has_every_figure_with_its_interval(self) -> None:
        line = Line("probe", "blue", (0.25, NAN), (0.125, NAN), (0.5, NAN))
        made = latex(_picture(Chart("accuracy & co", "layer", (0.0, 1.0), (line,))))
        assert r"\textbf{accuracy \& co}" in made
        assert "0 & +0.250 [+0.125, +0.500] " in made
        assert "1 & – " in made
        assert made.count("{") == made.count("}")


def _picture(chart: Chart) -> Picture:
    return Picture("Linear probe", "a model", (), True, colours.SEQUENTIAL, "0", "1", "accuracy", "", charts=(chart,))


def test_no_picture_of_an_unknown_kind() -> None:
    with pytest.raises(NotImplementedError, match=re.escape("no picture of job yet")):
        picture.of({"kind": "job"})


def shown(panel: Any) -> Any:
    """The figures of a map, the first layer's first."""
    figures = [[cell.figure.replace("−", "-").replace("–", "nan") for cell in row.cells] for row in panel.rows[::-1]]
    return np.array(figures, dtype=float)


class TestSteering:
    def test_map_and_line_are_mean_changes_with_their_interval(self, model: TransformersModel) -> None:
        found = edif.steer(
            model,
            [CLEAN, "The Eiffel Tower is in"],
            [(CLEAN, "to the store")],
            answer=(" Mary", " John"),
            controls=2,
            progress=False,
        )
        drawn, mean = picture.of(found.as_json()), found.mean()
        np.testing.assert_allclose(shown(drawn.panels[0]), mean["mean"], rtol=1e-3, atol=6e-4)
        (chart,) = drawn.charts
        layer = int(abs(mean["mean"]).max("strength").argmax("layer"))
        assert chart.name == f"change of logit difference, layer {layer}"
        steered, beside = chart.lines
        for values, name in ((steered.values, "mean"), (steered.low, "low"), (steered.high, "high")):
            np.testing.assert_allclose(values, mean[name][layer], rtol=1e-3, atol=1e-6)
        random = (found.data["control"] - found.data["unsteered"]).sel(metric="logit_difference").isel(layer=layer)
        np.testing.assert_allclose(beside.high, random.max(("prompt", "control")), rtol=1e-3, atol=1e-6)
        one = picture.of(found.as_json(), prompt=1, layer=2, metric="kl")
        change = (found.data["steered"] - found.data["unsteered"]).sel(metric="kl")[1, 2]
        np.testing.assert_allclose(one.charts[0].lines[0].values, change, rtol=1e-3, atol=1e-6)
        with pytest.raises(ValueError, match="no layer 7 in this picture: there is 0, 1, 2, 3"):
            picture.of(found.as_json(), layer=7)


class TestProbe:
    def test_accuracy_stands_beside_its_control_and_effects(self, model: TransformersModel) -> None:
        prompts = [f"They gave it to {name} in the {place}" for place in ("store", "city") for name in ("Mary", "John")]
        found = edif.probe(
            model, prompts * 2, ["Mary", "John"] * 4, positions=[-1, -4], folds=2, shuffles=3,
            answers={"Mary": " Mary", "John": " John"}, strengths=[-0.2, 0.0, 0.2], progress=False,
        )  # fmt: skip
        drawn = picture.of(found.as_json(), position=1)
        np.testing.assert_allclose(shown(drawn.panels[0]), found.data["accuracy"], atol=6e-4)
        accuracy, taken, steered = drawn.charts
        probe, control, chance = accuracy.lines
        np.testing.assert_allclose(probe.low, found.data["low"][:, 1], rtol=1e-3)
        np.testing.assert_allclose(control.values, found.data["control"].mean("shuffle")[:, 1], rtol=1e-3)
        assert set(chance.values) == {0.5}
        for line, kind in zip(taken.lines, ("swapped", "interchanged"), strict=True):
            effect = found.effect(kind)
            np.testing.assert_allclose(line.values, effect["mean"][:, 1, 0], rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(line.high, effect["high"][:, 1, 0], rtol=1e-3, atol=1e-6)
        assert steered.x == (-0.2, 0.0, 0.2)


class TestComparison:
    def test_map_and_line_are_one_figures(
        self, model: TransformersModel, families: Callable[[str], TransformersModel]
    ) -> None:
        found = edif.compare_models(
            model, families("qwen2"), [CLEAN, "The Eiffel Tower is in the city"], progress=False
        )
        for figure in ("kl", "overlap"):
            drawn = picture.of(found.as_json(), figure=figure, prompt=1)
            values = found.data[figure].isel(prompt=1).values
            known = ~np.isnan(values[0])
            np.testing.assert_allclose(shown(drawn.panels[0]), values[:, known], rtol=2e-3, atol=6e-4)
            mean = found.mean(figure)
            np.testing.assert_allclose(drawn.charts[0].lines[0].values, mean["mean"], rtol=1e-3)
            np.testing.assert_allclose(drawn.charts[0].lines[0].low, mean["low"], rtol=1e-3)


@pytest.mark.parametrize("kind", ["steering", "probe", "comparison", "attribution", "path", "attention"])
def test_the_demo_models_results_are_drawn_within_their_edges(kind: str) -> None:
    found = edif.load(ROOT / "tests" / "e2e" / "results" / f"{kind}.edif")
    document = found.to_svg()
    root = parsed(document)
    wide, high = (float(root.attrib[name]) for name in ("width", "height"))
    assert not re.search(r"<script|href|url\((?!#)|<style|<image", document)
    for node in root.iter(f"{SVG}text"):
        x, y = float(node.attrib["x"]), float(node.attrib["y"])
        assert 0 <= x <= wide
        assert 0 <= y < high, node.text
        if "transform" not in node.attrib and not node.get("text-anchor"):
            assert x + picture_svg.wide(node.text or "") * float(node.attrib["font-size"]) * 0.62 <= wide + 4, node.text
    bundle = found._repr_mimebundle_()
    assert 5_000 < len(base64.b64decode(bundle["image/png"])) <= picture_still.PICTURE_BYTES
    made = found.to_latex()
    assert made.count("{") == made.count("}")
