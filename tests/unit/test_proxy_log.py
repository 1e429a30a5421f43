"""What the proxy writes down of requests holds no code and no token."""

from __future__ import annotations

import logging

from edif_hub.proxy import without_queries


def test_addresses_end_at_their_question_mark() -> None:
    said = ("403", "GET /hub/oauth_callback?code=secret&state=s (127.0.0.1)", 12.5)
    record = logging.LogRecord("tornado.access", logging.WARNING, "", 0, "%s %s %.2fms", said, None)
    assert without_queries(record)
    assert record.getMessage() == "403 GET /hub/oauth_callback?… (127.0.0.1) 12.50ms"
