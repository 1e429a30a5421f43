"""The catalogue while the workbench runs: followed when it changes, kept when it breaks, changed by commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edif_backend.errors import CatalogueInvalid, ModelUnknown
from edif_backend.models import edits
from edif_backend.models.catalogue import DEFAULT_CATALOGUE, DEMO_ID, TINY_ID
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.orders import Order, Orders

FIRST = '[models."a/first"]\ntitle = "First"\nsource = "hub"\n'
SECOND = '\n[models."b/second"]\ntitle = "Second"\nsource = "hub"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(FIRST)
    return path


def rewrite(path: Path, text: str) -> None:
    """Write the file with a time of its own, however coarse the file system's clock is."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


def test_a_model_written_into_the_file_is_found_at_once(path: Path) -> None:
    catalogue = LiveCatalogue(path)
    assert not catalogue.refresh()
    rewrite(path, FIRST + SECOND)
    assert catalogue.find("b/second").title == "Second"
    rewrite(path, SECOND)
    assert catalogue.refresh()
    with pytest.raises(ModelUnknown):
        catalogue.entry("a/first")


def test_a_broken_file_changes_nothing_and_is_told_until_it_is_mended(path: Path) -> None:
    catalogue = LiveCatalogue(path)
    rewrite(path, FIRST + "[models.")
    assert not catalogue.refresh()
    assert catalogue.entry("a/first").title == "First"
    assert "is not valid TOML" in catalogue.problem
    path.unlink()
    catalogue.refresh()
    assert "no catalogue" in catalogue.problem
    path.write_text(FIRST)
    assert not catalogue.refresh()
    assert catalogue.problem == ""


def test_a_touched_file_with_the_same_models_is_no_change(path: Path) -> None:
    catalogue = LiveCatalogue(path)
    rewrite(path, f"# a comment\n{FIRST}")
    assert not catalogue.refresh()


def test_commands_leave_comments_and_order_as_they_are(path: Path) -> None:
    path.write_text(f"{DEFAULT_CATALOGUE}\n# the end\n")
    edits.add(path, "openai-community/gpt2", {"title": "GPT-2", "source": "hub", "dtype": "bfloat16", "pinned": True})
    edits.set_pinned(path, TINY_ID, True)
    edits.set_pinned(path, DEMO_ID.upper(), False)
    expected = DEFAULT_CATALOGUE.replace("pinned = true", "pinned = false", 1)
    expected = expected.replace('"tiny-lora" } }\n', '"tiny-lora" } }\npinned = true\n', 1)
    kept = [line for line in path.read_text().splitlines() if line]
    assert kept[:-5] == [*(line for line in expected.splitlines() if line), "# the end"]
    assert kept[-5:] == [
        '[models."openai-community/gpt2"]',
        'title = "GPT-2"',
        'source = "hub"',
        'dtype = "bfloat16"',
        "pinned = true",
    ]


@pytest.mark.parametrize(
    ("id", "keys", "told"),
    [
        ("a/FIRST", {"title": "t", "source": "hub"}, "is in .* already"),
        ("c/third", {"title": "t", "source": "hub", "dtype": "int3"}, "float32, bfloat16, float16"),
        ("../third", {"title": "t", "source": "hub"}, "a name as on the Hugging Face Hub"),
    ],
)
def test_what_would_break_the_file_is_refused_and_not_written(
    path: Path, id: str, keys: dict[str, str | int | bool], told: str
) -> None:
    path.chmod(0o640)
    with pytest.raises(CatalogueInvalid, match=told) as failure:
        edits.add(path, id, keys)
    assert str(path) in str(failure.value)
    assert path.read_text() == FIRST
    assert sorted(found.name for found in path.parent.iterdir()) == [".models.toml.lock", "models.toml"]
    edits.set_pinned(path, "a/first", True)
    assert path.stat().st_mode & 0o777 == 0o640


def test_pinning_what_is_not_there_says_so(path: Path) -> None:
    with pytest.raises(ModelUnknown):
        edits.set_pinned(path, "no/such", True)
    path.unlink()
    with pytest.raises(CatalogueInvalid, match="`edif up` writes one"):
        edits.set_pinned(path, "a/first", True)


def test_orders_are_taken_once_and_in_their_order(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders")
    assert orders.take() == []
    placed = [Order("deploy", "a/first"), Order("evict", "b/second"), Order("deploy", "b/second")]
    for order in placed:
        orders.place(order)
    assert orders.take() == placed
    assert orders.take() == []
