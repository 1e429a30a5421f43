"""``edif.compare_models(model, other, prompt)``: how two models agree, layer by layer."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import xarray as xr

import edif
from edif import asked, beside, comparison_output, outputs
from edif.engine import comparing as engine
from edif.engine.decoder import Paths, layers_of
from edif.errors import EdifError
from edif.intervals import bootstrap
from edif.keeping import forget_here
from edif.matching import aligned_places, shared_tokens
from edif.result import Result, padded_tokens, prompts_known, provenance, token_axes, token_texts

#: More bytes of logits than this are not left beside the weights.
MOST_BYTES = 1 << 31
#: Ranks are compared among so many of the most probable tokens of either model.
_RANKED = 100
FIGURES = ("kl", "kl_back", "same_top", "overlap", "rank_correlation")
_SIDES = ("first", "second")


class Comparison(Result):
    """How what two models say agrees, by depth and position.

    Layers are aligned by depth: arrays of :attr:`data` have the axes (prompt, depth, place): ``kl`` (of the first
    model's distribution from the second's, nats) and ``kl_back``, ``same_top``, ``overlap`` (the part of the most
    probable tokens that both have) and ``rank_correlation`` (Spearman's, among the 100 most probable of either), all
    over the tokens that both vocabularies have.  For each side (``first``, ``second``): ``entropy`` and ``mass`` (how
    much falls on shared tokens), (side, prompt, depth, place), ``top_id``, ``top_token``, ``top_probability`` (…, top).
    ``layer`` (side, depth) and ``position`` (side, prompt, place) say what was aligned with what.
    """

    kind = "comparison"
    sources: ClassVar[tuple[str, ...]] = (
        "nostalgebraist (2020): interpreting GPT: the logit lens. LessWrong.",
        "Belrose et al. (2023): Eliciting Latent Predictions from Transformers with the Tuned Lens. arXiv:2303.08112.",
    )

    def mean(self, figure: str = "kl", *, level: float = 0.95, seed: int = 0) -> xr.Dataset:
        """One figure's mean by depth and its bootstrap interval: ``mean``, ``low``, ``high``.

        Means are over prompts, each the mean of its places; of a single prompt, over its places.

        Raises:
            KeyError: there is no such figure.
        """
        if figure not in FIGURES:
            raise KeyError(f"There is no figure {figure!r}: choose from {', '.join(FIGURES)}.")
        values = self.data[figure]
        each = values.isel(prompt=0).transpose("place", "depth") if self._single else values.mean("place")
        figures = zip(("mean", "low", "high"), bootstrap(each, level, seed), strict=True)
        return xr.Dataset({name: ("depth", value) for name, value in figures}, {"depth": self.data["depth"].values})

    def final(self, prompt: int = 0, place: int = -1) -> pd.DataFrame:
        """What both models say in the end, most probable first."""
        known = self.data.isel(prompt=prompt, depth=-1)
        at = known.isel(place=int(np.flatnonzero(known["position"].values[0] >= 0)[place]))
        columns: dict[str, Any] = {}
        for side, name in zip(_SIDES, self.provenance["models"], strict=True):
            columns[f"{side}: {name}"] = at["top_token"].sel(side=side).values
            columns[f"{side} probability"] = at["top_probability"].sel(side=side).values
        return pd.DataFrame(columns)

    def summary(self) -> pd.DataFrame:
        """One row for each depth: both layers and the mean of every figure."""
        rows = {name: self.mean(name)["mean"].values for name in FIGURES}
        layers = {f"layer of {side}": self.data["layer"].sel(side=side).values for side in _SIDES}
        return pd.DataFrame({**layers, **rows}, index=pd.Index(self.data["depth"].values, name="depth"))

    def cost(self) -> pd.DataFrame:
        """What each model took: seconds beside the weights, parameters, bytes, dtype."""
        return pd.DataFrame(self.provenance["cost"], index=pd.Index(self.provenance["models"], name="model"))

    def table(self) -> str:
        """Mean figures by depth, the last layers on top."""
        rows = self.summary()
        figures = rows[list(FIGURES)]
        names = [f"{a} / {b}" for a, b in zip(*(rows[f"layer of {side}"] for side in _SIDES), strict=True)]
        cells = [[outputs.figure(value) for value in row] for row in figures.values]
        caption = f"{' against '.join(self.provenance['models'])} · “{self.provenance['prompts'][0]}”"
        foot = "means; kl in nats, of the first from the second and back"
        return outputs.table(caption, names, FIGURES, cells, foot, "layers")

    def _forms(self) -> Iterator[dict[str, Any]]:
        return comparison_output.forms(self, FIGURES)

    @property
    def _single(self) -> bool:
        return bool(self.data.sizes["prompt"] == 1)

    def __repr__(self) -> str:
        sizes = self.data.sizes
        return f"<{' against '.join(self.provenance['models'])}: {sizes['prompt']} prompts, {sizes['depth']} depths>"


def compare_models(
    model: Any,
    other: Any,
    prompt: str | Sequence[str],
    *,
    layers: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
    top: int = 10,
    paths: tuple[Paths, Paths] = (None, None),
    remote: bool | str | None = None,
    progress: bool = True,
) -> Comparison:
    """Run the same prompts through two models, and compare what they say after layers of equal depth.

    For a model and its quantized, sharded or fine-tuned self, or for two different models: tokens of different
    tokenizers are aligned where both end at the same character, and only tokens that both vocabularies have are
    compared.  One job for each model; what the first says stays beside the weights.  To compare results of other
    methods on two models, see :func:`edif.agreement`.

    Args:
        prompt: a text, or several.
        layers: pairs of layers to compare; by default those of the same relative depth.
        stride: every how many layers, counted from the last one, which is always there.
        top: how many of the most probable tokens are kept, and overlap.
        paths: of parts at unusual places, of both models; each as in :func:`edif.logit_lens`.
        remote: where it runs, as in ``model.trace``.

    Raises:
        ValueError: prompts with no place in common, layers that are not there, or too many logits.
    """
    models = (model, other)
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not texts or {type(text) for text in texts} != {str} or not all(texts):
        raise ValueError("compare_models takes texts, not empty ones: token ids mean other things in other models.")
    ids = [asked.prompt_ids(one, texts) for one in models]
    places = aligned_places(model.tokenizer, other.tokenizer, texts, ids)
    shared = shared_tokens(model.tokenizer, other.tokenizer)
    pairs = _depths([len(layers_of(one, path)) for one, path in zip(models, paths, strict=True)], layers, stride)
    if top < 1:
        raise ValueError("top must be at least 1.")
    _check_size(sum(map(len, places[0])), len(pairs), len(shared[0]), model._module.dtype.itemsize)
    readings = [
        engine.Reading(ids[side], places[side], [pair[side] for pair in pairs], shared[side], top, paths[side])
        for side in (0, 1)
    ]
    return _both(models, texts, readings, remote, progress)


def _depths(counts: list[int], asked_for: Sequence[tuple[int, int]] | None, stride: int) -> list[tuple[int, int]]:
    """Pairs of layers, from the first to the last."""
    if asked_for is not None:
        if odd := [one for one in asked_for if np.shape(one) != (2,)]:
            raise ValueError(f"layers takes pairs, a layer of each model, such as (5, 5): got {odd[0]!r}.")
        return [
            (asked.numbers("layer", [one], counts[0])[0], asked.numbers("layer", [two], counts[1])[0])
            for one, two in asked_for
        ]
    if stride < 1:
        raise ValueError("stride must be at least 1.")
    fewer, more = min(counts), max(counts)
    pairs = [(layer, round((layer + 1) * more / fewer) - 1) for layer in sorted(range(fewer - 1, -1, -stride))]
    return pairs if counts[0] <= counts[1] else [(two, one) for one, two in pairs]


def _check_size(places: int, depths: int, tokens: int, size: int) -> None:
    whole = places * depths * tokens * size
    if whole > MOST_BYTES:
        stride = -(-whole // MOST_BYTES)
        raise ValueError(
            f"What the first model says has {whole / 1e9:.1f} GB, and {MOST_BYTES / 1e9:.1f} GB may be left beside the "
            f"weights: ask for stride={stride}, or for fewer prompts."
        )


def _both(
    models: Any, texts: list[str], readings: list[engine.Reading], remote: bool | str | None, progress: bool
) -> Comparison:
    """What is found of the first and of the second model; figures of agreement are with the second's.

    What the one says is read by the other where it is: on the server's shelf if both run there, else in this process.
    The one on the server goes first, for what is kept there can be fetched from here.
    """
    there = [not model.dispatched if remote is None else remote for model in models]
    begin = 1 if there[1] and not there[0] else 0
    end, shelved, name = 1 - begin, bool(there[begin]), f"compared-{secrets.token_hex(8)}"
    count = len(texts)

    def run(side: int, **how: Any) -> Any:
        work = functools.partial(engine.read, asked=readings[side], ranked=_RANKED, **how)
        what = f"comparison, {_SIDES[side]} model"
        return beside.run(models[side], work, count, remote=remote, progress=progress, what=what)

    def result(one: Any, two: Any) -> Comparison:
        for part in two["prompts"] if end == 0 else ():  # figures are of the first from the second
            part["kl"], part["kl_back"] = part["kl_back"], part["kl"]
        return _result(models, texts, readings, [one, two] if begin == 0 else [two, one])

    one: Any = None
    try:
        one = run(begin, keep=name if shelved else None)
        held = one["logits"] if not shelved else name if there[end] else edif.kept(name)
        two = run(end, other=held)
    except beside.Stopped as stopped:
        halves = [_known(stopped.told), {"prompts": []}] if one is None else [one, _known(stopped.told)]
        partial = result(*halves) if halves[0]["prompts"] else None
        before, after = (0, count) if one is None else (count, 0)
        raise beside.MethodStopped(stopped, partial, before, after) from None
    finally:
        if there[begin] is True:
            _forget(name)
        elif shelved:
            forget_here(name)
    return result(one, two)


def _forget(name: str) -> None:
    with suppress(EdifError):  # nothing was kept when the first job has failed, and that is what is told
        edif.forget(name)


def _known(told: beside.Telling) -> dict[str, Any]:
    """What comes back of one model's job, as far as it was told of by now: the first prompts that were read."""
    parts: list[dict[str, torch.Tensor]] = []
    while (part := told.bases.get(len(parts))) is not None:
        parts.append({**part, "top_ids": part["top_ids"].long()})
    return {"prompts": parts}


def _both_read(found: list[Any]) -> list[list[dict[str, torch.Tensor]]]:
    """Prompts of each side, equally many: those that both have read, or what one has read beside nothing known."""
    sides = [part["prompts"] for part in found]
    count = min(len(side) for side in sides if side)

    def nothing(like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        place = torch.full_like(like["entropy"], torch.nan)
        known = {name: torch.full_like(value, torch.nan) for name, value in like.items() if value.is_floating_point()}
        return {**dict.fromkeys(FIGURES, place), **known, "top_ids": torch.full_like(like["top_ids"], -1)}

    return [side[:count] or [nothing(one) for one in sides[1 - n][:count]] for n, side in enumerate(sides)]


def _result(models: Any, texts: list[str], readings: list[engine.Reading], found: list[Any]) -> Comparison:
    said = _both_read(found)
    texts, readings = texts[: len(said[0])], [reading.first(len(said[0])) for reading in readings]
    agreed = next(side for side in said if "kl" in side[0])
    length = max(len(row) for row in readings[0].places)
    axes = ("prompt", "depth", "place")
    arrays: dict[str, Any] = {name: (axes, _filled([part[name] for part in agreed], length)) for name in FIGURES}
    for name, more in (("entropy", ()), ("mass", ()), ("top_probability", ("top",)), ("top_id", ("top",))):
        key = "top_ids" if name == "top_id" else name
        sides = np.stack([_filled([part[key] for part in side], length) for side in said])
        arrays[name] = (("side", *axes, *more), sides)
    places = [padded_tokens(reading.places, length) for reading in readings]
    read = [bool(side["prompts"]) for side in found]
    notes = _not_finite(arrays["entropy"][1], places, read)
    ids = np.nan_to_num(arrays["top_id"][1], nan=-1).astype(np.int64)
    arrays["top_id"] = (arrays["top_id"][0], ids)
    texts_of = [token_texts(model.tokenizer, side) for model, side in zip(models, ids, strict=True)]
    arrays["top_token"] = (arrays["top_id"][0], np.stack(texts_of))
    layers = np.array([reading.layers for reading in readings])
    coordinates: dict[str, Any] = {
        "side": list(_SIDES),
        "depth": np.round((layers[0] + 1) / len(layers_of(models[0], readings[0].path)), 6),
        "layer": (("side", "depth"), layers),
        "position": (("side", "prompt", "place"), np.stack(places)),
    }
    for model, reading, side in zip(models, readings, _SIDES, strict=True):
        tokens = padded_tokens(reading.prompts)
        coordinates |= token_axes(model.tokenizer, tokens, ("prompt", f"{side}_position"), side)
    facts = [provenance(model, part) for model, part in zip(models, found, strict=True)]
    cost = [
        {**part["cost"], "seconds": round(part["seconds"], 3), "dtype": fact["dtype"], "device": fact["device"]}
        if "cost" in part
        else {}  # of an interrupted job
        for part, fact in zip(found, facts, strict=True)
    ]
    known = {
        **facts[0],
        **prompts_known(models[0].tokenizer, readings[0].prompts),
        "prompts": texts,
        **({"notes": notes} if notes else {}),
        "models": [fact["model"] for fact in facts],
        "sides": facts,
        "cost": cost,
        "shared_tokens": len(readings[0].shared),
        "server_seconds": round(sum(part.get("seconds", 0.0) for part in found), 3),
    }
    return Comparison(xr.Dataset(arrays, coordinates), known)


def _not_finite(entropy: np.ndarray[Any, Any], places: list[Any], read: list[bool]) -> list[str]:
    """What must be said of models whose logits are none, of those that were read."""
    notes = []
    for side in (0, 1):
        there = np.broadcast_to((places[side] >= 0)[:, None] & read[side], entropy[side].shape)
        notes += [f"{_SIDES[side]} model: {note}" for note in outputs.not_finite_cells(entropy[side], there)]
    return notes


def _filled(parts: list[torch.Tensor], length: int) -> np.ndarray[Any, Any]:
    """(depths, places, …) of several prompts in one array, shorter prompts filled up with not-a-number."""
    whole = np.full((len(parts), parts[0].shape[0], length, *parts[0].shape[2:]), np.nan)
    for row, part in enumerate(parts):
        whole[row, :, : part.shape[1]] = part.numpy()
    return whole
