"""``edif.attention(model, prompt)``: where every head looks, how much it takes from there, and what it matters."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from edif import asked, beside, outputs
from edif.engine import heads as engine
from edif.engine.decoder import Paths
from edif.engine.sweeps import BATCH_BYTES
from edif.result import Result, padded_tokens, prompts_known, provenance, token_axes

#: More weights than this do not come back (as 32-bit floats, 256 MiB).
MOST_WEIGHTS = 1 << 26


class Attention(Result):
    """Attention patterns; rows (queries) sum to 1.

    Arrays of :attr:`data`: ``pattern`` (prompt, layer, head, query, key); with ``top=`` instead of it ``top_key`` and
    ``top_weight`` (prompt, layer, head, query, top); ``value_norm`` (prompt, layer, head, key), the norm of what the
    head would write of that position's value alone; ``effect`` (prompt, layer, head), where an answer was given: by how
    much the logit difference falls when the head gives zeros everywhere.  Positions beyond a shorter prompt's end are
    not-a-number.
    """

    kind = "attention"
    sources: ClassVar[tuple[str, ...]] = (
        "Vaswani et al. (2017): Attention Is All You Need. arXiv:1706.03762.",
        "Kobayashi et al. (2020): Attention is Not Only a Weight: Analyzing with Vector Norms. arXiv:2004.10102.",
    )

    def weights(self, prompt: int = 0) -> xr.DataArray:
        """One prompt's patterns, (layer, head, query, key); keys that ``top=`` has left out are 0."""
        length = len(self.provenance["prompt_ids"][prompt])
        here = self.data.isel(prompt=prompt)
        if "pattern" in here:
            return here["pattern"].isel(query=slice(length), key=slice(length))
        keys, top = here["top_key"].values[:, :, :length], here["top_weight"].values[:, :, :length]
        whole = np.zeros((*keys.shape[:3], length))
        np.put_along_axis(whole, np.maximum(keys, 0), np.where(keys < 0, 0.0, top), -1)
        axes = ("layer", "head", "query", "key")
        return xr.DataArray(whole, {name: here[name] for name in axes[:2]}, axes)

    def weighted(self, prompt: int = 0) -> xr.DataArray:
        """Weights times the norm of what is found there, ``‖α f(x)‖`` (Kobayashi et al. 2020).

        Raises:
            KeyError: norms were not asked for.
        """
        if "value_norm" not in self.data:
            raise KeyError("There are no norms in this result: ask for them with norms=True.")
        weights = self.weights(prompt)
        return weights * self.data["value_norm"].isel(prompt=prompt, key=slice(weights.sizes["key"]))

    def ranked(self, prompt: int = 0, effect: xr.DataArray | None = None) -> list[tuple[int, int, float]]:
        """Layer, head and effect, the largest effect of either sign first.

        Without an effect heads are ranked by how much they look elsewhere than at the first token.

        Args:
            effect: (layer, head) of your own, such as one position of a patching map.
        """
        if effect is None and "effect" in self.data:
            effect = self.data["effect"].isel(prompt=prompt)
        if effect is None:
            effect = 1 - self.weights(prompt).isel(key=0).mean("query")
        layers, heads = self.data["layer"].values.tolist(), self.data["head"].values.tolist()
        cells = [(layer, head, float(effect.sel(layer=layer, head=head))) for layer in layers for head in heads]
        # of an interrupted job some are not known: they come last
        return sorted(cells, key=lambda cell: (np.isnan(cell[-1]), -abs(cell[-1])))

    def table(self) -> str:
        """For each of the first-ranked heads, where it looks most from every position of the first prompt."""
        weights, tokens = self.weights(), self.data["token"].isel(prompt=0).values.tolist()
        columns = tokens[: weights.sizes["query"]]
        first = self.ranked()[:12]
        best = [weights.sel(layer=layer, head=head).values for layer, head, _ in first]
        cells = [[f"{columns[int(row.argmax())]} {outputs.figure(float(row.max()))}" for row in one] for one in best]
        names = [f"{layer}.{head}" for layer, head, _ in first]
        caption = f"Attention · {self.provenance['model']} · “{self.provenance['prompts'][0]}”"
        return outputs.table(
            caption, names[::-1], columns, cells[::-1], "layer.head; where it looks most, and how much"
        )

    def _forms(self) -> Iterator[dict[str, Any]]:
        sizes = self.data.sizes
        count = sizes["layer"] * sizes["head"]
        for prompts in outputs.halvings(sizes["prompt"]):
            yield self._form(prompts, count)
        for heads in list(outputs.halvings(count))[1:]:
            yield self._form(1, heads)

    def _form(self, prompts: int, count: int) -> dict[str, Any]:
        """Its JSON with the first prompts and the first-ranked heads of each.

        ``prompts`` is a list of ``{prompt, bos, tokens, maps}``; ``tokens`` are places in the vocabulary, and ``maps``
        a list, first-ranked first, of ``{layer, head, effect, norm, weights}``: ``effect`` a number or null, ``norm``
        one figure a key or null, ``weights`` base64 of bytes, ``round(255 · weight)``, the lower triangle row by row
        (row ``q`` has keys 0 to ``q``).
        """
        whole, known, words = self.data.sizes, self.provenance, outputs.Vocabulary()
        heads = whole["layer"] * whole["head"]
        reduced = [
            f"{prompts} of {whole['prompt']} prompts" if prompts < whole["prompt"] else "",
            f"{count} of {heads} heads" if count < heads else "",
        ]
        ranked = "heads by effect" if "effect" in self.data else "heads by how little they look at the first token"
        notes = [ranked, f"the {known['top']} largest weights of each row" if known["top"] else ""]
        return {
            **outputs.frame(self.kind, "Attention", known, [*notes, *outputs.notes_of(reduced)], self.view),
            "layers": self.data["layer"].values.tolist(),
            "heads": self.data["head"].values.tolist(),
            "prompts": [self._drawn(row, count, words) for row in range(prompts)],
            "vocabulary": words.as_json(),
        }

    def _drawn(self, row: int, count: int, words: outputs.Vocabulary) -> dict[str, Any]:
        weights, here = self.weights(row), self.data.isel(prompt=row)
        length = weights.sizes["query"]
        below = np.tril_indices(length)
        maps = []
        for layer, head, effect in self.ranked(row)[:count]:
            one = here.sel(layer=layer, head=head)
            held = np.nan_to_num(weights.sel(layer=layer, head=head).values[below])  # the foot line tells of none
            values = np.rint(255 * held).astype(np.uint8)
            maps.append(
                {
                    "layer": layer,
                    "head": head,
                    "effect": outputs.figures(effect)[0] if "effect" in here else None,
                    "norm": outputs.figures(one["value_norm"][:length], 3) if "value_norm" in here else None,
                    "weights": base64.b64encode(values.tobytes()).decode(),
                }
            )
        return {
            "prompt": self.provenance["prompts"][row],
            "bos": self.provenance["bos"][row],
            "tokens": words.places(here["token_id"][:length], here["token"][:length]),
            "maps": maps,
        }

    def __repr__(self) -> str:
        sizes = self.data.sizes
        return f"<attention: {sizes['prompt']} prompts, {sizes['layer']} layers, {sizes['head']} heads>"


