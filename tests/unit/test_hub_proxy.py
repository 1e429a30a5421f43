"""What the mended proxy makes of an address."""

from __future__ import annotations

import pytest

from edif_hub.proxy import host_asked_for, of_browser, url_behind


@pytest.mark.parametrize(
    ("path", "query", "sent"),
    [
        ("/room/json:notebook:id", "", "http://h:1/room/json:notebook:id"),
        ("/a b?c", "next=http%3A%2F%2Fx", "http://h:1/a%20b%3Fc?next=http%3A%2F%2Fx"),
    ],
)
def test_colons_of_the_path_alone_are_kept(path: str, query: str, sent: str) -> None:
    assert url_behind("http://h:1", path, query) == sent
    assert url_behind("http://h:1/", path, query) == sent


@pytest.mark.parametrize(
    ("asked", "routed"),
    [
        ("ada.edif.example.org", "ada.edif.example.org"),
        ("ada.edif.example.org.", "ada.edif.example.org"),
        ("edif.example.org", "edif.example.org"),
        ("127.0.0.1", "edif.example.org"),
        ("evil-edif.example.org", "edif.example.org"),
    ],
)
def test_names_below_the_workbenchs_own_are_users_and_all_others_mean_itself(asked: str, routed: str) -> None:
    assert host_asked_for("edif.example.org", asked) == routed
    assert host_asked_for("", asked) == ""


def test_what_a_web_server_in_front_says_of_the_browser_is_sent_on() -> None:
    said = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "Host": "edif.example.org"}
    assert of_browser(said, "127.0.0.1") == {
        "X-Forwarded-For": "192.0.2.1, 127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "edif.example.org",
    }
    assert of_browser({}, "127.0.0.1")["X-Forwarded-Proto"] == "http"
