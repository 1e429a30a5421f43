"""Shipped notebooks are brought up to date and never written over what a user did."""

from __future__ import annotations

from pathlib import Path

import pytest

from edif_hub.user_server.tutorials import MANIFEST, reset, ship_tutorials

NAME = "00_hello.ipynb"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / NAME).write_text("first")
    (folder / "00_hello.py").write_text("not a notebook")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def names(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "tutorials").iterdir() if path.is_file())


def test_first_start_copies_and_says_so(source: Path, home: Path) -> None:
    assert ship_tutorials(source, home).first_time is True
    assert names(home) == [NAME]
    assert ship_tutorials(source, home).first_time is False


def test_a_new_one_appears_later(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (source / "01_more.ipynb").write_text("more")
    ship_tutorials(source, home)
    assert names(home) == [NAME, "01_more.ipynb"]


def test_untouched_file_is_updated(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (source / NAME).write_text("second")
    assert ship_tutorials(source, home).beside == []
    assert (home / "tutorials" / NAME).read_text() == "second"


def test_edited_file_is_kept_with_the_new_version_beside_it(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / NAME).write_text("mine")
    assert ship_tutorials(source, home).beside == []  # there is no new version
    (source / NAME).write_text("second")
    assert ship_tutorials(source, home).beside == ["00_hello.new.ipynb"]
    assert (home / "tutorials" / NAME).read_text() == "mine"
    assert (home / "tutorials" / "00_hello.new.ipynb").read_text() == "second"
    assert ship_tutorials(source, home).beside == []


def test_the_file_beside_follows_until_it_is_edited_or_deleted(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / NAME).write_text("mine")
    beside = home / "tutorials" / "00_hello.new.ipynb"
    for version in ("second", "third"):
        (source / NAME).write_text(version)
        ship_tutorials(source, home)
        assert beside.read_text() == version
    beside.write_text("mine too")
    (source / NAME).write_text("fourth")
    assert ship_tutorials(source, home).beside == ["00_hello.new2.ipynb"]
    assert beside.read_text() == "mine too"
    (home / "tutorials" / "00_hello.new2.ipynb").unlink()
    ship_tutorials(source, home)
    assert names(home) == [NAME, "00_hello.new.ipynb"]


def test_who_took_the_new_version_over_is_updated_again(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / NAME).write_text("mine")
    (source / NAME).write_text("second")
    ship_tutorials(source, home)
    (home / "tutorials" / "00_hello.new.ipynb").replace(home / "tutorials" / NAME)
    (source / NAME).write_text("third")
    assert ship_tutorials(source, home).beside == []
    assert (home / "tutorials" / NAME).read_text() == "third"


def test_deleted_file_stays_deleted(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / NAME).unlink()
    (source / NAME).write_text("second")
    ship_tutorials(source, home)
    assert names(home) == []


def test_users_own_file_of_the_same_name_is_left_alone(source: Path, home: Path) -> None:
    (home / "tutorials").mkdir(parents=True)
    (home / "tutorials" / NAME).write_text("mine")
    ship_tutorials(source, home)
    assert (home / "tutorials" / NAME).read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{broken", "[1, 2]"])
def test_unreadable_manifest_overwrites_nothing(source: Path, home: Path, content: str) -> None:
    ship_tutorials(source, home)
    (home / MANIFEST).write_text(content)
    (home / "tutorials" / NAME).write_text("mine")
    ship_tutorials(source, home)
    assert (home / "tutorials" / NAME).read_text() == "mine"


def test_originals_are_all_there_read_only_and_follow(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    originals = home / "tutorials" / "originals"
    assert (originals / NAME).stat().st_mode & 0o777 == 0o444
    (source / NAME).unlink()
    (source / "01_more.ipynb").write_text("more")
    ship_tutorials(source, home)
    assert [path.name for path in originals.iterdir()] == ["01_more.ipynb"]


def test_reset_brings_the_original_back_and_keeps_the_users(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    assert reset(source, home, NAME) is None  # nothing to keep
    (home / "tutorials" / NAME).write_text("mine")
    kept = reset(source, home, NAME, now_s=0)
    assert kept is not None
    assert (home / "tutorials" / kept).read_text() == "mine"
    assert (home / "tutorials" / NAME).read_text() == "first"
    (source / NAME).write_text("second")
    ship_tutorials(source, home)
    assert (home / "tutorials" / NAME).read_text() == "second"  # it counts as untouched again


def test_reset_of_a_deleted_one_and_of_something_else(source: Path, home: Path) -> None:
    ship_tutorials(source, home)
    (home / "tutorials" / NAME).unlink()
    assert reset(source, home, NAME) is None
    assert names(home) == [NAME]
    with pytest.raises(FileNotFoundError, match=r"00_hello\.ipynb"):
        reset(source, home, "../.bashrc")
