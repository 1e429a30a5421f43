"""What the mended proxy makes of an address."""

from __future__ import annotations

import pytest

from edif_hub.proxy import with_colons


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h:1/room/json%3Anotebook%3Aid", "http://h:1/room/json:notebook:id"),
        ("http://h:1/a%20b%3Fc?next=http%3A%2F%2Fx", "http://h:1/a%20b%3Fc?next=http%3A%2F%2Fx"),
    ],
)  # fmt: skip
def test_colons_of_the_path_alone_are_kept(url: str, sent: str) -> None:
    assert with_colons(url) == sent
