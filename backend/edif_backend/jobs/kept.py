"""What users keep on the server between jobs (``edif.keep``): one row a value; its bytes are an object.

Part of the jobs table (:attr:`~edif_backend.jobs.reading.Reading.kept`); a value is entered by ``Jobs.keep``, which
knows whether its job still runs.  A row that is gone leaves its object to the next sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from edif_backend.clock import Clock
from edif_backend.jobs import schema
from edif_backend.jobs.database import Database

_k = schema.kept.c


@dataclass(frozen=True, slots=True)
class KeptValue:
    """One kept value."""

    id: str
    user: str
    name: str  #: unique among its user's
    bytes: int
    sha256: str  #: of the object, in hex
    job: str  #: that kept it
    model: str
    kept_at: float
    used_at: float  #: by a later job, or when it was kept

    @property
    def object(self) -> str:
        """Name of its object."""
        return f"kept/{self.id}"


class KeptValues:
    """The rows, for whoever lists, uses or removes them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def of(self, user: str) -> list[KeptValue]:
        """All values of ``user``, by name."""
        query = select(schema.kept).where(_k.user == user).order_by(_k.name)
        return [KeptValue(*row) for row in self._database.read(query)]

    def all(self) -> list[KeptValue]:
        """The values of all users."""
        return [KeptValue(*row) for row in self._database.read(select(schema.kept))]

    def bytes_of_users(self) -> dict[str, int]:
        """How much each user keeps."""
        query = select(_k.user, func.sum(_k.bytes)).group_by(_k.user)
        return {user: int(count) for user, count in self._database.read(query)}

    def one(self, id: str) -> KeptValue | None:
        """The value with this id, or None."""
        rows = self._database.read(select(schema.kept).where(_k.id == id))
        return KeptValue(*rows[0]) if rows else None

    def use(self, user: str, name: str) -> KeptValue | None:
        """The value that ``user`` keeps as ``name``, noted as used now; None when there is none."""
        noted = update(schema.kept).where(_k.user == user, _k.name == name).values(used_at=self._clock())
        row = self._database.change(lambda change: change.run(noted.returning(*schema.kept.c)).first())
        return KeptValue(*row) if row else None

    def remove(self, user: str, name: str) -> bool:
        """Keep ``name`` of ``user`` no longer; False when it was not kept."""
        gone = delete(schema.kept).where(_k.user == user, _k.name == name)
        return bool(self._database.change(lambda change: change.run(gone).rowcount))

    def expire(self, used_before: float) -> int:
        """Keep no longer what was not used since; gives how many that were."""
        gone = delete(schema.kept).where(_k.used_at < used_before)
        return int(self._database.change(lambda change: change.run(gone).rowcount))
