"""Writes what ``torch.load`` reads, for plain values, without torch.

nnsight's client takes a result on the websocket as one ``torch.save`` file holding the fields of its ``ResponseModel``,
the result's own bytes being one of them.  Such a file is a zip archive with a pickle inside; the gateway only ever
writes one (pickling plain values runs nothing) and never reads one.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping


def dumps(record: Mapping[str, object]) -> bytes:
    """``record`` (plain values only) as the bytes of a ``torch.save`` file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(dict(record), protocol=4))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()
