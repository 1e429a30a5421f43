"""POSIX access lists of folders, so that the first file in them has the right mode, whatever the umask of its maker.

Called by :mod:`edif_courses.workspace` where user servers have Unix accounts of their own.  Written as the kernel's
extended attribute, so no program has to be installed and the owner of a folder needs no further right.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from edif_courses.errors import CourseError

READ, ALL = 0o5, 0o7  # read and enter; read, enter and write
_UNDEFINED = 0xFFFFFFFF
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def give(folder: Path, *, users: Mapping[int, int] | None = None, groups: Mapping[int, int] | None = None) -> None:
    """Let the owner, these users and groups (ids to rights) into ``folder`` and what will be made in it, nobody else.

    Raises:
        CourseError: the file system keeps no access lists.
    """
    named = {**(users or {})}, {**(groups or {})}
    packed = access_list(*named)
    for attribute in ("system.posix_acl_access", "system.posix_acl_default"):
        try:
            os.setxattr(folder, attribute, packed, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL}:
                raise
            raise CourseError(
                f"The rights of {folder.name} in the workspace could not be set ({error.strerror}): courses need a file"
                " system with POSIX access lists (ext4 and xfs have them), in a folder of this service's account."
            ) from error


def access_list(users: Mapping[int, int], groups: Mapping[int, int]) -> bytes:
    """The list in the kernel's format, version 2: sorted, with the mask that lets all of it count."""
    entries = [
        (_OWNER, ALL, _UNDEFINED),
        *((_USER, right, id) for id, right in sorted(users.items())),
        (_OWNING_GROUP, 0, _UNDEFINED),
        *((_GROUP, right, id) for id, right in sorted(groups.items())),
        (_MASK, ALL, _UNDEFINED),
        (_OTHER, 0, _UNDEFINED),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
