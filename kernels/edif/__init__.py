"""What users import: ``edif.models()``, ``edif.jobs()``, ``edif.keep(…)``, ``edif.logit_lens(…)``, ``edif.sweep(…)``.

Runs in the user's process, in a notebook or on a laptop; imports neither torch nor nnsight by itself: what needs them
is loaded when it is first asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edif.errors import (
    BackendRefused,
    BackendUnreachable,
    EdifError,
    JobFailed,
    ModelUnknown,
    NotKept,
    WeightsElsewhere,
)
from edif.keeping import KeptValue, KeptValues, forget, keep, kept
from edif.prediction import NextTokens, next_tokens
from edif.serving import Model, Models, Status, Usage, models, status, usage
from edif.shown_results import NotShown, shown
from edif.submitted import Job, Jobs, job, jobs

if TYPE_CHECKING:
    from edif.alignment import Alignment, align
    from edif.attention import Attention, attention
    from edif.attribution import AttributionPatching, attribution_patching
    from edif.beside import MethodStopped
    from edif.causal_trace import CausalTrace, causal_trace
    from edif.comparison import Comparison, compare_models
    from edif.engine.decoder import SITES
    from edif.engine.sweeps import Batch, Cell
    from edif.fidelity import agreement
    from edif.interventions import SweepResult, SweepStopped, sweep
    from edif.logit_lens import LogitLens, logit_lens
    from edif.patching import ActivationPatching, activation_patching
    from edif.path_patching import PathPatching, path_patching
    from edif.probing import Probe, probe
    from edif.result import Result, load
    from edif.side_by_side import Together, series, side_by_side
    from edif.steering import Steering, steer

__version__ = version("edif")

__all__ = [
    "SITES",
    "ActivationPatching",
    "Alignment",
    "Attention",
    "AttributionPatching",
    "BackendRefused",
    "BackendUnreachable",
    "Batch",
    "CausalTrace",
    "Cell",
    "Comparison",
    "EdifError",
    "Job",
    "JobFailed",
    "Jobs",
    "KeptValue",
    "KeptValues",
    "LogitLens",
    "MethodStopped",
    "Model",
    "ModelUnknown",
    "Models",
    "NextTokens",
    "NotKept",
    "NotShown",
    "PathPatching",
    "Probe",
    "Result",
    "Status",
    "Steering",
    "SweepResult",
    "SweepStopped",
    "Together",
    "Usage",
    "WeightsElsewhere",
    "__version__",
    "activation_patching",
    "agreement",
    "align",
    "attention",
    "attribution_patching",
    "causal_trace",
    "compare_models",
    "forget",
    "job",
    "jobs",
    "keep",
    "kept",
    "load",
    "logit_lens",
    "models",
    "next_tokens",
    "path_patching",
    "probe",
    "series",
    "shown",
    "side_by_side",
    "status",
    "steer",
    "sweep",
    "usage",
]

_LATER = {
    "SITES": "edif.engine.decoder",
    **dict.fromkeys(("Alignment", "align"), "edif.alignment"),
    **dict.fromkeys(("Attention", "attention"), "edif.attention"),
    **dict.fromkeys(("AttributionPatching", "attribution_patching"), "edif.attribution"),
    "MethodStopped": "edif.beside",
    "agreement": "edif.fidelity",
    **dict.fromkeys(("CausalTrace", "causal_trace"), "edif.causal_trace"),
    **dict.fromkeys(("ActivationPatching", "activation_patching"), "edif.patching"),
    **dict.fromkeys(("PathPatching", "path_patching"), "edif.path_patching"),
    **dict.fromkeys(("Batch", "Cell"), "edif.engine.sweeps"),
    **dict.fromkeys(("LogitLens", "logit_lens"), "edif.logit_lens"),
    **dict.fromkeys(("Result", "load"), "edif.result"),
    **dict.fromkeys(("Together", "series", "side_by_side"), "edif.side_by_side"),
    **dict.fromkeys(("Comparison", "compare_models"), "edif.comparison"),
    **dict.fromkeys(("Probe", "probe"), "edif.probing"),
    **dict.fromkeys(("Steering", "steer"), "edif.steering"),
    **dict.fromkeys(("SweepResult", "SweepStopped", "sweep"), "edif.interventions"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'edif' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


class _SentByName(ModuleType):
    """This module, as a trace takes it along: by its name, and the server has its own.

    nnsight sends modules that lie beside the user's code by value, and a checkout is one of those; a copy would know
    nothing of what the server keeps (:mod:`edif.keeping`).
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Python sets a module here when it is first imported: a method keeps its name all the same."""
        if not (name in _LATER and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _SentByName
