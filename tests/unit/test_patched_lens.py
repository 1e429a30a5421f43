"""A cell of a patching map looked into: its lens ends where the map's figure says; and results by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif import shown_results
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


def test_what_cannot_be_looked_into_is_a_sentence(families: Callable[[str], TransformersModel]) -> None:
    model = families("gpt2")
    found = patched(model, layers=[1])
    with pytest.raises(ValueError, match="name a head"):
        found.patched_lens(1, SECOND_NAME, site="head")
    with pytest.raises(ValueError, match="no counterpart"):
        found.patched_lens(1, 40, site="residual")


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