def attention(
    model: Any,
    prompt: str | Sequence[str] | Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    top: int | None = None,
    norms: bool = False,
    answer: tuple[int | str, int | str] | Sequence[tuple[int | str, int | str]] | None = None,
    path: Paths = None,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> Attention:
    """Attention patterns of every layer and head, in one job.

    The model computes its attention in the plain way while it is read (fused kernels do not make patterns), so the last
    digits may differ from those of other traces.

    Args:
        prompt: a text, several texts, or token ids.
        layers: which; negative ones count from the end.
        heads: which, in each layer; of grouped heads each has a pattern of its own.
        top: keep only so many keys of each query: for long prompts.
        norms: also the norms of what heads would write of each position (see :meth:`Attention.weighted`).
        answer: right and wrong token, of each prompt or one for all: heads are then ranked by what their silence does
            to the logit difference at the last position (one more forward pass for each head, batched).
        path: as in :func:`edif.logit_lens`.
        batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: an empty prompt, a head or layer that is not there, more weights than come back, an answer that is
            not one token, or a family that gives no patterns.
    """
    tokenizer, ids = model.tokenizer, asked.prompt_ids(model, prompt)
    chosen = asked.layers(model, layers, path)
    some = asked.numbers("head", heads, model._module.config.get_text_config().num_attention_heads)
    if top is not None and top < 1:
        raise ValueError("top must be at least 1.")
    _check_size(ids, len(chosen), len(some), top)
    answers = [] if answer is None else asked.answers(tokenizer, answer, len(ids))
    work = functools.partial(
        engine.attention,
        prompts=ids,
        layers=chosen,
        heads=some,
        top=top,
        norms=norms,
        answers=answers,
        limits={"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes},
    )
    cells = len(ids) * len(chosen) * (1 + len(some) * bool(answers))
    how = {"top": top, "norms": norms, "answers": [list(pair) for pair in answers]}
    return beside.result(
        model,
        work,
        cells,
        lambda found: _result(model, ids[: len(found["prompts"])], chosen, some, found, how),
        functools.partial(_known, prompts=ids, layers=len(chosen), heads=len(some), effects=bool(answers)),
        remote=remote,
        progress=progress,
        what="attention",
    )


def _known(
    told: beside.Telling, prompts: list[list[int]], layers: int, heads: int, effects: bool
) -> dict[str, Any] | None:
    """What comes back of a job, as far as it was told of by now: the prompts whose patterns are known, and effects."""
    found: list[dict[str, torch.Tensor]] = []
    for row, ids in enumerate(prompts):
        base = told.bases.get(row, {})
        if "weights" not in base:
            break
        pattern = torch.zeros(layers, heads, len(ids), len(ids))
        rows, columns = np.tril_indices(len(ids))
        pattern[..., rows, columns] = base["weights"].float() / 255
        found.append({"pattern": pattern})
        if effects:
            first = layers + row * layers * (1 + heads)
            without = torch.from_numpy(told.values(first, layers * heads, (1,))).float()
            known = base.get("unchanged", torch.full((1,), torch.nan))
            found[-1]["effect"] = (known - without).reshape(layers, heads)
    return {"prompts": found} if found else None


def _result(
    model: Any, ids: list[list[int]], layers: list[int], heads: list[int], found: dict[str, Any], how: dict[str, Any]
) -> Attention:
    tokenizer, length = model.tokenizer, max(map(len, ids))
    axes, ends = ("prompt", "layer", "head"), {"pattern": ("query", "key"), "value_norm": ("key",), "effect": ()}
    ends |= dict.fromkeys(("top_key", "top_weight"), ("query", "top"))
    arrays = {}
    for name in found["prompts"][0]:
        parts = [part[name].numpy() for part in found["prompts"]]
        last = [length if axis in ("query", "key") else how["top"] for axis in ends[name]]
        filled = -1 if name == "top_key" else np.nan
        value = np.full((len(ids), len(layers), len(heads), *last), filled, dtype=parts[0].dtype)
        for row, part in enumerate(parts):
            where: tuple[Any, ...] = (row, ..., *(slice(size) for size in part.shape[2:]))
            value[where] = part
        arrays[name] = ((*axes, *ends[name]), value)
    coordinates = {
        "layer": layers,
        "head": heads,
        **token_axes(tokenizer, padded_tokens(ids), ("prompt", "position")),
    }
    steps = {} if "facts" in found else {"notes": ["weights in steps of 1/255, as they are drawn while a job runs"]}
    weights = "pattern" if "pattern" in arrays else "top_weight"
    maps = [part[weights].float().numpy().sum((-1, -2)) for part in found["prompts"]]
    if notes := outputs.not_finite_cells(maps, np.ones(np.shape(maps)), "heads"):
        how = {**how, "notes": notes}
    known = provenance(model, found, **prompts_known(tokenizer, ids), **how, **steps)
    return Attention(xr.Dataset(arrays, coordinates), known)


def _check_size(ids: list[list[int]], layers: int, heads: int, top: int | None) -> None:
    each = sum(len(row) * min(top or len(row), len(row)) for row in ids)
    if layers * heads * each > MOST_WEIGHTS:
        fitting = MOST_WEIGHTS // (heads * each)
        rows = sum(map(len, ids))
        advice = f"layers=… of {fitting} at most" if fitting else "fewer layers and heads"
        raise ValueError(
            f"The patterns of {layers} layers and {heads} heads have {layers * heads * each / 1e6:.0f} million weights,"
            f" and {MOST_WEIGHTS / 1e6:.0f} million come back at most: ask for {advice}, or for the largest weights of"
            f" each query with top={max(1, MOST_WEIGHTS // (layers * heads * rows))} or less."
        )
