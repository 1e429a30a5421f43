"""The folders of a course, their rights, and the links to them in the homes of its people.

Called by the course service (makes folders) and by the hub when a server starts (links).  In :data:`FOLDERS` stands who
may do what.  Where user servers have Unix accounts of their own (``unix_groups``) the folders are closed by access
lists.  Where all servers run as the one account of the installation, modes keep nobody of the hub's users out: there
the notebook server alone refuses to change material (:mod:`edif_courses.material_contents`), and pages and commands
keep to the roster, but code in a kernel can read and write all of it.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from edif_courses.access_lists import ALL, READ, give
from edif_courses.errors import CourseError, Unusable
from edif_courses.records import ROOM_PREFIX, Course, Role
from edif_courses.roster_file import checked_account

#: Folder → rights of (members, instructors); 0: none.  Those of single students are below work, submissions, feedback.
FOLDERS = {
    "material": (READ, ALL),
    "shared": (ALL, ALL),
    "grading": (0, ALL),
    "releases": (READ, READ),
}
#: Folder of each student → the student's own right.
PERSONAL = {"work": ALL, "submissions": READ, "feedback": READ}
#: Where links to workspaces are in a home.
LINKS = "courses"


class Workspace:
    """The workspaces of all courses.

    Args:
        folder: where they lie, one folder a course.
        unix_groups: whether accounts and the groups ``course-ID`` and ``course-ID-staff`` are the system's.
    """

    def __init__(self, folder: Path, *, unix_groups: bool) -> None:
        self.folder = folder
        self._unix_groups = unix_groups

    def of(self, course: str) -> Path:
        """The folder of a course."""
        return self.folder / course

    def prepare(self, course: str) -> None:
        """Make the folders of a course, with their rights; harmless when they are there.

        Raises:
            CourseError: rights cannot be set, or a Unix group is missing.
        """
        root = self.of(course)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755 if self._unix_groups else 0o700)
        root.mkdir(exist_ok=True, mode=0o700)
        for name in (*FOLDERS, *PERSONAL):
            (root / name).mkdir(exist_ok=True, mode=0o700)
        if not self._unix_groups:
            return
        members, staff = _group(f"course-{course}"), _group(f"course-{course}-staff")
        give(root, groups={members: READ, staff: READ})
        for name, (of_members, of_staff) in FOLDERS.items():
            give(root / name, groups={members: of_members, staff: of_staff})
            (root / name).chmod(0o2770)  # what is made in it belongs to one group; the list says who may what
        for name in PERSONAL:
            give(root / name, groups={members: 0o1, staff: READ})

    def personal(self, course: str, account: str) -> None:
        """Make the folders of one student."""
        self.prepare(course)
        for name, right in PERSONAL.items():
            mine = self.of(course) / name / checked_account(account)
            mine.mkdir(exist_ok=True, mode=0o700)
            if self._unix_groups:
                staff = _group(f"course-{course}-staff")
                give(mine, users={_user(account): right, os.geteuid(): ALL}, groups={staff: READ})

    def link(self, home: Path, account: str, courses: Iterable[tuple[Course, Role]]) -> list[str]:
        """Have ``home/courses/ID/…`` lead to the workspaces; gives what could not be linked, in sentences.

        Links of courses that somebody is in no more go; what else lies there stays.
        """
        problems: list[str] = []
        wanted: dict[str, dict[str, Path]] = {}
        for course, role in courses:
            try:
                wanted[course.id] = self._targets(course, role, account)
            except CourseError as error:
                problems.append(str(error))
        at = home / LINKS
        for gone in at.iterdir() if at.is_dir() and not at.is_symlink() else ():
            if gone.name not in wanted and gone.is_dir() and not gone.is_symlink():
                self._unlink(gone)
        for id, targets in wanted.items():
            problems.extend(self._point(at / id, targets))
        return problems

    def _targets(self, course: Course, role: Role, account: str) -> dict[str, Path]:
        root, room = self.of(course.id), account.startswith(ROOM_PREFIX)
        self.prepare(course.id)
        found = {name: root / name for name in ("material", "shared")}
        if role is Role.INSTRUCTOR and not room:
            found["grading"] = root / "grading"
        elif not room:
            self.personal(course.id, account)
            found |= {name: root / name / account for name in PERSONAL}
        return found

    def _point(self, at: Path, targets: dict[str, Path]) -> list[str]:
        try:
            at.mkdir(parents=True, exist_ok=True)
            for name in {found.name for found in at.iterdir() if found.is_symlink()} - set(targets):
                self._drop(at / name)
            for name, target in targets.items():
                link = at / name
                if link.is_symlink() and link.readlink() != target:
                    link.unlink()
                if not link.is_symlink():
                    link.symlink_to(target)
        except OSError as error:
            return [f"{LINKS}/{at.name} in the home could not be linked ({error.strerror}): something is in its place."]
        return []

    def _unlink(self, folder: Path) -> None:
        for found in folder.iterdir():
            self._drop(found)
        if not any(folder.iterdir()):
            folder.rmdir()

    def _drop(self, link: Path) -> None:
        """Take away a link of ours; a link of the user's own leads elsewhere and stays."""
        if link.is_symlink() and self.folder in link.readlink().parents:
            link.unlink()


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Unusable(
            f"The Unix group {name} does not exist: `groupadd {name}`, then put the course's accounts into it."
        ) from None


def _user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise Unusable(f"The Unix account {name} does not exist on this machine.") from None
