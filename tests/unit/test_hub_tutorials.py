"""Shipped notebooks are brought up to date and never written over what a user did."""

from __future__ import annotations

from pathlib import Path

import pytest

from edif_hub.tutorials import MANIFEST, ship_tutorials


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "00_hello.ipynb").write_text("first")
    (folder / "00_hello.py").write_text("not a notebook")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_first_start_copies_and_says_so(source: Path, home: Path) -> None:
    assert ship_tutorials(source, home) is True
    assert [path.name for path in (home / "tutorials").iterdir()] == ["00_hello.ipynb"]
    assert ship_tutorials(source, home) is False


def test_untouched_file_is_updated(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (source / "00_hello.ipynb").write_text("second")
    ship_tutorials(source, home)
    assert (home / "tutorials" / "00_hello.ipynb").read_text() == "second"


def test_edited_file_is_left_alone(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / "00_hello.ipynb").write_text("mine")
    (source / "00_hello.ipynb").write_text("second")
    ship_tutorials(source, home)
    assert (home / "tutorials" / "00_hello.ipynb").read_text() == "mine"


def test_deleted_file_stays_deleted(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / "00_hello.ipynb").unlink()
    ship_tutorials(source, home)
    assert not (home / "tutorials" / "00_hello.ipynb").exists()


def test_users_own_file_of_the_same_name_is_left_alone(source: Path, home: Path) -> None:
    (home / "tutorials").mkdir(parents=True)
    (home / "tutorials" / "00_hello.ipynb").write_text("mine")
    ship_tutorials(source, home)
    assert (home / "tutorials" / "00_hello.ipynb").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{broken", "[1, 2]"])
def test_unreadable_manifest_overwrites_nothing(source: Path, home: Path, content: str) -> None:
    ship_tutorials(source, home)
    (home / MANIFEST).write_text(content)
    (home / "tutorials" / "00_hello.ipynb").write_text("mine")
    ship_tutorials(source, home)
    assert (home / "tutorials" / "00_hello.ipynb").read_text() == "mine"
