"""What the hub does for courses: groups and roles as the register says, links in homes, rooms.

Called by ``jupyterhub_config.py``, by the spawner's hooks and by the course service's ring; runs in the hub's process.
The hub alone sets groups and roles, so the token of the course service needs no such right.  Role definitions are made
while the hub runs, by the function that it loads its own with; nothing has to be restarted for a new course.
"""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.roles import create_role, delete_role, grant_role, strip_role
from jupyterhub.spawner import Spawner
from sqlalchemy.orm import Session
from tornado import web

from edif_courses.desk import Desk
from edif_courses.errors import CourseError
from edif_courses.help_leave import Leave
from edif_courses.records import ROOM_PREFIX, Course, Person, Role
from edif_protocol.installation import Installation
from edif_protocol.wire import COURSES_APPLY_PATH, COURSES_CLIENT, COURSES_PATH, TRACE_SCOPE

#: The service's name among the hub's, and the group of all rooms' accounts.
SERVICE = "edif-courses"
ROOMS = "edif-rooms"
#: How the names of roles begin that let an instructor into one student's server for a while.
_HELP = "edif-help-"
#: Arguments of servers that are set here: shared editing (off but in rooms, see ``user_server/``), read-only material.
_OURS = ("--YDocExtension.disable_rtc", "--ServerApp.contents_manager_class", "--MaterialContents.read_only")
_CONTENTS = "edif_courses.material_contents.MaterialContents"


def service(installation: Installation) -> dict[str, Any]:
    """The course service among ``c.JupyterHub.services``; without a url, for the hub would wait for it."""
    return {
        "name": SERVICE,
        "api_token": installation.secret("courses-token"),
        "oauth_client_id": COURSES_CLIENT,
        "oauth_redirect_uri": f"{COURSES_PATH}oauth_callback",
        "oauth_client_allowed_scopes": [TRACE_SCOPE],
        "oauth_no_confirm": True,
    }


def service_role() -> dict[str, Any]:
    """Its role among ``c.JupyterHub.load_roles``: the servers of rooms, and nothing else."""
    scopes = [f"servers!group={ROOMS}", f"read:users!group={ROOMS}"]
    return {"name": SERVICE, "scopes": scopes, "services": [SERVICE]}


def handler(desk: Desk) -> tuple[str, type[APIHandler], dict[str, Any]]:
    """The address below, among ``c.JupyterHub.extra_handlers``; traitlets copies what it is given, but functions."""
    return COURSES_APPLY_PATH.removeprefix("/hub"), CoursesChanged, {"desk": lambda: desk}


class CoursesChanged(APIHandler):
    """``POST /hub/api/edif-courses``: the course service has changed the register."""

    def initialize(self, desk: Callable[[], Desk]) -> None:
        """Tornado's way to hand over what ``jupyterhub_config.py`` knows."""
        self._desk = desk()

    def post(self) -> None:
        """Follow the register."""
        caller = self.current_user
        if not isinstance(caller, orm.Service) or caller.name != SERVICE:
            raise web.HTTPError(403, "Only the course service may say that.")
        follow(self.db, self._desk, self.user_from_username)
        self.set_status(204)


def follow(db: Session, desk: Desk, account: Callable[[str], Any]) -> None:
    """Bring groups, roles and the accounts of rooms to what the register says.

    Args:
        account: the hub's user of a name, made if there is none.
    """
    rooms = _group(db, ROOMS)
    for course in desk.enrolment.all():
        groups = {role: _group(db, course.group(role)) for role in Role}
        listed = {member.account: member.role for member in desk.enrolment.members(course.id)}
        gone = desk.enrolment.gone(course.id)
        for role, group in groups.items():
            wanted = {name for name, found in listed.items() if found is role}
            _set_members(db, group, wanted, gone | (set(listed) - wanted))
        account(course.room)
        _set_members(db, rooms, {course.room}, set())
        _open_room(db, course, groups, is_open=course.runs(desk.enrolment.now()))
    for granted, accounts in desk.share.granted().items():
        group = _group(db, granted)
        _set_members(db, group, accounts, {user.name for user in group.users} - accounts)
    _let_in(db, desk.help_leave.given())
    db.commit()


