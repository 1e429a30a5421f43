"""What the routes of the gateway share; made once in :mod:`~edif_backend.gateway.app`, found by :func:`parts_of`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from edif_backend.errors import JobUnknown, KeyRefused, NotServing
from edif_backend.gateway.asking import Asking
from edif_backend.gateway.identity import Identity, User
from edif_backend.gateway.sessions import Sessions
from edif_backend.gateway.signing_in import SigningIn
from edif_backend.jobs import Job, Jobs, Policy
from edif_backend.models.live import LiveCatalogue
from edif_backend.objects import Objects
from edif_backend.objects.links import Links
from edif_backend.settings import BackendSettings, Limits
from edif_protocol.installation import Installation, PublicAddressSettings
from edif_protocol.wire import KEY_HEADER, Response, State

#: A dispatcher that was silent this long counts as gone.
_DISPATCHER_SILENT_S = 15.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one gateway process."""

    installation: Installation
    settings: BackendSettings
    catalogue: LiveCatalogue
    ask: Asking  #: the jobs table
    policy: Policy
    objects: Objects
    links: Links
    identity: Identity
    sessions: Sessions
    signing_in: SigningIn
    address: PublicAddressSettings

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

    async def limits(self, user: User) -> Limits:
        """What ``user`` may use."""
        return await self.ask.through(self.policy.limits, user.name, user.groups)

    async def job(self, id: str, user: User) -> Job:
        """The job ``id`` of ``user``.

        Raises:
            JobUnknown: there is none, or it is somebody else's.
        """
        job = await self.ask(Jobs.job, id)
        if job is None or job.user != user.name:
            raise _unknown(id)
        return job

    async def cancel(self, id: str, user: User, why: str) -> Job:
        """End the job ``id`` of ``user``, unless it has ended; gives the job as it stands then.

        Raises:
            JobUnknown: there is none, or it is somebody else's.
        """
        job = await self.ask(Jobs.cancel, id, why, user.name)
        if job is None:
            raise _unknown(id)
        return job

    def result_url(self, name: str, asker: HTTPConnection) -> str:
        """A signed link to a result, at the address by which ``asker`` has come."""
        here = self.installation.url("gateway")
        found = self.address.clients_reach(self.installation, asker.headers.get("host", ""))
        if found == here and self.settings.gateway_port:  # one of several
            found = f"http://{self.installation.host}:{self.settings.gateway_port}"
        return f"{found}/objects/{self.links.sign(name)}"

    async def response(self, job: Job, asker: HTTPConnection) -> Response:
        """The job as it stands, with a link when it has a result."""
        url = self.result_url(job.result, asker) if job.state is State.COMPLETED and job.result else None
        said = job.description if job.state.final else await self.nobody_works() or job.description
        return Response(id=job.id, status=job.state.status, description=said, data=url, meta=job.meta or None)

    async def nobody_works(self) -> str:
        """That jobs are not being worked on at present, for those who wait; nothing while they are."""
        seen_at = await self.ask(Jobs.dispatcher_seen_at)
        if seen_at is not None and self.ask.now() - seen_at <= _DISPATCHER_SILENT_S:
            return ""
        return "The dispatcher gives no sign of life; jobs are kept and run when it is back."


def _unknown(id: str) -> JobUnknown:
    return JobUnknown(f"There is no job {id[:64]!r} of yours; `edif.jobs()` lists those there are.")


def parts_of(connection: HTTPConnection) -> Parts:
    """The parts of the gateway that serves this connection."""
    return cast(Parts, connection.app.state.parts)
