"""``python -m edif_courses``: the course service, started by the supervisor of ``edif up``."""

from __future__ import annotations

import uvicorn

from edif_backend import logs
from edif_courses.course_app import create_app
from edif_courses.settings import CourseSettings
from edif_protocol.installation import Installation


def main() -> None:
    """Serve until told to stop; requests in hand are finished."""
    logs.configure("courses")
    installation = Installation()
    uvicorn.run(
        create_app(installation, CourseSettings()),
        host=installation.host,
        port=installation.ports["courses"],
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=8,
        ws="none",
    )


if __name__ == "__main__":
    main()