def _let_in(db: Session, given: list[Leave]) -> None:
    """A role of its own for each leave to help; it goes when the leave ends, and with it the right."""
    wanted = {f"{_HELP}{leave.id}": leave for leave in given}
    for role in db.query(orm.Role).filter(orm.Role.name.startswith(_HELP)).all():
        if role.name not in wanted:
            delete_role(db, role.name)
    for name, leave in wanted.items():
        instructor = orm.User.find(db, leave.instructor)
        if instructor is None or orm.Role.find(db, name) is not None:
            continue
        scopes = [f"access:servers!user={leave.student}"]
        role = create_role(db, {"name": name, "description": f"Help in {leave.course}", "scopes": scopes})
        grant_role(db, instructor, role)


def _group(db: Session, name: str) -> orm.Group:
    found = orm.Group.find(db, name)
    if found is None:
        found = orm.Group(name=name)
        db.add(found)
        db.commit()
    return found


def _set_members(db: Session, group: orm.Group, wanted: set[str], unwanted: set[str]) -> None:
    """Those whom the register does not know are in the group by the university's word, and stay."""
    present = {user.name for user in group.users}
    for name in sorted(present & unwanted):
        group.users.remove(orm.User.find(db, name))
    for name in sorted(wanted - present):
        user = orm.User.find(db, name)
        if user is not None:  # who has never logged in is put there at the first start of a server
            group.users.append(user)


def _open_room(db: Session, course: Course, groups: dict[Role, orm.Group], *, is_open: bool) -> None:
    """Members may enter and start the room, instructors stop it as well, while the course runs."""
    of_room = f"!user={course.room}"
    enter = [f"access:servers{of_room}", f"start:servers{of_room}"]
    scopes = {Role.STUDENT: enter, Role.INSTRUCTOR: [*enter, f"servers{of_room}", f"read:users:name{of_room}"]}
    for role, group in groups.items():
        name = f"{course.room}-{role}"
        found = create_role(db, {"name": name, "description": f"Room of {course.id}", "scopes": scopes[role]})
        if is_open and found not in group.roles:
            grant_role(db, group, found)
        elif not is_open and found in group.roles:
            strip_role(db, group, found)


def with_courses(start: Callable[[Spawner], Any], desk: Desk) -> Callable[[Spawner], Awaitable[None]]:
    """The hook ``start``, and after it what courses need; an unreadable register keeps no server from starting."""

    async def prepare(spawner: Spawner) -> None:
        done = start(spawner)
        if inspect.isawaitable(done):
            await done
        try:
            problems = _prepare(spawner, desk)
        except (CourseError, sqlite3.Error, OSError) as error:
            problems = [str(error)]
        for problem in problems:
            spawner.log.warning("courses of %s: %s", spawner.user.name, problem)

    return prepare


def _prepare(spawner: Spawner, desk: Desk) -> list[str]:
    """Links in the home, groups at the first start, shared editing in rooms, read-only material for students."""
    name = spawner.user.name
    spawner.args = [argument for argument in spawner.args if not argument.startswith(_OURS)]
    if name.startswith(ROOM_PREFIX):
        courses = [(desk.enrolment.course(name.removeprefix(ROOM_PREFIX)), Role.INSTRUCTOR)]
        spawner.args = [*spawner.args, f"{_OURS[0]}=False"]
    else:
        groups = frozenset(group.name for group in spawner.user.orm_user.groups)
        courses = desk.enrolment.courses_of(Person(name, groups))
        _join_groups(spawner, courses)
        material = [desk.workspace.of(course.id) / "material" for course, role in courses if role is Role.STUDENT]
        if material:
            folders = [f"{_OURS[2]}={folder.resolve()}" for folder in material]
            spawner.args = [*spawner.args, f"{_OURS[1]}={_CONTENTS}", *folders]
    home = getattr(spawner, "home_dir", None)  # spawners for containers have none here: they mount the workspaces
    return desk.workspace.link(Path(home), name, courses) if home else []


def _join_groups(spawner: Spawner, courses: list[tuple[Course, Role]]) -> None:
    for course, role in courses:
        group = _group(spawner.db, course.group(role))
        if spawner.user.orm_user not in group.users:
            group.users.append(spawner.user.orm_user)
    spawner.db.commit()
