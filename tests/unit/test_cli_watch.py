"""supervisord as the workbench runs it: it never waits long before it looks at what has died."""

from __future__ import annotations

import pytest
from supervisor import poller, supervisord
from supervisor.options import ServerOptions

from edif_backend.cli import watch


def test_the_supervisor_wakes_often_and_asks_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "Poller", poller.Poller)  # put back afterwards
    started: list[ServerOptions] = []
    monkeypatch.setattr(supervisord, "main", lambda: started.append(ServerOptions()))
    watch.main()
    [options] = started
    asked: list[float] = []

    def poll_fds(_: object, timeout: float) -> list[int]:
        asked.append(timeout)
        return []

    monkeypatch.setattr(poller.Poller, "_poll_fds", poll_fds)
    assert options.poller.poll(1) == ([], [])
    assert options.poller.poll(0.01) == ([], [])
    assert asked == [0.1, 0.01]
