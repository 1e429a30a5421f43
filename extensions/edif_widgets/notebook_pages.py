"""Notebooks as HTML with their views alive: ``jupyter nbconvert --to html`` and JupyterLab's *Save and Export*.

A preprocessor of nbconvert, switched on for user servers by ``hub/edif_hub/user_server``; runs where the notebook is
converted.  Elsewhere: ``--HTMLExporter.preprocessors=edif_widgets.notebook_pages.Views``.
"""

from __future__ import annotations

from typing import Any

from nbconvert.preprocessors import Preprocessor

from edif.prediction import RESULT_TYPE
from edif.result_pages import block, script


class Views(Preprocessor):
    """Puts each result's data into its HTML, and the script that draws them once into the notebook's last result."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook with its results drawn; the plain table stays for readers without a script."""
        drawn = [
            output.data
            for cell in nb.cells
            for output in cell.get("outputs", ())
            if RESULT_TYPE in output.get("data", {})
        ]
        for data in drawn:
            data["text/html"] = block(data.pop(RESULT_TYPE), data.get("text/html", ""))
        if drawn:
            drawn[-1]["text/html"] += f"<script>{script()}</script>"
        return nb, resources
