"""Objects: payloads and results, and the signed links that fetch them."""

from __future__ import annotations

from pathlib import Path

from edif_backend.objects.folder import FolderObjects
from edif_backend.objects.store import Objects
from edif_backend.settings import BackendSettings

__all__ = ["Objects", "open_objects"]


def open_objects(folder: Path, settings: BackendSettings) -> Objects:
    """The object store that the settings name; without an endpoint that is ``folder``.

    Raises:
        NotServing: the S3 service does not answer or refuses the keys.
    """
    if not settings.objects_endpoint:
        return FolderObjects(folder)
    from edif_backend.objects.s3 import S3Objects  # noqa: PLC0415 - the SDK is loaded by installations that use it

    return S3Objects(
        settings.objects_endpoint,
        settings.objects_bucket,
        settings.objects_access_key.get_secret_value(),
        settings.objects_secret_key.get_secret_value(),
    )
