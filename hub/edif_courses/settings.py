"""Settings of the courses: the table ``[courses]`` of ``edif.toml`` and ``EDIF_COURSES_…`` variables.

Built at the composition root of each process: the course service, the hub, the command line.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from edif_protocol.installation import TomlSettings

MIB = 1024 * 1024


class CourseSettings(TomlSettings):
    """Where courses lie, how large things may be, and how much of the fabric an instructor may give."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_COURSES_", toml_table_header=("courses",), frozen=True, extra="forbid"
    )

    folder: Path | None = Field(
        default=None, description="workspaces of all courses; empty: courses/ of the installation"
    )
    unix_groups: bool = Field(
        default=False,
        description="user servers have Unix accounts of their own, and each course the Unix groups course-ID and"
        " course-ID-staff: folders are then closed by mode; without, everything belongs to the one account",
    )
    creator_groups: frozenset[str] = Field(
        default=frozenset(), description="groups of the hub whose members may make courses; admins always may"
    )
    file_bytes: int = Field(default=50 * MIB, gt=0, description="largest file of a release, submission or feedback")
    submission_bytes: int = Field(default=200 * MIB, gt=0, description="largest submission, all its files together")
    submission_files: int = Field(default=200, gt=0, description="files that one submission may have")
    submissions_kept: int = Field(
        default=200, gt=0, description="times that one student may submit one assignment; nothing is overwritten"
    )
    highest_weight: float = Field(
        default=4.0, gt=0, description="largest weight that an instructor may give members, or reserve for a lab hour"
    )
    longest_lab_h: float = Field(default=4.0, gt=0, description="longest lab hour that an instructor may reserve")
    lab_hours_ahead: int = Field(default=20, gt=0, description="lab hours of one course that may be planned at once")
    highest_queued_jobs: int = Field(
        default=1000, gt=0, description="largest number of waiting jobs that an instructor may give each member"
    )
    highest_running_jobs: int = Field(
        default=4, gt=0, description="largest number of running jobs that an instructor may give each member"
    )
    highest_device_seconds_per_day: float = Field(
        default=36000.0, gt=0, description="largest daily device time that an instructor may give each member"
    )
    grants: dict[str, str] = Field(
        default_factory=dict,
        description="groups of the hub that an instructor may give to the course, and what is said of each, such as"
        ' {large-models = "Llama 70B"}; models.toml opens models to them. Nobody else can be in such a group',
    )
    help_longest_s: int = Field(
        default=2 * 3600, gt=0, description="longest time for which a student can let an instructor into the server"
    )
