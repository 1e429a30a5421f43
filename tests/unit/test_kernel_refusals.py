"""A model that is not here is explained after the error, in one sentence; other errors are left as they are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import edif
from edif_kernel.refusals import _building, _loading

SERVED = edif.Models([edif.Model("edif/tiny-gpt2", "text-generation", "RUNNING", "float32", "Tiny", "test")])


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edif, "models", lambda: SERVED)


def _failing(error: Exception, cause: Exception | None = None):
    def wrapped(*args, **kwargs) -> None:
        raise error from cause

    return wrapped


class HubError(Exception):
    """An answer of the model mirror, as huggingface_hub hands it on."""

    server_message = 'The model "edif/tiny" is not served here. Did you mean edif/tiny-gpt2?'


def test_unknown_model_has_the_mirrors_sentence() -> None:
    with pytest.raises(edif.ModelUnknown, match=r"Did you mean edif/tiny-gpt2\?") as raised:
        _building(_failing(OSError("pages of text"), HubError()), None, ("edif/tiny",), {})
    assert isinstance(raised.value, OSError)


def test_unknown_model_without_network_lists_what_there_is() -> None:
    with pytest.raises(edif.ModelUnknown, match="Models served here: edif/tiny-gpt2"):
        _building(_failing(OSError("no network")), None, (), {"repo_id": "openai-community/gpt3"})


def test_trouble_with_a_served_model_is_not_explained_away() -> None:
    with pytest.raises(OSError, match="disk full"):
        _building(_failing(OSError("disk full")), None, ("edif/tiny-gpt2",), {})


def test_backend_down_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise edif.BackendUnreachable("http://127.0.0.1:1")

    monkeypatch.setattr(edif, "models", down)
    with pytest.raises(edif.BackendUnreachable):
        _building(_failing(OSError("no connection")), None, ("edif/tiny-gpt2",), {})


def test_running_here_without_weights_says_how_to_run_there() -> None:
    model = SimpleNamespace(repo_id="edif/tiny-gpt2")
    with pytest.raises(edif.WeightsElsewhere, match=r"with model\.trace"):
        _loading(_failing(ValueError("Could not load model")), model, (), {})


def test_own_model_that_does_not_load_keeps_its_error() -> None:
    with pytest.raises(ValueError, match="Could not load"):
        _loading(_failing(ValueError("Could not load model")), SimpleNamespace(repo_id="./mine"), (), {})
