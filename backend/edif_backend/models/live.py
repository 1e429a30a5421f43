"""The catalogue as it is now: ``models.toml`` read again whenever it changes, so that nothing has to be restarted.

Used by gateway and dispatcher, each with one of its own.  A file that is not valid changes nothing: the models of the
last valid one go on being served, and :attr:`LiveCatalogue.problem` says what is wrong.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from edif_backend.errors import CatalogueInvalid
from edif_backend.models.catalogue import Catalogue, ModelEntry

log = structlog.get_logger(__name__)

_Stamp = tuple[int, int, int]


class LiveCatalogue(Catalogue):
    """A catalogue that follows its file.

    Raises:
        CatalogueInvalid: the file is not valid to begin with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        super().__init__(Catalogue.load(path).entries)
        self.problem = ""  #: why the file as it stands is not followed, or nothing

    def refresh(self) -> bool:
        """Look at the file (one ``stat``) and read it if it was touched; whether the models changed."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        before = self.entries
        try:
            super().__init__(Catalogue.load(self._path).entries)
        except CatalogueInvalid as error:
            self.problem = f"{error} The models of the last valid file are served."
            log.error("catalogue is not valid, the last valid one is kept", reason=str(error))
            return False
        self.problem = ""
        if self.entries == before:
            return False
        log.info("catalogue read again", models=[entry.id for entry in self.entries])
        return True

    def entry(self, repo_id: str) -> ModelEntry:
        """The model named ``repo_id``, as the file has it now."""
        self.refresh()
        return super().entry(repo_id)


def _stamp(path: Path) -> _Stamp | None:
    """What differs when a file was written or replaced; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
