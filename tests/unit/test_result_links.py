"""A link to a result leads to the address by which its asker has come."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from edif_backend.gateway.parts import Parts
from edif_backend.objects.links import Links
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation, PublicAddressSettings

RESULT = f"results/{'a' * 32}-1"


def asker(host: str) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": [(b"host", host.encode())]})


def parts(folder: Path, **settings: Any) -> Parts:
    """Those that make links; the others are not asked."""
    given: dict[str, Any] = {field.name: None for field in dataclasses.fields(Parts)}
    given["installation"] = Installation(home=folder)
    given["settings"] = BackendSettings(**settings)
    given["links"] = Links("secret", 60.0, lambda: 1_000.0)
    given["address"] = PublicAddressSettings(traces_url="https://traces.example.org")
    return Parts(**given)


@pytest.mark.parametrize(
    ("host", "address"),
    [("traces.example.org", "https://traces.example.org"), ("evil.example", "http://127.0.0.1:8001")],
)
def test_a_link_leads_where_its_asker_came_from_if_that_is_an_address_of_ours(
    tmp_path: Path, host: str, address: str
) -> None:
    assert parts(tmp_path).result_url(RESULT, asker(host)).startswith(f"{address}/objects/{RESULT}?ends=1060&")


def test_each_of_several_gateways_links_to_itself_and_to_the_name_of_all(tmp_path: Path) -> None:
    second = parts(tmp_path, gateway_port=9001)
    assert second.result_url(RESULT, asker("127.0.0.1:9001")).startswith("http://127.0.0.1:9001/objects/")
    assert second.result_url(RESULT, asker("traces.example.org")).startswith("https://traces.example.org/objects/")
