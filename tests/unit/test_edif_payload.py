"""A plain model's modules are named in a payload, and nothing else is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nnsight import NNsight
from nnsight.intervention.envoy import Envoy
from nnsight.schema.request import RequestModel
from nnsight.tracing.tracer import dec, inc

from edif import payload

INPUT = torch.ones(1, 3)


class Special(Envoy):
    """An envoy of somebody's own."""


def _model(**changes: Any) -> NNsight:
    inner = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    return NNsight(torch.nn.Sequential(inner, torch.nn.Tanh()), **changes)


def _sent(model: NNsight, serialize: Callable[[Any], bytes]) -> bytes:
    class Capture:
        def __call__(self, tracer: Any) -> None:
            self.payload = serialize(tracer)

    capture = Capture()
    with model.trace(INPUT, backend=capture):
        answer = model[0][1].output.save()  # noqa: F841 - found by its name
    return capture.payload


def _named(model: NNsight) -> set[str]:
    return set(payload._named(model).values())


def _run(sent: bytes, objects: dict[str, Any]) -> torch.Tensor:
    tracer = RequestModel.deserialize(sent, objects)
    inc()
    try:
        tracer.execute(tracer.info.code)
    finally:
        dec()
    found: torch.Tensor = tracer.info.frame.f_locals["answer"]
    return found


def _objects(model: NNsight) -> dict[str, Any]:
    modules = {f"Module:{envoy.path}": envoy._module for envoy in model.modules()}
    return {"Interleaver": model.interleaver, **modules}


@pytest.mark.parametrize("compress", [False, True])
def test_named_payload_is_small_and_means_the_same(compress: bool) -> None:
    here, there = _model(), _model()
    sent = _sent(here, lambda tracer: payload.serialize(tracer, here, compress))
    assert len(sent) < len(_sent(here, lambda tracer: RequestModel.serialize(tracer, compress)))
    if not compress:
        lent = {f"Envoy:{child.path}": child for child in there._children}
        answer = _run(sent, {**_objects(there), **lent})
        assert torch.equal(answer, there._module[0](INPUT))


def test_a_server_without_the_names_refuses() -> None:
    here, there = _model(), _model()
    with pytest.raises(pickle.UnpicklingError, match="Envoy:model"):
        _run(_sent(here, lambda tracer: payload.serialize(tracer, here, False)), _objects(there))


def test_what_is_plain_is_named() -> None:
    assert _named(_model()) == {"Envoy:model.0", "Envoy:model.1"}


def _edit(model: NNsight) -> None:
    with model[0][1].edit(inplace=True):
        model[0][1].output[:] = 0


CHANGES: dict[str, Callable[[NNsight], Any]] = {
    "edit below": _edit,
    "attribute of an envoy below": lambda model: setattr(model[0][1], "mine", 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_written_out(change: str) -> None:
    model = _model()
    CHANGES[change](model)
    assert _named(model) == {"Envoy:model.1"}


@pytest.mark.parametrize("changes", [{"rename": {"0": "first"}}, {"envoys": Special}, {"envoys": {"0": Special}}])
def test_a_tree_of_ones_own_is_written_out(changes: dict[str, Any]) -> None:
    assert not _named(_model(**changes))


def test_with_an_adapter_all_is_written_out() -> None:
    model = _model()
    model.peft = "ada/adapter"
    assert not _named(model)
    assert _sent(model, lambda tracer: payload.serialize(tracer, model, False)) == _sent(
        model, lambda tracer: RequestModel.serialize(tracer, False)
    )


def test_an_edited_copy_carries_its_edit_and_names_the_rest() -> None:
    model = _model()
    with model.edit() as (_, edited):
        edited[1].output[:] = 0
    assert _named(edited) == {"Envoy:model.0", "Envoy:model.1"}
    there = _model()
    lent = {f"Envoy:{child.path}": child for child in there._children}
    sent = _sent(edited, lambda tracer: payload.serialize(tracer, model, False))
    assert RequestModel.deserialize(sent, {**_objects(there), **lent}).envoy._edits
