"""What users import: ``edif.models()``, ``edif.status()``, ``edif.next_tokens(logits, tokenizer)``.

Runs in the user's process, in a notebook or on a laptop; imports neither torch nor nnsight by itself.
"""

from __future__ import annotations

from importlib.metadata import version

from edif.errors import BackendRefused, BackendUnreachable, EdifError, ModelUnknown, WeightsElsewhere
from edif.prediction import NextTokens, next_tokens
from edif.serving import Model, Models, Status, models, status

__version__ = version("edif")

__all__ = [
    "BackendRefused",
    "BackendUnreachable",
    "EdifError",
    "Model",
    "ModelUnknown",
    "Models",
    "NextTokens",
    "Status",
    "WeightsElsewhere",
    "__version__",
    "models",
    "next_tokens",
    "status",
]
