"""What gateway, replicas and dispatcher rely on in every object store, and in the links to it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import skip
from tests.services import NotInstalled, s3_service

from edif_backend.errors import NotServing
from edif_backend.objects.behind import WriteBehind
from edif_backend.objects.folder import FolderObjects
from edif_backend.objects.links import Links
from edif_backend.objects.s3 import S3Objects
from edif_backend.objects.store import KINDS, Objects

NAME = "results/" + "a" * 32 + "-1"


class Broken(Exception):
    """The writer of an object fails half way."""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a real S3 service."""
    try:
        with s3_service() as address:
            yield address
    except NotInstalled as missing:
        skip(missing)


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return FolderObjects(tmp_path / "objects")
    bucket = S3Objects(request.getfixturevalue("s3"), "edif", "edif", "made-up")
    for kind in KINDS:
        for found in list(bucket.listing(kind)):
            bucket.delete(found.name)
    return bucket


def test_an_object_comes_back_as_it_was_stored(objects: Objects) -> None:
    objects.write(NAME, b"\x00\xff" * 1000)
    assert objects.read(NAME) == b"\x00\xff" * 1000
    objects.write(NAME, b"")
    assert objects.read(NAME) == b""
    objects.delete(NAME)
    objects.delete(NAME)


def test_what_is_not_there_is_said_to_be_missing(objects: Objects) -> None:
    for ask in (objects.read, objects.stat, lambda name: objects.read_range(name, 0, 1)):
        with pytest.raises(FileNotFoundError):
            ask(NAME)


def test_an_object_appears_whole_or_not_at_all(objects: Objects) -> None:
    with objects.writer(NAME) as writer:
        writer.write(b"one")
        with pytest.raises(FileNotFoundError):
            objects.stat(NAME)
        writer.write(b"two")
        assert writer.written_bytes == 6
    assert writer.sha256 == hashlib.sha256(b"onetwo").hexdigest()
    assert objects.read(NAME) == b"onetwo"
    with suppress(Broken), objects.writer(NAME) as writer:
        writer.write(b"half")
        raise Broken
    assert objects.read(NAME) == b"onetwo"
    assert [found.name for found in objects.listing("results")] == [NAME]


def test_a_large_object_is_written_and_read_in_pieces(objects: Objects) -> None:
    piece = bytes(range(256)) * 4096
    with objects.writer(NAME) as writer:
        for _ in range(18):
            writer.write(piece)
    assert objects.stat(NAME).bytes == 18 * len(piece)
    pieces = list(objects.read_range(NAME, 3, 17 * len(piece)))
    assert max(map(len, pieces)) <= len(piece)
    assert b"".join(pieces) == (piece * 18)[3 : 3 + 17 * len(piece)]


@pytest.mark.parametrize(("start", "length", "expected"), [(0, 3, b"abc"), (4, 1, b"e"), (5, 10, b"f"), (2, 0, b"")])
def test_a_range_is_read(objects: Objects, start: int, length: int, expected: bytes) -> None:
    objects.write(NAME, b"abcdef")
    assert b"".join(objects.read_range(NAME, start, length)) == expected


def test_objects_are_listed_by_kind(objects: Objects) -> None:
    payload = "payloads/" + "b" * 32
    began = time.time()
    objects.write(NAME, b"abc")
    objects.write(payload, b"")
    (found,) = objects.listing("results")
    assert (found.name, found.bytes) == (NAME, 3)
    assert abs(found.stored_at - began) < 60
    assert [found.name for found in objects.listing("payloads")] == [payload]


async def test_writing_behind_stores_the_pieces_in_order_and_reports_failures(objects: Objects) -> None:
    async with WriteBehind(lambda: objects.writer(NAME)) as sink:
        for number in range(100):
            await sink.write(bytes([number]) * 10)
    expected = b"".join(bytes([number]) * 10 for number in range(100))
    assert objects.read(NAME) == expected
    assert sink.sha256 == hashlib.sha256(expected).hexdigest()
    with pytest.raises(TypeError):
        async with WriteBehind(lambda: objects.writer(NAME)) as sink:
            await sink.write("not bytes")
    with suppress(Broken):
        async with WriteBehind(lambda: objects.writer(NAME)) as sink:
            await sink.write(b"half")
            raise Broken
    assert objects.read(NAME) == expected


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
        objects.stat(name)


def test_a_store_that_does_not_answer_or_refuses_the_keys_is_said_to(s3: str) -> None:
    with pytest.raises(NotServing, match="refused"):
        S3Objects(s3, "edif", "edif", "another")
    with pytest.raises(NotServing, match="does not answer"):
        S3Objects(f"http://127.0.0.1:{1}", "edif", "edif", "made-up")


def test_an_upload_to_a_store_that_has_gone_fails(s3: str) -> None:
    objects = S3Objects(s3, "gone", "edif", "made-up")
    objects._bucket = "never-made"
    with pytest.raises((NotServing, FileNotFoundError)):
        objects.write(NAME, bytes(40 << 20))


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
