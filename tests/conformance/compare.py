"""The client process of the conformance suite: ``python compare.py CLIENT REPORT SNAPSHOT [CASE…]``.

The client is ``nnsight``, unmodified, with three variables (``NDIF_HOST``, ``NDIF_API_KEY``, ``HF_ENDPOINT``), or
``edif``: nnsight as an eDIF kernel has it.  The report is a JSON file with one entry a case: empty when both runs
agreed, else what differed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases
import numpy as np
import torch
from cases import CASES, Case
from nnsight import Envoy, TransformersModel
from nnsight.intervention.backends.remote import RemoteError
from nnsight.intervention.cache import CacheView
from nnsight.schema.config import CONFIG

from edif_kernel.routing import Mode, Routing

MODEL = "edif/tiny-gpt2"


@dataclass
class Outcome:
    """What a run gave."""

    value: Any
    error: BaseException | None
    written: str


class Models:
    """The loaded model and the one without weights."""

    def __init__(self, snapshot: str) -> None:
        self.snapshot = snapshot
        self.remote = self.make(True)
        self.local = self.make(False)

    def make(self, remote: Any, **changes: Any) -> TransformersModel:
        if remote:
            return TransformersModel(MODEL, task="text-generation", **changes)
        if "peft" in changes:  # the same files, which only the backend gives weights of
            changes["peft"] = str(Path(self.snapshot).parent / changes["peft"].replace("/", "--"))
        model = TransformersModel(self.snapshot, task="text-generation", dispatch=True, dtype=torch.float32, **changes)
        model._module.eval()
        model._module.requires_grad_(False)  # as the backend holds it
        return model


def run(case: Case, model: TransformersModel, remote: bool) -> Outcome:
    """Run a case on one side."""
    written = io.StringIO()
    CONFIG.APP.REMOTE_LOGGING = remote and bool(case.tells)
    value, error = None, None
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written), warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            value = case.run(model, remote)
        except BaseException as raised:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are answers, too
            error = raised
    return Outcome(value, error, written.getvalue())


def verdict(case: Case, models: Models) -> str:
    """Empty when the promise of the case holds."""
    if case.alone:
        here = Outcome(None, None, "")
        there = run(case, models.remote, True)
        if there.error is not None:
            return "".join(traceback.format_exception(there.error))
        return missing(case, there)
    here = run(case, models.local, False)
    if case.spoils:
        models.local = models.make(False)
    there = run(case, models.remote, True)
    found = (raised(case, here, there) if case.raises else returned(here, there)) or told(case, here, there)
    if case.deviation:
        return "" if found else "It agrees now: take the deviation away."
    return found


def raised(case: Case, here: Outcome, there: Outcome) -> str:
    """Compare how both runs failed."""
    if type(here.error).__name__ != case.raises:
        return f"locally: {here.error!r}, not {case.raises}"
    if not isinstance(there.error, RemoteError):
        return f"remotely: {there.error!r}, not a RemoteError\n{''.join(traceback.format_exception(there.error))}"
    said = str(there.error)
    wanted = [case.raises, str(here.error).splitlines()[0] if str(here.error) else "", case.line]
    return "".join(f"the remote error lacks {part!r}:\n{said}" for part in wanted if part not in said)


def returned(here: Outcome, there: Outcome) -> str:
    """Compare what both runs gave."""
    for side, outcome in (("locally", here), ("remotely", there)):
        if outcome.error is not None:
            return f"{side}: " + "".join(traceback.format_exception(outcome.error))
    if here.value is None:
        return "the case returns nothing to compare"
    return difference(here.value, there.value)


def told(case: Case, here: Outcome, there: Outcome) -> str:
    """Compare what both runs wrote."""
    lacking = [line for line in case.tells if line not in here.written]
    return f"locally unsaid: {lacking}, but {here.written!r}" if lacking else missing(case, there)


def missing(case: Case, there: Outcome) -> str:
    lacking = [line for line in case.tells if line not in there.written]
    return f"did not arrive as LOG: {lacking}, but {there.written!r}" if lacking else ""


def difference(here: Any, there: Any, where: str = "value") -> str:
    """Where two values differ first, in type or in any bit; empty when they are the same."""
    if type(here) is not type(there):
        return f"{where}: {type(here)} here, {type(there)} there ({here!r:.100}, {there!r:.100})"
    if isinstance(here, torch.Tensor):
        return _tensors(here, there, where)
    if isinstance(here, np.ndarray):
        same = here.dtype == there.dtype and here.shape == there.shape and here.tobytes() == there.tobytes()
        return "" if same else f"{where}: arrays differ"
    if isinstance(here, Envoy | torch.nn.Module):
        return "" if repr(here) == repr(there) else f"{where}: modules differ"
    parts = _parts(here), _parts(there)
    if parts[0] is None:
        same = here == there or (isinstance(here, float) and math.isnan(here) and math.isnan(there))
        return "" if same else f"{where}: {here!r:.200} is not {there!r:.200}"
    if list(parts[0]) != list(parts[1]):
        return f"{where}: parts {list(parts[0])} here, {list(parts[1])} there"
    found = (difference(parts[0][name], parts[1][name], f"{where}.{name}") for name in parts[0])
    return next(filter(None, found), "")


def _tensors(here: torch.Tensor, there: torch.Tensor, where: str) -> str:
    if (here.dtype, here.shape) != (there.dtype, there.shape):
        return f"{where}: {here.dtype} {tuple(here.shape)} here, {there.dtype} {tuple(there.shape)} there"
    if here.is_sparse:
        here, there = here.to_dense(), there.to_dense()
    bits = [np.ascontiguousarray(_plain(tensor)).tobytes() for tensor in (here, there)]
    return "" if bits[0] == bits[1] else f"{where}: bits differ, by at most {(here - there).abs().max()}"


def _plain(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.uint8).numpy() if tensor.dim() and tensor.numel() else tensor.double().numpy()


def _parts(value: Any) -> dict[Any, Any] | None:
    """What a value is made of; None for a plain one."""
    if isinstance(value, CacheView):
        return {path: [vars(entry) for entry in value._cache.entries[path]] for path in value.keys()}  # noqa: SIM118
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if type(value).__module__.startswith("cases_") and hasattr(value, "__dict__"):
        return vars(value)
    return None


def main(client: str, report: str, snapshot: str, *names: str) -> None:
    torch.set_num_threads(1)
    if client == "edif":
        routing = Routing()
        routing.mode = Mode.OFF  # every case says itself where it runs
        routing.install()
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        importlib.import_module(path.stem)
    models = Models(snapshot)
    cases.make_model = models.make
    found: dict[str, str] = {}
    started = time.perf_counter()
    for name in names or CASES:
        found[name] = verdict(CASES[name], models)
        if found[name] and names:
            print(f"-- {name}: {found[name]}")
    Path(report).write_text(json.dumps(found, indent=1))
    print(f"{len(found)} cases, {sum(map(bool, found.values()))} differ, {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
