"""What ``edif up`` says at its end: how people log in here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edif_backend.cli import workbench
from edif_protocol.installation import Installation

UNIVERSITY = """
[[login.issuers]]
id = "a"
title = "Alpha University"
issuer = "https://a.example"
client_id = "edif"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    return Installation()


def test_the_shared_password_is_told_where_it_opens_the_door(
    here: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    workbench._welcome(here, detach=True)
    assert f"the password {here.secret('user-password')}" in capsys.readouterr().out


def test_with_a_universitys_login_its_name_is_told_and_no_password(
    here: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    here.config_file.write_text(UNIVERSITY)
    workbench._welcome(here, detach=True)
    said = capsys.readouterr().out
    assert "People log in with Alpha University." in said
    assert "password" not in said
