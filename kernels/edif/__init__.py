"""What users import: ``edif.models()``, ``edif.status()``, ``edif.jobs()``, ``edif.next_tokens(logits, tokenizer)``.

Runs in the user's process, in a notebook or on a laptop; imports neither torch nor nnsight by itself.
"""

from __future__ import annotations

from importlib.metadata import version

from edif.errors import BackendRefused, BackendUnreachable, EdifError, JobFailed, ModelUnknown, WeightsElsewhere
from edif.prediction import NextTokens, next_tokens
from edif.serving import Model, Models, Status, Usage, models, status, usage
from edif.submitted import Job, Jobs, job, jobs

__version__ = version("edif")

__all__ = [
    "BackendRefused",
    "BackendUnreachable",
    "EdifError",
    "Job",
    "JobFailed",
    "Jobs",
    "Model",
    "ModelUnknown",
    "Models",
    "NextTokens",
    "Status",
    "Usage",
    "WeightsElsewhere",
    "__version__",
    "job",
    "jobs",
    "models",
    "next_tokens",
    "status",
    "usage",
]
