"""Pages of a user server run JupyterLab's scripts and ours, known by their digests, and none that an output brings."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from jupyterlab.commands import get_app_dir

from edif.result_pages import page
from edif_hub.user_server.extension import _policy
from edif_hub.user_server.lab_policy import open_policy, policy, scripts_in
from edif_hub.user_server.settings import UserServerSettings
from edif_widgets import labextension_path


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _rules(said: str) -> dict[str, str]:
    return dict(rule.split(" ", 1) for rule in said.split("; "))


def test_a_script_in_a_page_is_known_by_its_digest_alone() -> None:
    one, two = "one()", "two('ö')"
    rules = _rules(policy([one, two]))
    assert rules["script-src"] == f"'self' 'unsafe-eval' {_digest(one)} {_digest(two)}"
    assert "unsafe-inline" not in rules["script-src"]
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert not [rule for rule in rules.values() if "http" in rule or "*" in rule]


def test_jupyterlabs_own_script_is_found_where_it_stands() -> None:
    [script] = scripts_in(Path(get_app_dir()) / "static" / "index.html")
    assert "Remove token from URL" in script
    assert _digest(script) in _policy(UserServerSettings())


@pytest.mark.skipif(not (labextension_path() / "page.js").is_file(), reason="the front end is not built")
def test_a_page_that_shows_a_result_may_draw_it(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page([{"kind": "next-tokens", "title": "</script>"}]), encoding="utf-8")
    [script] = scripts_in(tmp_path / "page.html")
    assert _digest(script) in _policy(UserServerSettings())


def test_the_operator_can_leave_outputs_their_scripts() -> None:
    assert _policy(UserServerSettings(output_scripts=True)) == open_policy() == "frame-ancestors 'none'"
