"""Pictures of results without a browser: the same numbers and colours as the views, readable, safe, and to scale."""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import edif
from edif import colours, picture, picture_still, picture_svg
from edif.picture_latex import escaped, latex

ROOT = Path(__file__).parents[2]
KINDS = ("lens", "patching", "trace")
SVG = "{http://www.w3.org/2000/svg}"


def kept(kind: str) -> Any:
    """A result of the demo model: real numbers."""
    return edif.load(ROOT / "tests" / "e2e" / "results" / f"{kind}.edif")


def parsed(document: str) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314 (we have written it)


def written(document: str) -> list[str]:
    return [node.text or "" for node in parsed(document).iter(f"{SVG}text")]


def contrast(step: str, theme: colours.Theme) -> float:
    pair = (colours.ground(step, theme), colours.ink(step, theme))
    low, high = sorted(colours._luminance(one) + 0.05 for one in pair)
    return high / low


def test_colours_are_those_of_the_views() -> None:
    source = (ROOT / "extensions" / "src" / "core" / "scale.ts").read_text(encoding="utf-8")
    drawn = re.findall(r"(light|dark|blue|below|above): (?:\{|\[(.*?)\])", source)
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    theme = ""
    for name, anchors in drawn:
        if not anchors:
            theme, found[name] = name, {}
        else:
            found[theme][name] = tuple(re.findall(r"#[0-9a-f]{6}", anchors))
    assert found == colours.ANCHORS
    assert f"STEPS = {colours.STEPS};" in source
    assert f"SIDE = {colours.SIDE};" in source


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_on_every_step_is_readable(theme: colours.Theme) -> None:
    assert min(contrast(step, theme) for step in (*colours.SEQUENTIAL, *colours.DIVERGING)) >= 4.5


def test_lens_shows_what_the_result_holds() -> None:
    found = kept("lens")
    drawn = picture.of(found.as_json())
    (panel,) = drawn.panels
    assert [row.name for row in panel.rows[:7]] == ["29", "28", "27", "26", "25", "24", "1 layer hidden"]
    last = panel.rows[0].cells[-1]
    value = float(found.data["top_probability"].values[0, -1, -1, 0])
    assert (last.text, last.bold, last.figure) == ("␣Paris", True, f"{value:.3f}")
    assert last.step == colours.sequential(value, 0, 1)
    (whole,) = picture.of(found.as_json(), all_layers=True).panels
    assert [row.name for row in whole.rows] == [str(layer) for layer in range(29, -1, -1)]


def test_patching_shows_normalised_effects_and_other_choices() -> None:
    found = kept("patching")
    exact = found.effect("residual").values
    (panel,) = picture.of(found.as_json()).panels
    row = next(row for row in panel.rows if row.name == "15")
    best = max(range(len(row.cells)), key=lambda at: float(row.cells[at].figure.replace("−", "-")))
    assert panel.columns[best] == "␣Mary"
    assert float(row.cells[best].figure) == pytest.approx(exact.reshape(-1, *exact.shape[-2:])[0, 15, best], abs=2e-3)
    assert panel.marked == {best}
    assert "residual, noise" in picture.of(found.as_json(), direction="noise").meaning


def test_trace_has_all_kinds_on_one_scale() -> None:
    found = kept("trace")
    drawn = picture.of(found.as_json())
    assert [panel.name for panel in drawn.panels] == ["state", "mlp", "attention"]
    most = max(float(found.indirect_effect(kind).max()) for kind in ("state", "mlp", "attention"))
    strongest = [cell for panel in drawn.panels for row in panel.rows for cell in row.cells if cell.step == "s31"]
    assert picture.signed(most) in [cell.figure for cell in strongest]


@pytest.mark.parametrize("kind", KINDS)
def test_svg_stands_alone_and_holds_every_token(kind: str) -> None:
    document = kept(kind).to_svg()
    panel = picture.of(kept(kind).as_json()).panels[0]
    texts = written(document)
    assert [text for text in panel.columns if text not in texts] == []
    assert not re.search(r"<script|href|url\((?!#)|<style|<image", document)


@pytest.mark.parametrize("kind", KINDS)
def test_svg_draws_within_its_edges(kind: str) -> None:
    root = parsed(kept(kind).to_svg())
    wide, high = (float(root.attrib[name]) for name in ("width", "height"))
    for node in root.iter(f"{SVG}text"):
        if "transform" in node.attrib or node.get("text-anchor"):
            continue
        letters = picture_svg.wide(node.text or "") * float(node.attrib["font-size"]) * 0.62
        assert float(node.attrib["x"]) + letters <= wide + 4, node.text
        assert float(node.attrib["y"]) < high


def test_markup_and_unseen_characters_stay_text() -> None:
    drawn = kept("lens").as_json()
    drawn["title"] = '<img src=x onerror="1">&'
    drawn["vocabulary"]["texts"] = ["\x00\u202e\ufffe</svg>"] * len(drawn["vocabulary"]["texts"])
    texts = written(picture_svg.svg(picture.of(drawn)))
    assert '<img src=x onerror="1">&' in texts
    assert "⟨U+0000⟩⟨U+202E⟩⟨U+FFFE⟩</svg>" in texts


@pytest.mark.parametrize("kind", KINDS)
def test_output_carries_a_png_within_its_budget(kind: str) -> None:
    bundle = kept(kind)._repr_mimebundle_()
    made = base64.b64decode(bundle["image/png"])
    assert made.startswith(b"\x89PNG")
    assert 5_000 < len(made) <= picture_still.PICTURE_BYTES
    document = kept(kind).to_svg()
    wide = float(parsed(document).attrib["width"])
    assert struct.unpack(">I", made[16:20])[0] == pytest.approx(1.5 * wide, abs=1)


def test_exports_are_written_where_asked(tmp_path: Path) -> None:
    found = kept("trace")
    found.to_svg(tmp_path / "a.svg", theme="dark")
    found.to_png(tmp_path / "a.png", scale=1)
    found.to_latex(tmp_path / "a.tex")
    assert 'fill="#181b21"' in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.tex").read_text(encoding="utf-8").count(r"\begin{tabular}") == 5  # maps and line plots


def test_latex_has_no_command_of_a_token() -> None:
    assert escaped(r"\input{x}$%") == r"\textbackslash{}input\{x\}\$\%"
    made = latex(picture.of(kept("lens").as_json()))
    assert r"\texttt{\textvisiblespace{}Paris}" in made
    assert made.count("{") == made.count("}")


def test_bad_choices_and_sizes_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kept("patching")
    with pytest.raises(ValueError, match=r"no 'mlp' here: choose from residual"):
        found.to_svg(site="mlp")
    with pytest.raises(ValueError, match=r"no pair 3: there are 1"):
        found.to_svg(pair=3)
    with pytest.raises(ValueError, match=r"no 'fact' to choose in this picture: there is pair, direction"):
        found.to_svg(fact=1)
    with pytest.raises(picture_svg.PictureImpossible, match=r"million pixels: ask for scale="):
        found.to_png(scale=100)
    monkeypatch.setattr(picture_svg, "_letters_are_drawn", lambda: False)
    with pytest.raises(picture_svg.PictureImpossible, match="No font is installed"):
        found.to_png()
    assert "image/png" not in found._repr_mimebundle_()
