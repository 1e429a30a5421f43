"""Paths add up to what patching does where they must, on every family."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from nnsight import TransformersModel
from tests.unit.conftest import FAMILIES

import edif
from edif import beside
from edif.engine import paths
from edif.engine.decoder import Decoder
from edif.engine.patches import Pair
from edif.path_patching import PathPatching

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
ANSWER = (" Mary", " John")
LAST = 13
LIMITS = {"layers": None, "batch_tokens": None, "batch_bytes": 1 << 30}
LOGITS = edif.Cell(3, -1, "residual")


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _paths(model: TransformersModel, receivers: Any = LOGITS, **how: Any) -> PathPatching:
    asked: dict[str, Any] = {"clean": CLEAN, "corrupt": CORRUPT, "answer": ANSWER, **how}
    return edif.path_patching(model, receivers=receivers, **asked, progress=False)


def _exact(model: TransformersModel, **how: Any) -> edif.ActivationPatching:
    return edif.activation_patching(model, CLEAN, CORRUPT, ANSWER, progress=False, **how)


def _sent(model: TransformersModel, pair: Pair, senders: list[edif.Cell], receiver: edif.Cell) -> dict[str, Any]:
    work = functools.partial(
        paths.path_patching, pairs=[pair], cells=[senders], receivers=[[receiver]], through="nothing", limits=LIMITS
    )
    return beside.run(model, work, 2 * len(senders), remote=False, progress=False)


def test_a_sender_with_its_own_output_changes_nothing(model: TransformersModel) -> None:
    ids = model.tokenizer(CLEAN).input_ids
    pair = Pair(ids, ids, ids, {place: place for place in range(len(ids))}, 3, 4)
    senders = [edif.Cell(1, 12, "head", 2), edif.Cell(0, LAST, "mlp"), edif.Cell(2, 2, "attention")]
    for receiver in (edif.Cell(3, LAST, "q", 1), edif.Cell(3, LAST, "attention"), edif.Cell(3, LAST, "residual")):
        found = _sent(model, pair, senders, receiver)
        base = found["changed"][0].expand(len(senders), -1)
        torch.testing.assert_close(found["values"][0], base, rtol=1e-4, atol=1e-5)


def test_what_senders_send_adds_up_to_the_source_run(model: TransformersModel) -> None:
    # all that is written to the last token's stream: what one run's stream has more than the other's
    ids = [model.tokenizer(text).input_ids for text in (CORRUPT, CLEAN)]
    pair = Pair(ids[0], ids[1], ids[1], {place: place for place in range(len(ids[0]))}, 3, 4)
    senders = [edif.Cell(layer, LAST, site) for layer in range(4) for site in ("attention", "mlp")]
    found = _sent(model, pair, senders, edif.Cell(3, LAST, "residual"))
    width = Decoder(model).width
    with model.trace(torch.tensor([ids[1]])):
        source = Decoder(model).read("residual", 3)[0, LAST].clone().save()
    unchanged = found["unchanged"][0][0, :width]
    moved = (found["received"][0][:, 0, :width] - unchanged).sum(0)
    torch.testing.assert_close(unchanged + moved, source, rtol=1e-3, atol=1e-4)
    assert float(moved.abs().max()) > 1e-4


def test_a_sender_after_which_nothing_comes_is_patched_directly(model: TransformersModel) -> None:
    for site in ("mlp", "head"):
        # the last MLP comes after the last heads, unless both are added at once
        through = "mlp" if site == "head" else "nothing"
        found = _paths(model, senders=site, layers=[3], positions=[LAST], through=through)
        exact = _exact(model, sites=site, layers=[3], positions=[LAST])
        np.testing.assert_allclose(found.data[site], exact.data[site], rtol=1e-4, atol=1e-5)


def test_a_sender_to_all_that_comes_after_it_is_patched_directly(model: TransformersModel) -> None:
    after = [edif.Cell(2, place, "residual") for place in range(LAST + 1)]
    found = _paths(model, after, senders="mlp", layers=[2], positions=[9, LAST])
    exact = _exact(model, sites="mlp", layers=[2], positions=[9, LAST])
    np.testing.assert_allclose(found.data["mlp"], exact.data["mlp"], rtol=1e-4, atol=1e-5)


def test_queries_get_what_a_trace_by_hand_gives_them(model: TransformersModel) -> None:
    found = _paths(model, edif.Cell(3, -1, "q", 1), senders="mlp", layers=[1], positions=[LAST])
    decoder, (right, wrong) = Decoder(model), (model.tokenizer(token).input_ids[0] for token in ANSWER)
    with model.trace(CLEAN):
        sent = decoder.read("mlp", 1)[:, LAST].clone().save()
    with model.trace(CORRUPT):
        held = [(decoder.read("attention", n).clone(), decoder.read("mlp", n).clone()) for n in range(4)]
        held = nnsight.save(held)
    with model.trace(CORRUPT):
        decoder.write("mlp", 1, slice(None), LAST, sent)
        decoder.write("attention", 2, slice(None), slice(None), held[2][0])
        decoder.write("mlp", 2, slice(None), slice(None), held[2][1])
        query = decoder.read("q", 3)[:, LAST, 1].clone().save()
    with model.trace(CORRUPT):
        decoder.write("q", 3, slice(None), LAST, query, 1)
        logits = model.output.logits[0, -1].save()
    value = found.effect("mlp", normalised=False)[0, 0, LAST]
    np.testing.assert_allclose(value, float(logits[right] - logits[wrong]), rtol=1e-5, atol=1e-6)
    assert float(value) != float(found.data["corrupt"].sel(metric="logit_difference")[0, 0])


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_where_no_path_leads_nothing_changes(self, model: TransformersModel) -> None:
        found = _paths(model, edif.Cell(1, -1, "k", 0), direction="both")
        assert found.effect("head").shape == (1, 4, 14, 4)
        assert (found.effect("head")[0, 1:] == 0).all()
        assert (found.effect("head")[0, 0, :LAST] == 0).all()
        assert float(abs(found.effect("head")[0, 0, LAST]).max()) > 0

    def test_other_positions_reach_a_receiver_by_its_own_attention_alone(self, model: TransformersModel) -> None:
        found = _paths(model, edif.Cell(3, -1, "attention"), senders="mlp", layers=[2], positions=[9])
        assert float(abs(found.effect("mlp")[0, 0, 9])) > 0

    def test_it_is_drawn_as_a_map(self, model: TransformersModel) -> None:
        drawn = _paths(model, edif.Cell(3, -1, "q", 1)).as_json()
        assert (drawn["kind"], drawn["title"]) == ("activation_patching", "Path patching")
        assert "to q 3.1 at -1" in drawn["foot"]

    def test_serialized_as_for_the_backend_it_is_the_same(self, model: TransformersModel) -> None:
        here, there = (_paths(model, senders=["head", "mlp"], remote=r) for r in (False, "local"))
        assert here.data.equals(there.data)

    def test_saved_and_loaded_it_is_the_same(self, model: TransformersModel, tmp_path: Path) -> None:
        found = _paths(model, [edif.Cell(3, -1, "q", 1), edif.Cell(2, 9, "v", 0)], through="mlp")
        again = edif.load(found.save(tmp_path / "paths.edif"))
        assert again.data.identical(found.data)
        assert again.provenance == found.provenance
        assert again.provenance["receivers"][1]["position"] == 9

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"receivers": edif.Cell(4, -1, "q", 0)}, "the model has layers 0 to 3"),
            ({"receivers": edif.Cell(3, -1, "v", 2)}, "heads 0 to 1 there"),
            ({"receivers": edif.Cell(3, 20, "mlp")}, "outside the prompt, which has positions 0 to 13"),
            ({"receivers": edif.Cell(3, -1, "pattern", 0)}, "There is no receiver 'pattern'"),
            ({"receivers": []}, "Name a receiver"),
            ({"senders": "q"}, "There is no sender 'q': choose from head, attention, mlp"),
            ({"through": "attention"}, "There is no way through 'attention'"),
            ({"direction": "sideways"}, "There is no direction 'sideways'"),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, how: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            _paths(model, **how)
