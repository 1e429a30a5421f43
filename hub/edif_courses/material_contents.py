"""A notebook server's files, with the material of courses read-only for students.

Loaded by a student's server, in its process, on the hub's word (:mod:`edif_hub.course_hooks`).  JupyterLab saves a
notebook by itself while it is worked in: without this, the first student to run a cell would change everybody's copy
wherever all servers run as one account.  It keeps honest people from accidents; code in a kernel goes past it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError
from traitlets import List, Unicode

_SENTENCE = "This is material of a course and read-only for you: copy it into another folder of yours and work there."


class MaterialContents(AsyncLargeFileManager):
    """Refuses to change what lies in :attr:`read_only`, by whatever path it is reached."""

    read_only = List(Unicode(), help="folders that are not changed from here").tag(config=True)

    async def get(self, path: str, *arguments: Any, **options: Any) -> Any:
        """The model of a file or folder; JupyterLab opens what is not writable as read-only."""
        model = await super().get(path, *arguments, **options)
        if self.is_material(path):
            model["writable"] = False
        return model

    async def save(self, model: Any, path: str = "") -> Any:
        """Save, upload or make a file, elsewhere."""
        self._refuse(path)
        return await super().save(model, path)

    async def delete_file(self, path: str) -> Any:
        """Delete, elsewhere."""
        self._refuse(path)
        return await super().delete_file(path)

    async def rename_file(self, old_path: str, new_path: str) -> Any:
        """Move, neither from there nor to there."""
        self._refuse(old_path)
        self._refuse(new_path)
        return await super().rename_file(old_path, new_path)

    def is_material(self, path: str) -> bool:
        """Whether an API path leads into one of the folders."""
        found = Path(self._get_os_path(path.strip("/"))).resolve()
        return any(found == folder or folder in found.parents for folder in map(Path, self.read_only))

    def _refuse(self, path: str) -> None:
        if self.is_material(path):
            raise HTTPError(403, _SENTENCE, reason=_SENTENCE)
