"""What the routes of the gateway share; made once in :mod:`~edif_backend.gateway.app`, found by :func:`parts_of`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from edif_backend.errors import KeyRefused, NotServing
from edif_backend.gateway.identity import Identity, User
from edif_backend.gateway.sessions import Sessions
from edif_backend.jobs import Job, Jobs
from edif_backend.models.live import LiveCatalogue
from edif_backend.objects import Objects
from edif_backend.objects.links import Links
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation
from edif_protocol.wire import KEY_HEADER, Response, State


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one gateway process."""

    installation: Installation
    settings: BackendSettings
    catalogue: LiveCatalogue
    jobs: Jobs
    objects: Objects
    links: Links
    identity: Identity
    sessions: Sessions

    async def user(self, connection: HTTPConnection) -> User:
        """Who asks.

        Raises:
            KeyRefused: the connection carries no valid key.
            NotServing: the hub cannot be asked.
        """
        return await self.identity.user(connection.headers.get(KEY_HEADER))

    async def user_or_none(self, connection: HTTPConnection) -> User | None:
        """Who asks, or None for anybody."""
        try:
            return await self.user(connection)
        except (KeyRefused, NotServing):
            return None

    def result_url(self, name: str) -> str:
        """A signed link to a result."""
        return f"{self.installation.url('gateway')}/objects/{self.links.sign(name)}"

    def response(self, job: Job) -> Response:
        """The job as it stands, with a link when it has a result."""
        url = self.result_url(job.result) if job.state is State.COMPLETED and job.result else None
        return Response(
            id=job.id, status=job.state.status, description=job.description, data=url, meta=job.meta or None
        )


def parts_of(connection: HTTPConnection) -> Parts:
    """The parts of the gateway that serves this connection."""
    return cast(Parts, connection.app.state.parts)
