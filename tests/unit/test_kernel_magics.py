"""``%edif`` shows and changes where traces go, and never shows a key."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import edif
from edif_kernel.magics import EdifMagics
from edif_kernel.routing import Mode, Routing

KEY = "0123456789abcdef"


@pytest.fixture
def magics(monkeypatch: pytest.MonkeyPatch) -> EdifMagics:
    monkeypatch.setenv("NDIF_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("NDIF_API_KEY", KEY)
    return EdifMagics(InteractiveShell(), Routing())


def _answering(monkeypatch: pytest.MonkeyPatch, user: str | None) -> None:
    models = edif.Models([edif.Model("edif/tiny-gpt2", "text-generation", "RUNNING", "float32", "Tiny", "test")])
    monkeypatch.setattr(edif, "status", lambda: edif.Status("http://127.0.0.1:1", user, 3, models))


def test_status(magics: EdifMagics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _answering(monkeypatch, "ada")
    magics.edif("")
    shown = capsys.readouterr().out
    for part in ("http://127.0.0.1:1", "User: ada", "Waiting jobs: 3", "edif/tiny-gpt2"):
        assert part in shown
    assert KEY not in shown


def test_ended_key(magics: EdifMagics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _answering(monkeypatch, None)
    magics.edif("")
    assert "Key: not accepted" in capsys.readouterr().out


def test_backend_down(magics: EdifMagics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def down() -> None:
        raise edif.BackendUnreachable("http://127.0.0.1:1")

    monkeypatch.setattr(edif, "status", down)
    magics.edif("")
    assert "does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("mode", list(Mode))
def test_mode_is_changed(magics: EdifMagics, mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    magics.edif(f"remote {mode}")
    assert magics.routing.mode is mode
    assert "Traces go" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["remote", "remote maybe", "bogus", "help me"])
def test_other_words_show_the_help(magics: EdifMagics, line: str) -> None:
    with pytest.raises(UsageError, match="%edif remote auto"):
        magics.edif(line)
    assert magics.routing.mode is Mode.AUTO
