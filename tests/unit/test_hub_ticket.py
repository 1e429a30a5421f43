"""A user server starts with an address of the mirror that proves its user's groups."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edif_hub import server, spawners
from edif_hub.settings import ServerSettings
from edif_protocol.audit_log import AuditLog
from edif_protocol.installation import Installation
from edif_protocol.mirror_ticket import groups_of


class NoQueue:
    """Everybody's turn is now."""

    async def turn(self, name: str) -> None:
        """At once."""

    def over(self, name: str) -> None:
        """Nobody waits."""


def started(home: Path, groups: list[str]) -> dict[str, Any]:
    """The environment that a server of a member of ``groups`` is started with."""
    user = SimpleNamespace(name="ada", groups=[SimpleNamespace(name=group) for group in groups])
    spawner = SimpleNamespace(
        user=user, environment={"KEPT": "1"}, pending="", _log_name="ada", home_dir=str(home / "users" / "ada")
    )
    here, queue, audit = Installation(home=home), NoQueue(), AuditLog(home / "audit")
    prepare = server.before_start(here, ServerSettings(), queue, audit, 3600)  # type: ignore[arg-type]
    asyncio.run(prepare(spawner))  # type: ignore[arg-type]
    return spawner.environment


def test_a_server_starts_with_a_ticket_of_its_users_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "mint_key", lambda spawner, lifetime_s: "key")
    monkeypatch.setattr(spawners, "check_before_start", lambda *given: None)
    here = Installation(home=tmp_path)
    assert started(tmp_path, [])["HF_ENDPOINT"] == here.mirror_url
    found = started(tmp_path, ["lab", "course x"])
    assert (found["KEPT"], found["NDIF_API_KEY"]) == ("1", "key")
    address, _, ticket = found["HF_ENDPOINT"].partition("/~")
    assert address == here.mirror_url
    assert groups_of(here, ticket, 0.0) == {"lab", "course x"}
