"""Brings a jobs database to the version of this code: numbered SQL files, each run once, all or none.

Called whenever a database is opened, in whichever process opens it; several may do so at once.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from sqlalchemy import Connection, func, inspect, select

from edif_backend.clock import now
from edif_backend.errors import SetupFailed
from edif_backend.jobs import schema


@cache
def versions() -> dict[int, tuple[str, str]]:
    """Name and text of every version by its number, in order."""
    found = {}
    for file in files("edif_backend.jobs").joinpath("versions").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql"):
            found[int(number)] = (name, file.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def upgrade(connection: Connection, begin: str, serial: str) -> None:
    """Run what this database has not seen yet; ``begin`` opens a transaction that keeps every other opener waiting.

    Raises:
        SetupFailed: the database was written by a newer version of eDIF.
    """
    newest = max(versions())
    if _version(connection) == newest:
        return
    connection.exec_driver_sql(begin)
    try:
        seen = _version(connection)  # again: another process may have been first
        _refuse_newer(seen, newest)
        schema.migrations.create(connection, checkfirst=True)
        for number, (name, text) in versions().items():
            if number > seen:
                for statement in _statements(text.replace("SERIAL,", f"{serial},")):
                    connection.exec_driver_sql(statement)
                connection.execute(schema.migrations.insert().values(number=number, name=name, at=now()))
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
        raise


def _refuse_newer(seen: int, newest: int) -> None:
    if seen > newest:
        raise SetupFailed(
            f"The jobs database is of version {seen}, and this eDIF knows versions up to {newest}: it was used by a "
            "newer eDIF. Install that one again, or restore the database from before its upgrade."
        )


def _version(connection: Connection) -> int:
    tables = inspect(connection)
    if tables.has_table("migrations"):
        return int(connection.execute(select(func.coalesce(func.max(schema.migrations.c.number), 0))).scalar_one())
    # The first version kept no count, and there was SQLite alone.
    return 1 if connection.dialect.name == "sqlite" and tables.has_table("jobs") else 0


def _statements(text: str) -> list[str]:
    code = "\n".join(line.partition("--")[0].rstrip() for line in text.splitlines())
    return [statement.strip() for statement in code.split(";") if statement.strip()]
