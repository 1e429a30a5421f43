"""What gateway and replicas rely on in the object store, and in the links to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edif_backend.objects.folder import Objects
from edif_backend.objects.links import Links

NAME = "results/" + "a" * 32 + "-1"


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "objects")


def test_an_object_comes_back_as_it_was_stored(objects: Objects) -> None:
    objects.write(NAME, b"\x00\xff" * 1000)
    assert objects.read(NAME) == b"\x00\xff" * 1000
    objects.delete(NAME)
    objects.delete(NAME)
    with pytest.raises(FileNotFoundError):
        objects.read(NAME)


def test_an_object_appears_whole_or_not_at_all(objects: Objects, tmp_path: Path) -> None:
    with objects.writer(NAME) as writer:
        writer.write(b"one")
        assert not objects.path(NAME).exists()
        writer.write(b"two")
        assert writer.written_bytes == 6
    assert objects.read(NAME) == b"onetwo"
    broken = objects.writer(NAME)
    broken.write(b"half")
    broken.__exit__(RuntimeError, RuntimeError(), None)
    assert objects.read(NAME) == b"onetwo"
    assert [path.name for path in (tmp_path / "objects" / "results").iterdir()] == [NAME.split("/")[1]]


@pytest.mark.parametrize(
    "name",
    [
        "../secrets/link-key",
        "results/../../x",
        "/etc/passwd",
        "results/",
        "results/short",
        "other/" + "a" * 32,
        "results/" + "A" * 32,
        "results/" + "a" * 32 + "-1/../x",
        "results/" + "a" * 32 + "\n",
    ],
)
def test_no_name_leads_anywhere_else(objects: Objects, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of an object"):
        objects.path(name)


def test_a_link_opens_one_object_until_it_ends() -> None:
    moment = [1000.0]
    links = Links("secret", 60, lambda: moment[0])
    name, _, query = links.sign(NAME).partition("?")
    assert name == NAME
    fields = dict(part.split("=") for part in query.split("&"))
    ends, signature = int(fields["ends"]), fields["signature"]
    assert links.valid(NAME, ends, signature)
    assert not links.valid(NAME.replace("-1", "-2"), ends, signature)
    assert not links.valid(NAME, ends + 1, signature)
    assert not links.valid(NAME, ends, "ä" + signature[1:])
    assert not Links("other", 60, lambda: moment[0]).valid(NAME, ends, signature)
    moment[0] += 61
    assert not links.valid(NAME, ends, signature)
