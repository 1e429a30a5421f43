"""What users import: ``edif.models()``, ``edif.status()``, ``edif.next_tokens(logits, tokenizer)``.

Runs in the user's process, in a notebook or on a laptop; imports neither torch nor nnsight by itself.
"""

from importlib.metadata import version

from edif.errors import BackendRefused, BackendUnreachable, EdifError
from edif.prediction import NextTokens, next_tokens
from edif.serving import Model, Models, Status, models, status

__version__ = version("edif")

__all__ = [
    "BackendRefused",
    "BackendUnreachable",
    "EdifError",
    "Model",
    "Models",
    "NextTokens",
    "Status",
    "__version__",
    "models",
    "next_tokens",
    "status",
]
