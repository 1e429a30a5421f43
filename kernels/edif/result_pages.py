"""Results as web pages of their own: the views' script once, each result as data, nothing from anywhere else.

Called by :meth:`edif.result.Result.to_html` and by the nbconvert preprocessor of ``edif_widgets``; runs in the user's
process.  A page works from a file, in an ``iframe`` with ``srcdoc``, and without a network.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edif.errors import EdifError
from edif.prediction import RESULT_TYPE

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root {{ color-scheme: light dark }} body {{ margin: 16px; font-family: system-ui, sans-serif }}</style></head>
<body><main>
{body}
</main><script>{script}</script></body></html>
"""


class ViewsMissing(EdifError):
    """The script that draws results is not on this machine."""


@functools.cache
def script() -> str:
    """The script that draws every ``data-edif`` block of its page.

    Raises:
        ViewsMissing: it is not installed or not built here.
    """
    found = importlib.util.find_spec("edif_widgets")
    places = [Path(place) / "labextension" / "page.js" for place in (found and found.submodule_search_locations) or ()]
    for place in places:
        if place.is_file():
            # inside a page, only this would end the script
            return place.read_text("utf-8").replace("</script", "<\\/script")
    raise ViewsMissing(
        "The views are not built here, so a page could not draw the result: in a checkout run extensions/build.sh, "
        "or use .to_svg(), .to_png() or .table()."
    )


def block(drawn: Mapping[str, Any], otherwise: str = "") -> str:
    """One result as data for the script; ``otherwise`` is the markup that is seen until it has run."""
    # `<` can only be inside of strings of JSON: escaped, no text can end the element
    data = json.dumps(drawn, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return f'<div data-edif><script type="{RESULT_TYPE}">{data}</script>{otherwise}</div>'


def page(results: Sequence[Mapping[str, Any]], tables: Sequence[str] = ()) -> str:
    """A document with these results one below the other."""
    titles = " · ".join(dict.fromkeys(str(drawn.get("title", "eDIF result")) for drawn in results))
    others = [*tables, *[""] * (len(results) - len(tables))]
    body = "\n".join(block(drawn, other) for drawn, other in zip(results, others, strict=True))
    return _HEAD.format(title=escape(titles), body=body, script=script())
