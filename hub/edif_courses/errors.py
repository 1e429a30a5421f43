"""Every refusal of the courses, with the sentence that says what to do.

::

    CourseError (FabricError)     code                  HTTP
    ├── Unusable                  unusable              400    what was sent cannot be used
    ├── NotAllowed                not-allowed           403    somebody else may do that
    ├── Nothing                   nothing-here          404    no such course, assignment, file
    ├── NotNow                    not-now               409    too early, too late, or there already
    ├── TooLarge                  too-large             413    more than the operator allows
    └── HubAway                   hub-away              503    the hub does not answer, or refuses
"""

from __future__ import annotations

from edif_backend.errors import FabricError


class CourseError(FabricError):
    """``str(error)`` is shown to people as it is."""

    code = "course-error"
    http_status = 400


class Unusable(CourseError):
    """A form, a file or a token is not what it should be."""

    code = "unusable"


class NotAllowed(CourseError):
    """The person is known and may not do this."""

    code = "not-allowed"
    http_status = 403


class Nothing(CourseError):
    """It does not exist, or the person may not know that it does."""

    code = "nothing-here"
    http_status = 404


class NotNow(CourseError):
    """It may be done at another time, or has been done already."""

    code = "not-now"
    http_status = 409


class TooLarge(CourseError):
    """Larger than the operator allows."""

    code = "too-large"
    http_status = 413


class HubAway(CourseError):
    """The hub could not be asked."""

    code = "hub-away"
    http_status = 503
