"""What forward passes, generations and gradients of a model take, measured by running some.

Called by the zygote when it loads a model that has no profile yet; ``edif bench memory`` measures with it too.  Runs in
a fork, so that what it leaves behind is gone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from edif_backend.models.peaks import Point, Profile
from edif_backend.models.quantized import plain_tensors

_SHORTEST = 4
_BUDGET_S = 10.0  #: of processor time
_ALWAYS = 64  #: lengths up to this are measured however long it takes: fewer points tell too little
_STEPS = 3  #: tokens generated when generation is measured


def measure(
    model: torch.nn.Module,
    longest: int,
    budget_s: float = _BUDGET_S,
    prepare: Callable[[], None] | None = None,
) -> Profile | None:
    """The profile of ``model``, measured in a fork; None when the model cannot be run so.

    Args:
        model: on the CPU, weights frozen.
        longest: tokens of the longest sequence it takes.
        budget_s: processor time it may take, about.
        prepare: called in the fork first; brings the model to where its jobs compute.
    """
    answer_out, answer_in = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)  # torch's profiler talks
            os.dup2(nowhere, 2)
            try:
                if prepare:
                    prepare()
                answer = _profile(model, longest, budget_s).model_dump_json()
                status = 0
            except Exception as error:  # noqa: BLE001 - a model that does not run as others do is still served
                answer = f"{type(error).__name__}: {error}"
            with os.fdopen(answer_in, "w") as file:
                file.write(answer)
        finally:
            os._exit(status)
    os.close(answer_in)
    with os.fdopen(answer_out) as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if status:
        print(f"the memory of its jobs was not measured and is not foretold ({answer[:300]})", file=sys.stderr)
        return None
    return Profile.model_validate_json(answer)


def _profile(model: torch.nn.Module, longest: int, budget_s: float) -> Profile:
    """Measure at lengths four times one another, twice more below the last, then, as long as there is time, between."""
    found: dict[int, dict[str, Point]] = {}
    took_s = 0.0
    for length in _up_to(longest):
        if length > _ALWAYS and time.process_time() + 3.2 * took_s > budget_s:
            break
        began_s = time.process_time()
        found[length] = _peaks_at(model, length, longest)
        took_s = time.process_time() - began_s
    last = max(found)
    for length in {last // 2, last * 3 // 4} - found.keys() - {0}:  # how the curve goes on beyond the last
        found[length] = _peaks_at(model, length, longest)
    for length in sorted((length // 2 for length in found if length > _SHORTEST), reverse=True):
        if length not in found and time.process_time() + took_s / 2 < budget_s:
            found[length] = _peaks_at(model, length, longest)
    curves = {name: tuple(found[length][name] for length in sorted(found)) for name in found[min(found)]}
    return Profile(attention=getattr(model.config, "_attn_implementation", None), **curves)


def _up_to(longest: int) -> Iterator[int]:
    length = min(_SHORTEST, longest)
    while length <= longest:
        yield length
        length *= 4


def _peaks_at(model: torch.nn.Module, length: int, longest: int) -> dict[str, Point]:
    prompt = min(length, longest - _STEPS)
    one, two = (forward_bytes(model, batch, length) for batch in (1, 2))
    (start_one, later_one), (start_two, later_two) = (generate_bytes(model, batch, prompt, _STEPS) for batch in (1, 2))
    back_one, back_two = (backward_bytes(model, batch, length) for batch in (1, 2))
    return {
        "forward": (length, one, two),
        "prefill": (prompt, start_one, start_two),
        "decode": (prompt + _STEPS - 1, later_one, later_two),
        "backward": (length, back_one, back_two),
    }


def forward_bytes(model: Any, batch: int, tokens: int) -> int:
    """Peak of a forward pass as a trace makes it."""
    return max(_peaks(model, lambda _: model(**_inputs(model, batch, tokens))))


def generate_bytes(model: Any, batch: int, tokens: int, generated: int) -> tuple[int, int]:
    """Peaks of the first step of a generation and of those that follow."""

    def job(mark: Callable[[], None]) -> None:
        hook = model.register_forward_pre_hook(lambda *_: mark())
        try:
            model.generate(
                **_inputs(model, batch, tokens),
                max_new_tokens=generated,
                min_new_tokens=generated,
                do_sample=False,
                pad_token_id=0,
            )
        finally:
            hook.remove()

    before, first, *later = _peaks(model, job)
    return max(before, first), max(later, default=first)


def backward_bytes(model: Any, batch: int, tokens: int) -> int:
    """Peak of a forward and a backward pass from the sum of the logits to the embeddings."""

    def job(_: Callable[[], None]) -> None:
        inputs = _inputs(model, batch, tokens)
        hook = model.get_input_embeddings().register_forward_hook(lambda *given: given[-1].requires_grad_(True))
        try:
            model(**inputs).logits.sum().backward()
        finally:
            hook.remove()

    return max(_peaks(model, job))


def _inputs(model: Any, batch: int, tokens: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(batch * tokens).reshape(batch, tokens) % min(model.config.get_text_config().vocab_size, 1000)
    ids = ids.to(next(model.parameters()).device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _peaks(model: torch.nn.Module, job: Callable[[Callable[[], None]], Any]) -> list[int]:
    """Peak in bytes of torch's allocator between the marks that ``job`` sets, counted from its beginning."""
    device = next(model.parameters()).device
    return _peaks_on_gpu(device, job) if device.type == "cuda" else _peaks_on_host(job)


def _peaks_on_gpu(device: torch.device, job: Callable[[Callable[[], None]], Any]) -> list[int]:
    """Of the device that the model begins on, which holds the most: embeddings, masks, inputs and, tied, the logits."""
    torch.cuda.synchronize(device)
    began, peaks = torch.cuda.memory_allocated(device), []

    def mark() -> None:
        peaks.append(torch.cuda.max_memory_allocated(device) - began)
        torch.cuda.reset_peak_memory_stats(device)

    torch.cuda.reset_peak_memory_stats(device)
    kept = job(mark)
    mark()
    del kept
    return peaks


def _peaks_on_host(job: Callable[[Callable[[], None]], Any]) -> list[int]:
    marks: list[int] = []
    kept = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        kept = job(lambda: marks.append(time.time_ns()))
    del kept
    assert watched.profiler
    changes: list[tuple[int, int]] = []
    _collect(watched.profiler.kineto_results.experimental_event_tree(), changes)
    peaks, held, marks = [0], 0, [*marks, sys.maxsize]
    for at, change in sorted(changes, key=lambda change: change[0]):
        while at >= marks[0]:
            marks.pop(0)
            peaks.append(held)
        held += change
        peaks[-1] = max(peaks[-1], held)
    return peaks


def _collect(events: Any, changes: list[tuple[int, int]]) -> None:
    for event in events:
        if event.name == "[memory]":
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
        _collect(event.children, changes)


def held_bytes(model: torch.nn.Module) -> int:
    """Memory of parameters and buffers as they are held, shared storages counted once."""
    storages = [tensor.untyped_storage() for tensor in plain_tensors(model)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
