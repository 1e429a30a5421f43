"""Results drawn together have one picture, on one scale; and every output has one beside its view, table and text."""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests.e2e.gallery import KINDS

import edif
from edif import colours, picture, picture_still, picture_together
from edif.picture_parts import Picture
from edif.prediction import RESULT_TYPE

RESULTS = Path(__file__).parents[1] / "e2e" / "results"
SVG = "{http://www.w3.org/2000/svg}"


def kept(kind: str) -> Any:
    """A result of the demo model: real numbers."""
    return edif.load(RESULTS / f"{kind}.edif")


def steps(drawn: Picture) -> list[str]:
    return [cell.step for panel in drawn.panels for row in panel.rows for cell in row.cells]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "job"])
def test_every_output_carries_view_table_picture_and_text(kind: str) -> None:
    bundle = KINDS[kind]()
    assert sorted(bundle) == sorted([RESULT_TYPE, "text/html", "image/png", "text/plain"])
    made = base64.b64decode(bundle["image/png"])
    assert made.startswith(b"\x89PNG")
    assert 5_000 < len(made) <= picture_still.PICTURE_BYTES


def test_a_series_stands_one_below_the_other_on_the_scale_of_all() -> None:
    windows = [kept(f"trace-{window}") for window in (1, 5, 10)]
    together = edif.series(windows)
    drawn = picture_together.of(together.as_json())
    assert [one.title for one in drawn] == [f"window {window} · Causal trace" for window in (1, 5, 10)]
    alone = [picture.of(one.as_json()) for one in windows]
    least, most = (pick([one.ends[n] for one in alone if one.ends]) for n, pick in enumerate((min, max)))
    assert len({one.ends for one in alone}) == 3  # each has another scale by itself
    assert {one.ends for one in drawn} == {(least, most)}
    # colours are those of the common scale, cell by cell
    for one, found in zip(windows, drawn, strict=True):
        values = one.indirect_effect("mlp")[0].values[::-1]
        expected = [colours.sequential(float(f"{value:.4g}"), least, most) for value in values.ravel()]
        assert steps(found)[: len(expected)] == expected
    root = ET.fromstring(together.to_svg())  # noqa: S314 (we have written it)
    parts = root.findall(f"{SVG}svg")
    tops = [float(part.attrib["y"]) for part in parts]
    ends = [top + float(part.attrib["height"]) for top, part in zip(tops, parts, strict=True)]
    assert tops == [0, *ends[:-1]]
    assert float(root.attrib["height"]) == ends[-1]
    assert not re.search(r"<script|href|url\((?!#)|<style|<image", together.to_svg(theme="dark"))


def test_two_results_stand_beside_each_other(tmp_path: Path) -> None:
    lens = kept("lens")
    together = edif.side_by_side(lens, kept("lens-rome"))
    root = ET.fromstring(together.to_svg(tmp_path / "both.svg"))  # noqa: S314 (we have written it)
    left, right = root.findall(f"{SVG}svg")
    assert float(right.attrib["x"]) == float(left.attrib["width"])
    assert left.attrib["y"] == right.attrib["y"] == "0"
    texts = [[node.text for node in part.iter(f"{SVG}text")] for part in (left, right)]
    assert "iffel" in texts[0]
    assert "iffel" not in texts[1]
    made = together.to_png(tmp_path / "both.png", scale=1)
    assert (tmp_path / "both.png").read_bytes() == made
    assert struct.unpack(">I", made[16:20])[0] == float(root.attrib["width"])


def test_of_one_result_the_two_prompts_that_the_view_shows_are_drawn() -> None:
    lens = kept("lens")
    both = lens.data.isel(prompt=[0, 0]).copy(deep=True)
    both["top_probability"][1] = 0.25
    known = {**lens.provenance, **{name: lens.provenance[name] * 2 for name in ("prompts", "prompt_ids", "bos")}}
    first, second = picture_together.of(edif.side_by_side(type(lens)(both, known)).as_json())
    assert steps(first) == steps(picture.of(lens.as_json()))
    assert set(steps(second)) == {colours.sequential(0.25, 0, 1)}


def test_of_many_results_some_are_drawn_and_the_others_counted() -> None:
    traces = []
    for window in range(1, 10):
        one = kept("trace-1")
        one.provenance["window"] = window
        traces.append(one)
    drawn = picture_together.of(edif.series(traces).as_json())
    assert [one.title.split(" · ")[0] for one in drawn] == [f"window {n}" for n in (1, 3, 4, 6, 7, 9)]
    assert all(one.foot.endswith("3 more results are not in this picture") for one in drawn)


def test_a_scale_can_be_given_and_kinds_with_a_fixed_one_say_so() -> None:
    patching = kept("patching").as_json()
    wide = picture.of(patching, ends=(-2.0, 2.0))
    assert (wide.low, wide.high) == ("−2.000", "+2.000")
    assert steps(wide) != steps(picture.of(patching))
    with pytest.raises(ValueError, match="no 'ends' to choose in this picture: there is prompt, all_layers"):
        picture.of(kept("lens").as_json(), ends=(0, 2))


def test_next_tokens_stand_in_their_order() -> None:
    drawn = picture.of(KINDS["next-token"]()[RESULT_TYPE])
    (panel,) = drawn.panels
    assert [(row.name, row.cells[0].text) for row in panel.rows] == [
        ("␣Paris", "0.656"),
        ("␣Rome", "0.038"),
        ("↵", "1.0e-04"),
    ]
    assert steps(drawn)[0] == colours.sequential(0.656, 0, 1)
