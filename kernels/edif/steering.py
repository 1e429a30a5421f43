"""``edif.steer(model, prompt, direction)``: what a direction does to what the model says, over strengths."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import xarray as xr

from edif import asked, beside, outputs, steering_output
from edif.engine import directions as engine
from edif.engine.decoder import HEADED, SITES, Paths, layers_of
from edif.engine.directions import ABLATIONS
from edif.engine.metrics import METRICS, UNANSWERED
from edif.engine.sweeps import BATCH_BYTES
from edif.intervals import bootstrap
from edif.result import Result, padded_tokens, prompts_known, provenance, token_axes, token_texts

SITES_STEERED = tuple(site for site in SITES if site not in HEADED)
STRENGTHS = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4)
_TOP = 5


class Steering(Result):
    """What the model says when its activations are moved along a direction.

    Arrays of :attr:`data`: ``steered`` (prompt, layer, strength, metric) and ``unsteered`` (prompt, metric);
    ``control`` (prompt, control, layer, strength, metric), the same along random directions; ``ablated`` (prompt,
    ablation, layer, metric), the direction taken out of its layer or of all of them; ``top_id``, ``top_token``,
    ``top_probability`` (prompt, layer, strength, top); ``text`` (prompt, layer, strength), ``unsteered_text`` (prompt)
    and ``ablated_text`` (prompt, ablation, layer), what was written, with its tokens in ``text_id`` and so on (…, new);
    ``direction`` (layer, feature) and ``norm``
    (layer), the mean norm of the layer's activations.  A strength is in the units that the provenance names.
    """

    kind = "steering"
    sources: ClassVar[tuple[str, ...]] = (
        "Turner et al. (2023): Steering Language Models With Activation Engineering. arXiv:2308.10248.",
        "Rimsky et al. (2023): Steering Llama 2 via Contrastive Activation Addition. arXiv:2312.06681.",
        "Arditi et al. (2024): Refusal in Language Models Is Mediated by a Single Direction. arXiv:2406.11717.",
    )

    def effect(self, metric: str | None = None) -> xr.DataArray:
        """Metric when steered minus metric when not: (prompt, layer, strength).

        Raises:
            KeyError: there is no such metric.
        """
        chosen = self._metric(metric)
        return self.data["steered"].sel(metric=chosen) - self.data["unsteered"].sel(metric=chosen)

    def mean(self, metric: str | None = None, *, level: float = 0.95, seed: int = 0) -> xr.Dataset:
        """Mean effect over prompts and its bootstrap interval: ``mean``, ``low``, ``high`` (layer, strength)."""
        effect = self.effect(metric)
        one = effect.isel(prompt=0, drop=True)
        figures = zip(("mean", "low", "high"), bootstrap(effect, level, seed), strict=True)
        return xr.Dataset({name: one.copy(data=figure) for name, figure in figures})

    def texts(self, prompt: int = 0) -> pd.DataFrame:
        """What was written: strengths downwards, layers to the right.

        Raises:
            KeyError: nothing was written.
        """
        if "text" not in self.data:
            raise KeyError("Nothing was written: ask for it with tokens=30.")
        shown = self.data["text"].isel(prompt=prompt).transpose("strength", "layer")
        return pd.DataFrame(shown.values, index=shown["strength"].values, columns=shown["layer"].values)

    def table(self) -> str:
        """Mean effects over prompts, layers downwards from the last."""
        name = self._metric(None)
        mean = self.mean()["mean"]
        cells = [[outputs.figure(value) for value in row] for row in mean.values]
        caption = f"Steering · {self.provenance['model']} · “{self.provenance['prompts'][0]}”"
        foot = f"change of {name.replace('_', ' ')}; columns: strength in {self.provenance['unit']}"
        columns = [f"{value:+g}" for value in mean["strength"].values]
        return outputs.table(caption, mean["layer"].values.tolist(), columns, cells, foot) + self._written()

    def _forms(self) -> Iterator[dict[str, Any]]:
        return steering_output.forms(self)

    def _written(self) -> str:
        """The first prompt's texts at the layer with the largest effect, as a table."""
        if "text" not in self.data:
            return ""
        mean = self.mean()["mean"]
        layer = mean["layer"].values[int(abs(mean).max("strength").argmax("layer"))]
        texts = self.texts()[layer]
        rows = [[str(text)] for text in texts]
        names = [f"{value:+g}" for value in texts.index]
        return outputs.table(
            f"What was written at layer {layer}", names, ["text"], rows, "the text after the prompt", "strength"
        )

    def _metric(self, name: str | None) -> str:
        known = [str(found) for found in self.data["metric"].values]
        if name is not None and name not in known:
            raise KeyError(f"There is no metric {name!r}: there is {', '.join(known)}.")
        return name or known[0]

    def __repr__(self) -> str:
        sizes = self.data.sizes
        return f"<steering: {sizes['prompt']} prompts, {sizes['layer']} layers, {sizes['strength']} strengths>"


