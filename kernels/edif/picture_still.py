"""The picture that stands beside an output, for readers of a notebook who have no front end of ours.

Called by results as they are shown (:mod:`edif.result`, :mod:`edif.side_by_side`, :mod:`edif.prediction`); runs in the
user's process.
"""

from __future__ import annotations

import base64
from typing import Any

from edif import picture, picture_svg, picture_together

#: What it may take, and pixels to a unit of it: fewer where it would take more.
PICTURE_BYTES = 500_000
PICTURE_SCALES = (1.5, 1.0)


def still(drawn: dict[str, Any]) -> dict[str, str]:
    """The picture of an output for readers without the front end (``image/png``, base 64).

    None where there is none of this kind, or it is too large, or this machine has no font: table and text are there.
    """
    try:
        together = drawn["kind"] == "together"
        document = picture_together.svg(drawn) if together else picture_svg.svg(picture.of(drawn))
        made = (picture_svg.png(document, scale) for scale in PICTURE_SCALES)
        small = next((one for one in made if len(one) <= PICTURE_BYTES), None)
    except (NotImplementedError, picture_svg.PictureImpossible):
        return {}
    return {} if small is None else {"image/png": base64.b64encode(small).decode()}
