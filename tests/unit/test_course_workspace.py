"""Workspaces: links in homes, rights of real accounts from the first file on, read-only material in the server."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tornado.web import HTTPError

from edif_courses.errors import Unusable
from edif_courses.material_contents import MaterialContents
from edif_courses.records import Course, Role
from edif_courses.workspace import Workspace

COURSE = Course("ling", "Linguistics", 0, 10, "admin", 0, None)
#: Accounts and groups by number alone: the kernel asks for no more.
ADA, BOB, PROF, EVE, MEMBERS, STAFF = 61001, 61002, 61003, 61004, 62001, 62002


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "courses", unix_groups=False)


def test_homes_link_to_the_workspace_by_role(workspace: Workspace, tmp_path: Path) -> None:
    for account, role, names in (
        ("ada", Role.STUDENT, ["feedback", "material", "shared", "submissions", "work"]),
        ("prof", Role.INSTRUCTOR, ["grading", "material", "shared"]),
        ("room-ling", Role.INSTRUCTOR, ["material", "shared"]),
    ):
        home = tmp_path / account
        assert workspace.link(home, account, [(COURSE, role)]) == []
        links = home / "courses" / "ling"
        assert sorted(link.name for link in links.iterdir()) == names
        assert all(link.is_symlink() and link.resolve().is_dir() for link in links.iterdir())
    assert (tmp_path / "ada" / "courses" / "ling" / "work").resolve().name == "ada"


def test_links_go_with_the_course_and_what_is_the_users_stays(workspace: Workspace, tmp_path: Path) -> None:
    home = tmp_path / "ada"
    workspace.link(home, "ada", [(COURSE, Role.STUDENT)])
    (home / "courses" / "ling" / "own.txt").write_text("mine")
    (home / "courses" / "ling" / "elsewhere").symlink_to("/usr")
    assert workspace.link(home, "ada", []) == []
    assert sorted(path.name for path in (home / "courses" / "ling").iterdir()) == ["elsewhere", "own.txt"]


def test_what_stands_in_the_way_is_named_and_left(workspace: Workspace, tmp_path: Path) -> None:
    home = tmp_path / "ada"
    home.mkdir()
    (home / "courses").write_text("a file of the user's")
    assert "something is in its place" in workspace.link(home, "ada", [(COURSE, Role.STUDENT)])[0]
    assert (home / "courses").read_text() == "a file of the user's"


def _as(account: int, groups: list[int], act: Callable[[], object]) -> bool:
    """Whether ``act`` works for an account of the system with a umask of 0077."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(account)
            os.setuid(account)
            os.umask(0o077)
            act()
            os._exit(0)
        except OSError:
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other accounts")
def test_real_accounts_get_their_rights_from_the_first_file_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"course-ling": MEMBERS, "course-ling-staff": STAFF}
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=numbers[name]))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid={"ada": ADA, "bob": BOB}[name]))
    top = tmp_path
    while top != top.parent and top.stat().st_uid == 0 and not top.stat().st_mode & 0o001:
        top.chmod(top.stat().st_mode | 0o011)  # pytest's own folders are closed
        top = top.parent
    workspace = Workspace(tmp_path / "courses", unix_groups=True)
    for account in ("ada", "bob"):
        workspace.personal("ling", account)
    at = workspace.of("ling")

    def writes(name: str) -> Callable[[], object]:
        return lambda: (at / name).write_text("x")

    def reads(name: str) -> Callable[[], object]:
        return (at / name).read_text

    students, staff = [MEMBERS], [MEMBERS, STAFF]
    assert _as(PROF, staff, writes("material/slides"))
    assert _as(ADA, students, reads("material/slides"))
    assert not _as(ADA, students, writes("material/slides"))
    assert not _as(ADA, students, writes("material/other"))
    assert _as(ADA, students, writes("shared/note"))
    assert _as(BOB, students, writes("shared/note"))  # although ada's umask keeps everybody out
    assert _as(ADA, students, writes("work/ada/answer"))
    assert not _as(BOB, students, reads("work/ada/answer"))
    assert _as(PROF, staff, reads("work/ada/answer"))
    assert not _as(ADA, students, writes("submissions/ada/forged"))
    assert _as(PROF, staff, writes("grading/marks"))
    assert not _as(ADA, students, reads("grading/marks"))
    for name in ("material/slides", "shared/note", "work/ada/answer", "grading/marks"):
        assert not _as(EVE, [], reads(name)), name


def test_a_missing_unix_group_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="groupadd course-ling"):
        Workspace(tmp_path / "courses", unix_groups=True).prepare("ling")


async def test_material_is_read_only_by_every_path_to_it(tmp_path: Path) -> None:
    material, home = tmp_path / "material", tmp_path / "home"
    material.mkdir()
    home.mkdir()
    (material / "a.txt").write_text("theirs")
    for name in ("link", "other"):
        (home / name).symlink_to(material)
    contents = MaterialContents(root_dir=str(home), read_only=[str(material)])
    model = {"type": "file", "format": "text", "content": "mine"}
    for name in ("link", "other"):
        assert (await contents.get(f"{name}/a.txt"))["writable"] is False
        for refused in (
            contents.save(model, f"{name}/a.txt"),
            contents.save(model, f"{name}/new.txt"),
            contents.delete_file(f"{name}/a.txt"),
            contents.rename_file(f"{name}/a.txt", "a.txt"),
        ):
            with pytest.raises(HTTPError, match="read-only"):
                await refused
    await contents.save(model, "own.txt")
    with pytest.raises(HTTPError, match="read-only"):
        await contents.rename_file("own.txt", "link/own.txt")
    assert (material / "a.txt").read_text() == "theirs"
    assert [path.name for path in material.iterdir()] == ["a.txt"]
