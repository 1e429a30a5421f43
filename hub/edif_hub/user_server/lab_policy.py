"""What pages of a user server may load and run: JupyterLab, our views, what outputs draw; no script of an output's own.

Called by :mod:`edif_hub.user_server.extension` at the start; runs as the user.  A script that stands in a page runs if
its digest is named here: JupyterLab's own, and the one that draws results in pages made by ``to_html`` or exported.
``unsafe-eval`` lets no script in: JupyterLab checks its settings with functions that it makes itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_IN_PAGE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_NO_FRAMES = "frame-ancestors 'none'"


def policy(scripts: Iterable[str]) -> str:
    """The Content-Security-Policy; ``scripts`` are those that stand in pages."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    rules = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "'unsafe-eval'", *(f"'sha256-{digest}'" for digest in digests)]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self' data:",
        "frame-src": "'self' blob:",
        "object-src": "'self' blob:",  # a browser shows a PDF as an object
        "base-uri": "'none'",
        "form-action": "'self'",
    }
    return "; ".join([*(f"{name} {value}" for name, value in rules.items()), _NO_FRAMES])


def open_policy() -> str:
    """Where the operator lets outputs run scripts and load from anywhere: no page stands in a frame, and no more."""
    return _NO_FRAMES


def scripts_in(page: Path) -> list[str]:
    """The scripts that stand in an HTML page."""
    return _IN_PAGE.findall(page.read_text(encoding="utf-8"))


def script_of_views(built: Path) -> list[str]:
    """The script of the views as pages have it (:mod:`edif.result_pages`); none where it is not built."""
    return [built.read_text("utf-8").replace("</script", "<\\/script")] if built.is_file() else []