def steer(
    model: Any,
    prompt: str | Sequence[str] | Sequence[int],
    direction: Any,
    *,
    answer: tuple[int | str, int | str] | Sequence[tuple[int | str, int | str]] | None = None,
    layers: Sequence[int] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    unit: str = "norm",
    site: str = "residual",
    positions: Sequence[int] | None = None,
    ablate: str | Sequence[str] = (),
    controls: int = 0,
    seed: int = 0,
    tokens: int = 0,
    metric: Callable[[torch.Tensor], torch.Tensor] | None = None,
    path: Paths = None,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> Steering:
    """Move activations along a direction, layer by layer and over strengths: what does the model then say?

    (Turner et al. 2023, Rimsky et al. 2023; taking a direction out: Arditi et al. 2024.)  One job.

    Args:
        prompt: a text, several texts, or token ids.
        direction: pairs of texts ``[(with, without), …]``: the difference of mean activations at their last positions,
            in each layer its own; or a vector for all layers, or vectors by layer (a dictionary, an array (layers,
            width), or :meth:`edif.Probe.directions`).
        answer: right and wrong token, of each prompt or one for all; without it only KL from the unsteered model (and
            a metric of your own) is measured.
        layers: which; all by default.
        strengths: how far; 0 changes nothing.
        unit: of strengths: ``norm`` (the mean norm of the layer's activations on the prompts, so that strengths mean
            the same in all layers) or ``direction`` (the direction's own length).
        site: ``residual`` (after the layer), ``residual_pre``, ``residual_mid``, ``attention`` or ``mlp``.
        positions: of the prompt; every position by default, of what is written too.
        ablate: of ``here`` (the direction is taken out of its layer) and ``everywhere`` (out of all layers).
        controls: how many random directions of the same length are tried beside.
        tokens: how many tokens to write at each strength, greedily.
        metric: one of your own beside the others: of logits (rows, vocabulary), a value for each row.
        path: as in :func:`edif.logit_lens`.
        batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: an empty prompt, a direction of another width, or an answer that is not one token.
    """
    ids = asked.prompt_ids(model, prompt, tokens)
    chosen = asked.layers(model, layers, path)
    ablations = [ablate] if isinstance(ablate, str) else list(ablate)
    asked.one_of("site to steer", [site], SITES_STEERED)
    asked.one_of("ablation", ablations, ABLATIONS)
    asked.one_of("unit", [unit], ("norm", "direction"))
    _check_numbers(ids, strengths, positions, tokens, controls)
    answers: list[Any] = [None] * len(ids) if answer is None else asked.answers(model.tokenizer, answer, len(ids))
    plan = engine.Steering(
        site, chosen, strengths, unit == "norm", ablations, controls, seed, positions, _TOP, tokens
    )  # fmt: skip
    asked.check_cells(plan.count() * len(ids), chosen)
    limits = {"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes}
    given = _given(model, direction, chosen, path)
    work = functools.partial(
        engine.steer, prompts=ids, direction=given, asked=plan, answers=answers, metric=metric, limits=limits
    )
    names = [*(METRICS if answer is not None else UNANSWERED), *([asked.name_of(metric)] if metric else [])]
    return beside.result(
        model,
        work,
        plan.count() * len(ids) * (1 + bool(tokens)),
        lambda found: _result(model, ids, plan, answers, names, found),
        functools.partial(_known, plan=plan, prompts=len(ids), metrics=len(names)),
        remote=remote,
        progress=progress,
        what="steering",
    )


def _check_numbers(
    ids: list[list[int]], strengths: Sequence[float], positions: Sequence[int] | None, tokens: int, controls: int
) -> None:
    if not len(strengths) or not np.isfinite(strengths).all() or tokens < 0 or controls < 0:
        raise ValueError("strengths are finite numbers, at least one; tokens and controls are not negative.")
    for row in ids:
        asked.numbers("position", positions, len(row))


def _known(told: beside.Telling, plan: engine.Steering, prompts: int, metrics: int) -> dict[str, Any] | None:
    """What comes back of a job, as far as it was told of by now; None before anything was steered."""
    if not told.rows or prompts not in told.bases:
        return None
    width, count = metrics + 2 * plan.top, plan.count()
    found: dict[str, Any] = {**told.bases[prompts], "values": [], "changed": [], "written": []}
    for number in range(prompts):
        base = told.bases.get(number, {})
        held = told.values(number * count * (1 + bool(plan.tokens)), count, (1, width)).reshape(count, width)
        best = held[:, metrics : metrics + plan.top]
        best[np.isnan(best)] = -1  # no token
        found["values"].append(torch.from_numpy(held))
        found["changed"].append(base.get("changed", torch.full((width,), torch.nan, dtype=torch.float64)))
        if plan.tokens:
            found["written"].append(base.get("written", torch.full((len(plan.texts()), plan.tokens), -1)))
    return found


def _given(model: Any, direction: Any, layers: list[int], path: Paths) -> Any:
    """What the engine takes as directions: vectors by layer, or prompts with and without."""
    if isinstance(direction, Sequence) and len(direction) and isinstance(direction[0], tuple):
        having, lacking = (asked.prompt_ids(model, [pair[side] for pair in direction]) for side in (0, 1))
        return having, lacking
    width = model._module.config.get_text_config().hidden_size
    if isinstance(direction, Mapping):
        vectors = {int(layer): torch.as_tensor(np.asarray(vector)) for layer, vector in direction.items()}
    else:
        whole = torch.as_tensor(np.asarray(direction))
        if whole.dim() == 2 and len(whole) not in (len(layers), len(layers_of(model, path))):
            raise ValueError(f"{len(whole)} directions for {len(layers)} layers: one for each is needed.")
        every = len(whole) == len(layers) if whole.dim() == 2 else True
        vectors = {layer: whole if whole.dim() == 1 else whole[n if every else layer] for n, layer in enumerate(layers)}
    if missing := [layer for layer in layers if layer not in vectors]:
        raise ValueError(f"There is no direction for layer {missing[0]}: name layers=[{', '.join(map(str, vectors))}].")
    if odd := [tuple(vectors[n].shape) for n in layers if vectors[n].shape != (width,)]:
        raise ValueError(f"A direction has shape {odd[0]}, and activations of this model have {width} numbers.")
    return {layer: vectors[layer].float() for layer in layers}


def _result(
    model: Any, ids: list[list[int]], plan: engine.Steering, answers: list[Any], names: list[str], found: dict[str, Any]
) -> Steering:
    tokenizer, layers, strengths = model.tokenizer, len(plan.layers), len(plan.strengths)
    values, base = (torch.stack(found[name]).numpy() for name in ("values", "changed"))
    count, split = len(names), layers * strengths * (1 + plan.controls)
    ways = values[:, :split].reshape(len(ids), 1 + plan.controls, layers, strengths, -1)
    axes = ("prompt", "layer", "strength")
    best = ways[:, 0, ..., count : count + plan.top].astype(np.int64)
    arrays: dict[str, Any] = {
        "steered": ((*axes, "metric"), ways[:, 0, ..., :count]),
        "unsteered": (("prompt", "metric"), base[:, :count]),
        "top_id": ((*axes, "top"), best),
        "top_token": ((*axes, "top"), token_texts(tokenizer, best)),
        "top_probability": ((*axes, "top"), ways[:, 0, ..., count + plan.top :]),
        "direction": (("layer", "feature"), found["directions"].numpy()),
        "norm": ("layer", found["norms"].numpy()),
    }
    if plan.controls:
        arrays["control"] = (("prompt", "control", "layer", "strength", "metric"), ways[:, 1:, ..., :count])
    if plan.ablations:
        ablated = values[:, split:, :count].reshape(len(ids), len(plan.ablations), layers, count)
        arrays["ablated"] = (("prompt", "ablation", "layer", "metric"), ablated)
    if plan.tokens:
        arrays |= _texts(tokenizer, plan, torch.stack(found["written"]).numpy())
    coordinates = {
        "layer": plan.layers,
        "strength": np.array(plan.strengths, dtype=np.float64),
        "metric": names,
        **({"ablation": plan.ablations} if plan.ablations else {}),
        **token_axes(tokenizer, padded_tokens(ids), ("prompt", "position")),
    }
    how: dict[str, Any] = {
        "site": plan.site,
        "unit": "norms of the layer’s activations" if plan.relative else "lengths of the direction",
        "positions": None if plan.positions is None else list(plan.positions),
        "answers": [None if pair is None else list(pair) for pair in answers],
        "answer_tokens": [
            None if pair is None else token_texts(tokenizer, np.array(pair)).tolist() for pair in answers
        ],
        "seed": plan.seed,
        "tokens": plan.tokens,
    }
    if "facts" in found:  # of a job that is not done much is not known yet
        how["notes"] = outputs.not_finite(names, [base[:, :count]], [values[..., :count]])
    known = provenance(model, found, **prompts_known(tokenizer, ids), **how)
    return Steering(xr.Dataset(arrays, coordinates), known)


def _texts(tokenizer: Any, plan: engine.Steering, written: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Arrays of what was written, out of (prompts, texts, tokens): token ids, and the texts for display."""
    prompts, steered = len(written), len(plan.layers) * len(plan.strengths)
    parts = {
        "unsteered_text": (("prompt",), written[:, 0]),
        "text": (("prompt", "layer", "strength"), written[:, 1 : 1 + steered]),
        **({"ablated_text": (("prompt", "ablation", "layer"), written[:, 1 + steered :])} if plan.ablations else {}),
    }
    sizes = {"layer": len(plan.layers), "strength": len(plan.strengths), "ablation": len(plan.ablations)}
    arrays: dict[str, Any] = {}
    for name, (axes, tokens) in parts.items():
        shape = (prompts, *(sizes[axis] for axis in axes[1:]))
        flat = tokens.reshape(-1, plan.tokens)
        texts = np.array([tokenizer.decode(row[row >= 0]) for row in flat], dtype=np.str_)
        arrays[name] = (axes, texts.reshape(shape))
        arrays[f"{name}_id"] = ((*axes, "new"), flat.reshape(*shape, plan.tokens))
    return arrays
