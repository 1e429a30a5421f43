"""What the course service, the ``edif course`` command and the hub share: all parts over one register.

Made once by the composition root of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from edif_backend.clock import Clock, now
from edif_backend.jobs import Jobs, open_jobs
from edif_backend.settings import BackendSettings
from edif_courses.coursework import Coursework
from edif_courses.enrolment import Enrolment
from edif_courses.fabric_share import FabricShare
from edif_courses.help_leave import HelpLeave
from edif_courses.register import Register
from edif_courses.settings import CourseSettings
from edif_courses.trail import Trail
from edif_courses.workspace import Workspace
from edif_protocol.audit_log import AuditLog
from edif_protocol.installation import Installation


@dataclass(frozen=True, slots=True)
class Desk:
    """The courses of one installation."""

    settings: CourseSettings
    register: Register
    trail: Trail
    enrolment: Enrolment
    workspace: Workspace
    coursework: Coursework
    share: FabricShare
    help_leave: HelpLeave

    def close(self) -> None:
        """Close the register."""
        self.register.close()


def open_desk(
    installation: Installation, settings: CourseSettings, clock: Clock = now, *, typed_by: str | None = None
) -> Desk:
    """The courses of ``installation``; the register is made on first use.

    Args:
        typed_by: whoever types the ``edif course`` command, for the audit log; None for the pages.
    """
    register = Register(installation.courses_dir / "courses.sqlite")
    trail = Trail(AuditLog(installation.audit_dir), typed_by)
    enrolment = Enrolment(register, trail, clock, settings.creator_groups)
    workspace = Workspace(settings.folder or installation.courses_dir, unix_groups=settings.unix_groups)

    def fabric() -> Jobs:
        return open_jobs(
            installation.jobs_database, installation.run_dir / "bells", clock, url=BackendSettings().database_url
        )

    return Desk(
        settings=settings,
        register=register,
        trail=trail,
        enrolment=enrolment,
        workspace=workspace,
        coursework=Coursework(register, enrolment, workspace, trail, settings),
        share=FabricShare(register, enrolment, trail, settings, fabric),
        help_leave=HelpLeave(register, enrolment, trail, settings.help_longest_s),
    )
