"""Where a trace goes when the user does not say: the table in the head of edif_kernel.routing, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.intervention.envoy import traceable
from nnsight.modeling.mixins.remotable import Remotable
from nnsight.tracing.backend import Backend

from edif_kernel.routing import Mode, Routing

INPUT = torch.ones(1, 3)


class Line(Remotable):
    """One linear layer of ones, loaded on demand."""

    def _load_meta(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(3, 2))

    def _load(self) -> torch.nn.Module:
        module = torch.nn.Sequential(torch.nn.Linear(3, 2))
        torch.nn.init.ones_(module[0].weight)
        torch.nn.init.zeros_(module[0].bias)
        return module

    def _remoteable_model_key(self) -> str:
        return "line"

    @traceable
    def generate(self, value: torch.Tensor, steps: int = 1) -> torch.Tensor:
        """Run the line ``steps`` times."""
        for _ in range(steps):
            out = self._module(value)
        return out


class Server(Backend):
    """Stands in for the way to the backend: keeps the kind of every block that was sent."""

    def __init__(self) -> None:
        self.blocks: list[str] = []

    def __call__(self, tracer: Any) -> None:
        self.blocks.append(type(tracer).__name__)


@pytest.fixture
def routing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Routing]:
    for name in ("trace", "session", "_remote_backend"):
        monkeypatch.setattr(Remotable, name, getattr(Remotable, name))  # put back at the end
    return Routing()


@pytest.fixture
def server(routing: Routing, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(Remotable, "_remote_backend", lambda self, remote, *rest: server)
    routing.install()
    return server


def test_model_without_weights_goes_to_the_backend(server: Server) -> None:
    model = Line()
    with model.trace(INPUT):
        model[0].output.save()
    assert server.blocks == ["InterleavingTracer"]
    assert not model.dispatched


def test_model_with_weights_stays_here(server: Server) -> None:
    model = Line(dispatch=True)
    with model.trace(INPUT):
        out = model[0].output.save()
    assert server.blocks == []
    assert out.tolist() == [[3.0, 3.0]]


def test_remote_false_stays_here_and_loads(server: Server) -> None:
    model = Line()
    with model.trace(INPUT, remote=False):
        out = model[0].output.save()
    assert server.blocks == []
    assert out.tolist() == [[3.0, 3.0]]


def test_remote_true_goes_even_with_weights(server: Server) -> None:
    model = Line(dispatch=True)
    with model.trace(INPUT, remote=True):
        model[0].output.save()
    assert len(server.blocks) == 1


def test_own_backend_is_kept(server: Server) -> None:
    model = Line()
    own = Server()
    with model.trace(INPUT, backend=own):
        model[0].output.save()
    assert (len(own.blocks), len(server.blocks)) == (1, 0)


def test_trace_false_is_a_plain_call(server: Server) -> None:
    assert Line().trace(INPUT, trace=False).tolist() == [[3.0, 3.0]]
    assert server.blocks == []


def test_scan_stays_here_without_weights(server: Server) -> None:
    model = Line()
    with model.scan(INPUT):
        shape = model[0].output.shape
        assert tuple(shape) == (1, 2)
    assert server.blocks == []
    assert not model.dispatched


def test_edit_is_only_recorded(server: Server) -> None:
    model = Line()
    with model.edit() as (_, edited):
        edited[0].output[:] = 0
    assert server.blocks == []


def test_generate_goes_to_the_backend(server: Server) -> None:
    model = Line()
    with model.generate(INPUT, steps=2):
        model[0].output.save()
    assert len(server.blocks) == 1
    assert not model.dispatched


def test_generate_called_directly_is_plain_nnsight(server: Server) -> None:
    out = Line().generate(INPUT)
    assert out.tolist() == [[3.0, 3.0]]
    assert server.blocks == []


def test_whole_session_goes_and_its_traces_are_not_sent_apart(server: Server) -> None:
    model = Line()
    with model.session():
        with model.trace(INPUT):
            hidden = model[0].output
        with model.trace(INPUT):
            (hidden + model[0].output).save()
    assert server.blocks == ["Tracer"]


def test_local_session_keeps_its_traces_here(server: Server) -> None:
    model = Line()
    with model.session(remote=False):
        with model.trace(INPUT):
            hidden = model[0].output
        with model.trace(INPUT):
            total = (hidden + model[0].output).save()
    assert server.blocks == []
    assert total.tolist() == [[6.0, 6.0]]


def test_session_with_backend_by_position(server: Server) -> None:
    own = Server()
    model = Line()
    with model.session(own):  # noqa: SIM117 (nnsight takes the block of one `with` statement)
        with model.trace(INPUT):
            model[0].output.save()
    assert (len(own.blocks), len(server.blocks)) == (1, 0)


def test_off_is_plain_nnsight(server: Server, routing: Routing) -> None:
    routing.mode = Mode.OFF
    model = Line()
    with model.trace(INPUT):
        out = model[0].output.save()
    assert server.blocks == []
    assert out.tolist() == [[3.0, 3.0]]


def test_on_goes_even_with_weights_but_not_against_the_users_word(server: Server, routing: Routing) -> None:
    routing.mode = Mode.ON
    model = Line(dispatch=True)
    with model.trace(INPUT):
        model[0].output.save()
    with model.trace(INPUT, remote=False):
        out = model[0].output.save()
    assert len(server.blocks) == 1
    assert out.tolist() == [[3.0, 3.0]]


def test_remote_backend_keeps_its_settings_over_the_kept_connection(routing: Routing) -> None:
    from edif.remote import EdifBackend

    routing.install()
    model = Line()
    backend = model._remote_backend("http://127.0.0.1:1", False, "job-1", False)
    assert isinstance(backend, EdifBackend)
    assert isinstance(backend, RemoteBackend)
    assert (backend.host, backend.blocking, backend.job_id) == ("http://127.0.0.1:1", False, "job-1")
    assert backend.model_key.endswith(":line")


def test_local_simulation_is_not_replaced(routing: Routing) -> None:
    from nnsight.intervention.backends.local import LocalSimulationBackend

    routing.install()
    assert type(Line()._remote_backend("local", True, None, False)) is LocalSimulationBackend
