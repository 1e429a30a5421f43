"""A roster as a CSV file, read line by line: what each line says, or what is wrong with it.

Pure; called by :mod:`edif_courses.course_pages` and the ``edif course`` command.  Spreadsheets save what they like, so
a byte-order mark, semicolons, tabs and Windows letters are understood.  One wrong line and nothing is taken over.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edif_courses.errors import TooLarge, Unusable
from edif_courses.records import ROOM_PREFIX, Role

if TYPE_CHECKING:
    from _csv import Reader as _Reader  # what csv.reader gives

FILE_BYTES = 1024 * 1024
LINES = 5000
_NAME_CHARACTERS = 100
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_COLUMNS = {
    "account": ("account", "user", "username", "user name", "login", "benutzername", "anmeldename", "kennung"),
    "name": ("name", "full name", "display name", "vollständiger name"),
    "first": ("first name", "first_name", "firstname", "given name", "vorname"),
    "last": ("last name", "last_name", "lastname", "surname", "family name", "nachname"),
    "role": ("role", "roles", "rolle"),
}
_ROLES = {
    "": Role.STUDENT,
    "student": Role.STUDENT,
    "learner": Role.STUDENT,
    "teilnehmer/in": Role.STUDENT,
    "instructor": Role.INSTRUCTOR,
    "teacher": Role.INSTRUCTOR,
    "tutor": Role.INSTRUCTOR,
    "trainer/in": Role.INSTRUCTOR,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One person of a roster."""

    account: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class RosterFile:
    """What a file says: its people, and a sentence for each line that cannot be used."""

    entries: list[Entry]
    problems: list[str] = field(default_factory=list)


def read_roster(content: bytes) -> RosterFile:
    """The people of a CSV file whose first line names its columns.

    Raises:
        TooLarge: more than :data:`FILE_BYTES` or :data:`LINES`.
        Unusable: not a CSV file with a column for the account.
    """
    if len(content) > FILE_BYTES:
        raise TooLarge(f"The roster has {len(content):,} bytes; a roster may have {FILE_BYTES:,}.")
    text = _text(content)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = _columns(next(lines, []))
        return _entries(lines, columns)
    except csv.Error as error:
        raise Unusable(f"Line {lines.line_num} of the roster is not CSV ({error}): save it again as CSV.") from error


def checked_account(text: str) -> str:
    """The name of an account in the hub's small letters.

    Raises:
        Unusable: it cannot be one.
    """
    account = text.strip().lower()
    if not _ACCOUNT.fullmatch(account) or account.startswith(ROOM_PREFIX):
        raise Unusable(f"{text.strip()[:64]!r} is not the name of an account here.")
    return account


def checked_line(text: str, characters: int, what: str) -> str:
    """One line of text for people, without what moves or hides other text.

    Raises:
        Unusable: too long, or not printable.
    """
    line = " ".join(text.split())
    if len(line) > characters:
        raise Unusable(f"{what} is {len(line)} characters long; {characters} are possible.")
    if not line.isprintable():
        raise Unusable(f"{what} holds characters that cannot be shown.")
    return line


def _text(content: bytes) -> str:
    if b"\0" in content[:4096] and content[:2] not in {b"\xff\xfe", b"\xfe\xff"}:
        raise Unusable("That is not a text file: save the roster as CSV and send that.")
    for encoding in ("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Unusable("The letters of the roster are not readable: save it as CSV in UTF-8.")


def _columns(header: list[str]) -> dict[str, int]:
    named = [cell.strip().lower() for cell in header]
    found = {column: named.index(name) for column, names in _COLUMNS.items() for name in names if name in named}
    if "account" not in found:
        shown = ", ".join(repr(cell[:40]) for cell in header[:8]) or "nothing"
        raise Unusable(f"The first line must name the columns: account, and if you like name and role. It has {shown}.")
    return found


def _entries(lines: _Reader, columns: dict[str, int]) -> RosterFile:
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for cells in lines:
        number = lines.line_num
        if number > LINES:
            raise TooLarge(f"The roster has more than {LINES:,} lines.")
        if not any(cell.strip() for cell in cells):
            continue
        try:
            entry = _entry({column: cells[at] if at < len(cells) else "" for column, at in columns.items()})
        except Unusable as error:
            problems.append(f"Line {number}: {error}")
            continue
        if entry.account in entries:
            problems.append(f"Line {number}: {entry.account} is in the file twice.")
        entries[entry.account] = entry
    if not entries and not problems:
        raise Unusable("There is nobody in the roster below its first line.")
    return RosterFile(list(entries.values()), problems)


def _entry(cells: dict[str, str]) -> Entry:
    account = checked_account(cells["account"])
    name = cells.get("name") or f"{cells.get('first', '')} {cells.get('last', '')}"
    said = cells.get("role", "").strip().lower()
    if said not in _ROLES:
        raise Unusable(f"the role {said[:40]!r} is none: write student or instructor.")
    return Entry(account, checked_line(name, _NAME_CHARACTERS, "the name"), _ROLES[said])
