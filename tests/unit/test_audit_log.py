"""The log of who did what: lines that do not mix, half lines that harm nothing, and nothing stopped by a full disk."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edif_protocol.audit_log import AuditLog


def test_acts_are_lines_of_json_the_newest_first_when_asked(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit")
    log.note("ada", "server.start", "ada", via="hub")
    log.note("admin", "model.evict", "edif/tiny-gpt2", via="page", said="x" * 10_000)
    log.note("admin", "key.end", "ada", via="hub", key="a1")
    assert [act["act"] for act in log.newest(2)] == ["key.end", "model.evict"]
    assert [act["act"] for act in log.newest(9, by="ada")] == ["server.start"]
    assert [act["on"] for act in log.newest(9, act="key.")] == ["ada"]
    told = [json.loads(line) for line in log.lines()]
    assert [act["act"] for act in told] == ["server.start", "model.evict", "key.end"]
    assert len(told[1]["said"]) == 500
    [file] = (tmp_path / "audit").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_lines_of_many_do_not_mix_and_half_a_line_is_passed_over(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda number: log.note("ada", "job.cancel", "ö" * number, via="page"), range(200)))
    assert len([json.loads(line) for line in log.lines()]) == 200
    [file] = tmp_path.iterdir()
    with file.open("a") as text:
        text.write('{"at": "2026-')
    assert len(log.newest(500)) == 200


def test_what_cannot_be_written_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    AuditLog(tmp_path / "audit").note("ada", "server.start", "ada", via="hub")
    assert "server.start" in capsys.readouterr().err
