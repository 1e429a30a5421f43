"""The table of what works says what the conformance suite checks."""

from __future__ import annotations

from collections import Counter

from tests.conformance.table import TABLE, promise, registered, text


def test_the_table_is_current() -> None:
    assert TABLE.read_text(encoding="utf-8") == text(), "run python tests/conformance/table.py"


def test_every_case_has_its_own_name() -> None:
    assert [name for name, times in Counter(case[0] for case in registered()).items() if times > 1] == []


def test_a_deviation_gives_its_reason() -> None:
    assert promise({"deviation": "nnsight drops it"}) == "differs: nnsight drops it"
    assert promise({"raises": "IndexError", "tells": "before"}) == "same error, `IndexError`, LOG"
