"""The tables as SQLAlchemy knows them; ``versions/*.sql`` makes them.  Only this package reads or writes them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Dialect, Double, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator


class Line(TypeDecorator[str]):
    """Text that every database holds: PostgreSQL refuses the character NUL, and all refuse half a surrogate pair."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """What is stored, or compared with what is stored."""
        if value is None:
            return None
        return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


class Json(TypeDecorator[Any]):
    """JSON as text, the same in every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """The value as JSON."""
        return json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The value again."""
        return json.loads(value)


_tables = MetaData()

jobs = Table(
    "jobs",
    _tables,
    Column("number", BigInteger, primary_key=True),
    Column("id", Line),
    Column("user", Line),
    Column("session_id", Line),
    Column("model", Line),
    Column("model_key", Line),
    Column("compress", Boolean),
    Column("env", Json),
    Column("payload_bytes", BigInteger),
    Column("state", Line),
    Column("description", Line),
    Column("attempt", Integer),
    Column("excused", Integer),
    Column("leased_by", Line),
    Column("lease_until", Double),
    Column("created_at", Double),
    Column("changed_at", Double),
    Column("result", Line),
    Column("result_bytes", BigInteger),
    Column("meta", Json),
    Column("time_limit_s", Double),
)

events = Table(
    "events",
    _tables,
    Column("id", BigInteger, primary_key=True),
    Column("job", Line),
    Column("session_id", Line),
    Column("kind", Line),
    Column("description", Line),
    Column("at", Double),
)

deployments = Table(
    "deployments",
    _tables,
    Column("model", Line, primary_key=True),
    Column("state", Line),
    Column("description", Line),
    Column("replicas", Integer),
    Column("seen_at", Double),
    Column("wait_s", Double),
)

dispatchers = Table("dispatchers", _tables, Column("name", Line, primary_key=True), Column("seen_at", Double))

users = Table(
    "users", _tables, Column("name", Line, primary_key=True), Column("member_of", Json), Column("seen_at", Double)
)

charges = Table(
    "charges",
    _tables,
    Column("user", Line, primary_key=True),
    Column("day", Line, primary_key=True),
    Column("device_s", Double),
    Column("jobs", Integer),
)

limits = Table(
    "limits", _tables, Column("subject", Line, primary_key=True), Column("said", Json), Column("changed_at", Double)
)

reservations = Table(
    "reservations",
    _tables,
    Column("id", Line, primary_key=True),
    Column("member_of", Line),
    Column("weight", Double),
    Column("starts_at", Double),
    Column("ends_at", Double),
)

kept = Table(
    "kept",
    _tables,
    Column("id", Line, primary_key=True),
    Column("user", Line),
    Column("name", Line),
    Column("bytes", BigInteger),
    Column("sha256", Line),
    Column("job", Line),
    Column("model", Line),
    Column("kept_at", Double),
    Column("used_at", Double),
)

#: One row for each file of ``versions`` that this database has seen.
migrations = Table(
    "migrations",
    _tables,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Line),
    Column("at", Double),
)
