"""A sweep gives what one forward pass per cell gives, in fewer of them, and says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from nnsight import TransformersModel
from nnsight.schema.response import ResponseModel, Status
from tests.unit.conftest import FAMILIES

import edif
from edif import beside
from edif.engine import sweeps
from edif.engine.decoder import layers_of
from edif.interventions import Cell, sweep

PROMPT, CLEAN = [3, 14, 15, 9, 26, 5], [3, 14, 41, 9, 26, 5]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, families: Callable[[str], TransformersModel]) -> TransformersModel:
    return families(request.param)


def _head(model: Any) -> Any:
    return model.embed_out if hasattr(model._module, "embed_out") else model.lm_head


def _measure(model: Any, batch: Any) -> Any:
    return _head(model).output[:, -1, :3]


def _clean_states(model: Any) -> list[torch.Tensor]:
    layers = layers_of(model)
    with model.trace(torch.tensor([CLEAN])):
        states = [layer.output for layer in layers]
    return states  # noqa: RET504 - what a trace assigns is there after it


def _patch(model: Any, batch: Any) -> None:
    hidden = layers_of(model)[batch.layer].output
    for rows, cell in batch:
        hidden[rows, batch.at(cell.position)] = batch.given[cell.layer][:, cell.position]


def _patched_alone(model: Any, ids: list[list[int]], cells: list[Cell]) -> np.ndarray[Any, Any]:
    """The same, one forward pass for each cell and nothing reused."""
    layers, head = layers_of(model), _head(model)
    with model.trace(torch.tensor([CLEAN])):
        states = [layer.output for layer in layers].save()
    found = []
    for cell in cells:
        with model.trace(torch.tensor(ids)):
            layers[cell.layer].output[:, cell.position] = states[cell.layer][:, cell.position]
            logits = head.output[:, -1, :3].save()
        found.append(logits.numpy())
    return np.stack(found)


CELLS = [Cell(layer, position) for layer in range(4) for position in range(6)]


def test_a_sweep_is_one_forward_pass_per_cell(model: TransformersModel) -> None:
    found = sweep(model, PROMPT, CELLS, _patch, _measure, prepare=_clean_states, progress=False)
    np.testing.assert_allclose(found.values, _patched_alone(model, [PROMPT], CELLS), rtol=1e-4, atol=1e-5)
    assert found.complete
    with model.trace(torch.tensor([PROMPT])):
        logits = _head(model).output[:, -1, :3].save()
    np.testing.assert_allclose(found.base, logits.numpy(), rtol=1e-5)


@pytest.mark.parametrize("model", ["gpt2", "mistral"], indirect=True)
def test_cells_come_back_in_their_own_order_for_several_prompts(model: TransformersModel) -> None:
    prompts, cells = [PROMPT, [7, 8, 9, 10, 11, 12]], CELLS[::-1]
    found = sweep(model, torch.tensor(prompts), cells, _patch, _measure, prepare=_clean_states, progress=False)
    assert found.values.shape == (24, 2, 3)
    np.testing.assert_allclose(found.values, _patched_alone(model, prompts, cells), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["gpt2", "llama"], indirect=True)
def test_serialized_as_for_the_backend_it_is_the_same(model: TransformersModel) -> None:
    nnsight.register(sys.modules[__name__])  # as a user does who writes edit and measure in a module
    here = sweep(model, PROMPT, CELLS, _patch, _measure, prepare=_clean_states, progress=False)
    there = sweep(model, PROMPT, CELLS, _patch, _measure, prepare=_clean_states, progress=False, remote="local")
    assert here.values.tobytes() == there.values.tobytes()


@pytest.mark.parametrize("model", ["llama"], indirect=True)
class TestOfOneFamily:
    def test_positions_before_the_first_changed_one_are_not_computed(self, model: TransformersModel) -> None:
        seen: list[tuple[int, int]] = []
        model._module.model.layers[3].register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
        sweep(model, PROMPT, [(1, 4), (1, 5)], _patch, _measure, prepare=_clean_states, progress=False)
        assert seen == [(1, 6), (1, 6), (2, 2)]  # the clean run, the base run, and one batch of two positions

    def test_layers_below_are_not_computed(self, model: TransformersModel) -> None:
        ran: list[int] = []
        for index, layer in enumerate(model._module.model.layers):
            layer.self_attn.register_forward_hook(lambda *_, index=index: ran.append(index))
        sweep(model, PROMPT, [(2, 0)], _patch, _measure, prepare=_clean_states, progress=False)
        assert ran == [0, 1, 2, 3] * 2 + [2, 3]

    def test_an_intervention_before_the_layers_holds_in_every_cell(self, model: TransformersModel) -> None:
        noise = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))

        def noisy(model: Any) -> None:
            model.model.embed_tokens.output += noise

        def nothing(model: Any, batch: Any) -> None:
            pass

        found = sweep(model, PROMPT, CELLS, nothing, _measure, base=noisy, progress=False)
        with model.trace(torch.tensor([PROMPT])):
            model.model.embed_tokens.output += noise
            logits = model.lm_head.output[:, -1, :3].save()
        np.testing.assert_allclose(found.values, np.broadcast_to(logits.numpy(), (24, 1, 3)), rtol=1e-4, atol=1e-6)

    def test_batches_keep_to_the_budget(self, model: TransformersModel) -> None:
        found = sweep(model, PROMPT, CELLS, _patch, _measure, prepare=_clean_states, batch_tokens=6, progress=False)
        assert found.batches > 12
        np.testing.assert_allclose(found.values, _patched_alone(model, [PROMPT], CELLS), rtol=1e-4, atol=1e-5)

    def test_the_first_batch_is_small_and_told_at_once(
        self, model: TransformersModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        came: list[int] = []
        take = beside.Telling._take
        monkeypatch.setattr(
            beside.Telling, "_take", lambda self, places, values: (came.append(len(places)), take(self, places, values))
        )
        many = [(0, 0, f"{number}") for number in range(40)]  # 6 tokens each: all fit into one pass of 512
        found = sweep(model, PROMPT, many, _patch, _measure, prepare=_clean_states, progress=False)
        assert came == [16, 24]
        assert found.batches == 2

    def test_where_memory_runs_out_the_batch_is_halved(self, model: TransformersModel) -> None:
        sizes: list[int] = []

        def greedy(model: Any, batch: Any) -> None:
            sizes.append(len(batch.cells))
            if len(batch.cells) > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB.")
            _patch(model, batch)

        found = sweep(model, PROMPT, CELLS, greedy, _measure, prepare=_clean_states, progress=False)
        assert sizes[:3] == [6, 3, 1]
        np.testing.assert_allclose(found.values, _patched_alone(model, [PROMPT], CELLS), rtol=1e-4, atol=1e-5)

    def test_an_error_of_the_users_is_raised_as_it_is(self, model: TransformersModel) -> None:
        def wrong(model: Any, batch: Any) -> None:
            raise KeyError("no such head")

        with pytest.raises(KeyError, match="no such head"):
            sweep(model, PROMPT, CELLS, wrong, _measure, progress=False)

    def test_interrupted_it_keeps_what_it_has(self, model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweeps, "TELL_EVERY_S", 0.0)

        def interrupted(model: Any, batch: Any) -> None:
            if batch.layer == 2:
                raise KeyboardInterrupt
            _patch(model, batch)

        with pytest.raises(edif.SweepStopped, match="after 12 of 24 cells") as stopped:
            sweep(model, PROMPT, CELLS, interrupted, _measure, prepare=_clean_states, progress=False)
        partial = stopped.value.partial
        assert not partial.complete
        np.testing.assert_allclose(
            partial.values[:12], _patched_alone(model, [PROMPT], CELLS[:12]), rtol=1e-4, atol=1e-5
        )
        assert np.isnan(partial.values[12:]).all()

    def test_a_grid_has_layers_and_positions(self, model: TransformersModel) -> None:
        found = sweep(model, PROMPT, CELLS[6:], _patch, _measure, prepare=_clean_states, progress=False)
        assert found.grid().shape == (3, 6, 3)
        np.testing.assert_allclose(found.grid()[1, 2], found.values[8, 0], rtol=1e-6)
        doubled = sweep(model, PROMPT, [Cell(0, 0, head=0), Cell(0, 0, head=1)], _patch, _measure,
                        prepare=_clean_states, progress=False)  # fmt: skip
        with pytest.raises(ValueError, match="Several cells share"):
            doubled.grid()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"cells": []}, "needs cells"),
            ({"cells": [(4, 0)]}, "There is no layer 4: the model has layers 0 to 3"),
            ({"cells": [(0, 6)]}, "outside the prompt, which has positions 0 to 5"),
            ({"prompt": []}, "not empty"),
            ({"layers": "model.blocks"}, "keeps its list of layers not at model.blocks"),
            ({"measure": lambda model, batch: torch.zeros(7)}, r"one value \(or array\) for each row: 1 rows"),
        ],
    )
    def test_bad_input_is_one_sentence(self, model: TransformersModel, change: dict[str, Any], said: str) -> None:
        asked: dict[str, Any] = {"prompt": PROMPT, "cells": CELLS, "edit": _patch, "measure": _measure, **change}
        with pytest.raises((ValueError, IndexError, AttributeError), match=said):
            sweep(model, **asked, prepare=_clean_states, progress=False)

    def test_prompts_of_different_length_are_refused(self, model: TransformersModel) -> None:
        with pytest.raises(ValueError, match="have 3 and 6 tokens"):
            sweep(model, ["to the", "to the city of Paris"], CELLS, _patch, _measure, progress=False)


def test_lines_carry_batches_and_nothing_else_is_taken_for_one() -> None:
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, flush: lines.append(text))
        sweeps.TellByLine()([1, 0], torch.tensor([[2.5], [-1.0]]))
    told = beside.Telling(3, progress=False)

    def said(text: str, status: Status = Status.LOG) -> bool:
        return told.status(ResponseModel(id="job", status=status, description=text))

    assert said(lines[0])
    assert told.known.sum() == 2
    np.testing.assert_array_equal(told.values(0, 3), [[-1.0], [2.5], [np.nan]])
    for other in ("hello", '{"edif.sweep": 3}', '{"edif.sweep": [1, 1, "{"]}', ""):
        assert not said(other)
    assert not said(lines[0], Status.RUNNING)


@pytest.mark.parametrize("numbers", [1, 300, 5000])
def test_no_line_is_longer_than_the_server_lets_through(numbers: int, capsys: pytest.CaptureFixture[str]) -> None:
    values = torch.rand(7, numbers)
    sweeps.TellByLine()(list(range(7)), values)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 16_384
    told = beside.Telling(7, progress=False)
    assert all(told.status(ResponseModel(id="job", status=Status.LOG, description=line)) for line in lines)
    np.testing.assert_array_equal(told.values(0, 7), values)
