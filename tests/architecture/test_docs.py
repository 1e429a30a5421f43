"""The pages for people: no link leads nowhere, and every picture is shown and made by a test.

Pictures are copied from ``.artifacts/screenshots``: ``docs/images/course_page.png`` is what a test has kept as
``course_page_light.png`` (or ``course_page.png``, ``course_page-light.png``).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```", re.DOTALL)


def links(page: Path) -> list[str]:
    """What a page links to below this checkout; examples in code are none."""
    found = _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))
    return [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]


@pytest.fixture
def pages(root: Path) -> list[Path]:
    found = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("docs/decisions/*.md")]
    assert len(found) > 10
    return found


def test_links_lead_somewhere(pages: list[Path], root: Path) -> None:
    broken = [
        f"{page.relative_to(root)}: {link}"
        for page in pages
        for link in links(page)
        if link and not (page.parent / link).exists()
    ]
    assert broken == []


def test_pictures_are_shown_and_made_by_tests(pages: list[Path], root: Path) -> None:
    shown = {(page.parent / link).resolve() for page in pages for link in links(page)}
    pictures = set(root.glob("docs/images/*.png"))
    assert len(pictures) > 5
    assert {picture.name for picture in pictures - shown} == set()
    tests = "".join(path.read_text(encoding="utf-8") for path in root.glob("tests/e2e/*.py"))
    assert [
        picture.name for picture in pictures if f'"{picture.stem}"' not in tests and f"{picture.stem}.png" not in tests
    ] == []
