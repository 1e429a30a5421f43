"""How ``edif`` and its functions travel with a trace, and the shelf of one's own process."""

from __future__ import annotations

import io

import cloudpickle
import nnsight
import pytest
import torch
from cloudpickle.cloudpickle import _PICKLE_BY_VALUE_MODULES

import edif
from edif import keeping
from edif_protocol import shelf


@pytest.fixture
def sent_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nnsight does with every module that lies beside the user's code: a checkout is one."""
    for name in ("edif", "edif_protocol"):
        _PICKLE_BY_VALUE_MODULES.add(name)
    yield
    for name in ("edif", "edif_protocol"):
        _PICKLE_BY_VALUE_MODULES.discard(name)


def test_the_package_and_its_functions_are_sent_by_name(sent_by_value: None) -> None:
    sent = cloudpickle.dumps({"package": edif, "keep": edif.keep, "kept": edif.kept, "forget": edif.forget})
    assert len(sent) < 400
    assert cloudpickle.loads(sent) == {
        "package": edif,
        "keep": keeping.keep,
        "kept": keeping.kept,
        "forget": keeping.forget,
    }


def test_outside_of_a_trace_nothing_is_kept() -> None:
    with pytest.raises(edif.NotKept, match="works inside a trace"):
        edif.keep(1, "x")


def test_local_traces_keep_what_a_value_was_then() -> None:
    model = nnsight.NNsight(torch.nn.Linear(2, 2))
    with model.trace(torch.ones(1, 2)):
        out = model.output
        edif.keep(out, "mine")
        right = out.clone().save()
        out[:] = 0
    with model.trace(torch.zeros(1, 2)):
        back = edif.kept("mine").save()
    assert back.equal(right)
    assert not back.requires_grad
    with (
        pytest.raises(edif.NotKept, match=r"Nothing is kept as 'other'\. There is: mine\."),
        model.trace(torch.ones(1, 2)),
    ):
        edif.kept("other")


def test_a_process_with_a_shelf_uses_that(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def put(self, name: str, write: object) -> None:
            raise shelf.ShelfRefused("There is no room.")

        def get(self, name: str) -> io.BytesIO:
            file = io.BytesIO()
            torch.save({name: 7}, file)
            file.seek(0)
            return file

    monkeypatch.setattr(shelf, "_installed", [Full()])
    assert edif.kept("x") == {"x": 7}
    with pytest.raises(edif.NotKept, match="no room"):
        edif.keep(1, "x")
    with pytest.raises(edif.NotKept, match="cannot be the name"):
        edif.kept("../x")
    with pytest.raises(edif.NotKept, match="needs the name"):
        edif.kept()
    with pytest.raises(edif.NotKept, match="nothing can be forgotten"):
        edif.forget("x")
