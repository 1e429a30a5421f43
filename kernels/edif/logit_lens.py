"""``edif.logit_lens(model, prompt)``: what the model would say after every layer."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import xarray as xr

from edif import asked, beside, outputs
from edif.engine import lens
from edif.engine.decoder import HEADED, SITES, Paths, layers_of
from edif.result import Result, prompts_known, provenance, token_axes, token_texts

#: More cells than this (with ten tokens each about 200 MB) do not come back.
MOST_CELLS = 2_000_000
_READABLE = tuple(site for site in SITES if site not in HEADED)


class LogitLens(Result):
    """Statistics of what every layer would say at every position.

    Arrays of :attr:`data`, axes (prompt, layer, position, …): ``top_id``, ``top_token``, ``top_probability``
    (…, rank in the top), ``entropy`` and ``kl`` (nats; KL of the model's own distribution from the layer's),
    ``next_log_probability`` (of the prompt's own next token; its negative is the cross-entropy), and for each target
    token ``target_logit``, ``target_probability``, ``target_log_probability`` and exact ``target_rank`` (1 is the top).
    Positions beyond a shorter prompt's end are not-a-number.
    """

    kind = "logit_lens"
    sources: ClassVar[tuple[str, ...]] = (
        "nostalgebraist (2020): interpreting GPT: the logit lens. LessWrong.",
        "Belrose et al. (2023): Eliciting Latent Predictions from Transformers with the Tuned Lens. arXiv:2303.08112.",
    )

    def top(self, prompt: int = 0) -> pd.DataFrame:
        """The most probable token of every layer and position, as a table: layers downwards from the last."""
        chosen = self.data["top_token"].isel(prompt=prompt, top=0)
        positions = [f"{place} {text}" for place, text in enumerate(self.data["token"].isel(prompt=prompt).values)]
        return pd.DataFrame(chosen.values, index=self.data["layer"].values, columns=positions).iloc[::-1]

    def difference(self, right: int | str, wrong: int | str) -> xr.DataArray:
        """Logit of one target minus that of another: (prompt, layer, position)."""
        logits = self.data["target_logit"]
        return logits.isel(target=self._target(right)) - logits.isel(target=self._target(wrong))

    def table(self) -> str:
        """The first prompt's most probable tokens and their probabilities, layers downwards from the last."""
        shown = self.data.isel(prompt=0, top=0)
        cells = [
            [f"{text} {outputs.figure(p)}" if p == p else "" for text, p in zip(texts, row, strict=True)]  # noqa: PLR0124
            for texts, row in zip(shown["top_token"].values, shown["top_probability"].values, strict=True)
        ]
        columns, layers = shown["token"].values.tolist(), shown["layer"].values.tolist()
        caption = f"Logit lens · {self.provenance['model']} · “{self.provenance['prompts'][0]}”"
        return outputs.table(caption, layers, columns, cells, "most probable token and its probability")

    def _forms(self) -> Iterator[dict[str, Any]]:
        sizes = self.data.sizes
        for top in [sizes["top"], *(count for count in (10, 5, 3, 1) if count < sizes["top"])]:
            yield self._form(top, 1, sizes["prompt"])
        for prompts in list(outputs.halvings(sizes["prompt"]))[1:]:
            yield self._form(1, 1, prompts)
        for stride in outputs.strides(2 * sizes["layer"], 1):
            if stride > 1:
                yield self._form(1, stride, 1)

    def _form(self, top: int, stride: int, prompts: int) -> dict[str, Any]:
        """Its JSON with so many tokens a cell, every ``stride``-th layer and the first ``prompts`` prompts."""
        whole, known, words = self.data, self.provenance, outputs.Vocabulary()
        layers = outputs.every(whole.sizes["layer"], stride)
        data = whole.isel(top=slice(top), layer=layers, prompt=slice(prompts))
        reduced = [
            f"{top} of {whole.sizes['top']} tokens a cell" if top < whole.sizes["top"] else "",
            f"every {stride}. layer" if stride > 1 else "",
            f"{prompts} of {whole.sizes['prompt']} prompts" if prompts < whole.sizes["prompt"] else "",
        ]
        notes = [
            f"on {known['site']}" if known["site"] != "residual" else "",
            "tuned lens" if known["tuned"] else "",
            known.get("patched", ""),
            *outputs.notes_of(reduced),
        ]
        return {
            **outputs.frame(self.kind, "Logit lens", known, notes, self.view),
            "layers": data["layer"].values.tolist(),
            "layer_count": known.get("layer_count"),
            "final": known["site"] == "residual" and known.get("layer_count") == int(data["layer"][-1]) + 1,
            "top": top,
            "targets": words.places(data["target_id"], data["target_token"]),
            "prompts": [self._drawn(data.isel(prompt=row), row, words) for row in range(prompts)],
            "vocabulary": words.as_json(),
        }

    def _drawn(self, data: xr.Dataset, row: int, words: outputs.Vocabulary) -> dict[str, Any]:
        """One prompt, without the positions that only longer ones have; arrays are flat, (layer, position, …)."""
        here = data.isel(position=data["place"].values >= 0)
        return {
            "prompt": self.provenance["prompts"][row],
            "bos": self.provenance["bos"][row],
            "tokens": words.places(here["token_id"], here["token"]),
            "places": here["place"].values.tolist(),
            "top": words.places(here["top_id"], here["top_token"]),
            "probability": outputs.figures(here["top_probability"], 3),
            "entropy": outputs.figures(here["entropy"]),
            "kl": outputs.figures(here["kl"]),
            "next": outputs.figures(-here["next_log_probability"]),
            "target_probability": outputs.figures(here["target_probability"], 3),
            "target_rank": outputs.figures(here["target_rank"], 9),
            "target_logit": outputs.figures(here["target_logit"]),
        }

    def _target(self, token: int | str) -> int:
        names = self.data["target_token" if isinstance(token, str) else "target_id"].values.tolist()
        if token not in names:
            raise KeyError(f"{token!r} was not followed: name it in targets=… (there are {names}).")
        return int(names.index(token))

    def __repr__(self) -> str:
        sizes = self.data.sizes
        return f"<logit lens: {sizes['prompt']} prompts, {sizes['layer']} layers, {sizes['position']} positions>"


def logit_lens(
    model: Any,
    prompt: str | Sequence[str] | Sequence[int],
    *,
    site: str = "residual",
    layers: Sequence[int] | None = None,
    stride: int = 1,
    positions: Sequence[int] | None = None,
    targets: Sequence[int | str] = (),
    top: int = 10,
    tuned: Mapping[int, tuple[torch.Tensor, torch.Tensor]] | None = None,
    path: Paths = None,
    remote: bool | str | None = None,
    progress: bool = True,
) -> LogitLens:
    """Unembed the hidden state after every layer, ``softcap(head(norm(h)))``, and keep statistics of what it says.

    (nostalgebraist 2020.)  The norm is computed anew for each layer.  At the last layer this is what the model says.

    Args:
        prompt: a text, several texts, or token ids.
        site: ``residual`` (after the layer), ``residual_pre``, ``residual_mid``, ``attention`` or ``mlp`` (their
            outputs alone, as in the attention and MLP lens).
        layers: which; negative ones count from the end.
        stride: every how many layers, counted from the last one, which is always there.
        positions: which; negative ones count from the end.
        targets: tokens to follow through the layers, as ids or as texts of one token each.
        top: how many of the most probable tokens to keep.
        tuned: a tuned lens: by layer, matrix and offset, so that ``h + h @ matrix.T + offset`` is unembedded.
        path: of the list of layers, where it is at an unusual place; or of several parts by name, such as
            ``{"layers": "backbone.blocks", "attention": "mixer"}`` (see :data:`edif.engine.decoder.PLACES`).
        remote: where it runs, as in ``model.trace``.

    Raises:
        ValueError: an empty prompt, a target that is not one token, or a site that has no lens.
    """
    ids = asked.prompt_ids(model, prompt)
    asked.one_of("lens on", [site], _READABLE)
    if stride < 1 or top < 1:
        raise ValueError("stride and top must be at least 1.")
    followed = [asked.single_token(model.tokenizer, target) for target in targets]
    work = functools.partial(
        lens.read,
        prompts=ids,
        site=site,
        layers=layers,
        stride=stride,
        positions=positions,
        targets=followed,
        top=top,
        tuned=dict(tuned) if tuned else None,
        path=path,
    )
    whole = len(layers_of(model, path))
    chosen = outputs.every(whole, stride) if layers is None else asked.numbers("layer", layers, whole)
    count, places = len(chosen), [len(asked.numbers("position", positions, len(row))) for row in ids]
    asked.check_cells(count * sum(places), chosen, MOST_CELLS)
    how = {"site": site, "stride": stride, "tuned": bool(tuned), "layer_count": whole}
    return beside.result(
        model,
        work,
        count * len(ids),
        lambda found: lens_of(model, ids[: len(found["prompts"])], followed, positions, found, **how),
        _known,
        remote=remote,
        progress=progress,
        what="logit lens",
    )


def _known(told: beside.Telling) -> dict[str, Any] | None:
    """The prompts that have been told of by now, in their order; None without any."""
    parts: list[dict[str, torch.Tensor]] = []
    while (part := told.bases.get(len(parts))) is not None:
        parts.append(part)
    if not parts:
        return None
    layers = parts[0]["layers"].tolist()
    return {"layers": layers, "prompts": [{n: v for n, v in one.items() if n != "layers"} for one in parts]}


def lens_of(
    model: Any, ids: list[list[int]], followed: list[int], positions: Sequence[int] | None, found: Any, **how: Any
) -> LogitLens:
    """A lens out of what was read; ``how`` is what else its provenance says."""
    tokenizer, axes = model.tokenizer, ("prompt", "layer", "position")
    kept = [list(range(len(row))) if positions is None else [place % len(row) for place in positions] for row in ids]
    length = max(map(len, kept))
    places = np.array([row + [-1] * (length - len(row)) for row in kept])
    tokens = np.array(
        [[prompt[place] if place >= 0 else -1 for place in row] for prompt, row in zip(ids, places, strict=True)]
    )
    read = {name: _stacked([part[name] for part in found["prompts"]], length) for name in found["prompts"][0]}
    top_ids = np.nan_to_num(read.pop("top_ids"), nan=-1).astype(np.int64)
    arrays: dict[str, Any] = {
        "top_id": ((*axes, "top"), top_ids),
        "top_token": ((*axes, "top"), token_texts(tokenizer, top_ids)),
        "top_probability": ((*axes, "top"), np.exp(read.pop("top_log_probability"))),
        "target_probability": ((*axes, "target"), np.exp(read["target_log_probability"])),
        **{name: ((*axes, "target")[: value.ndim], value) for name, value in read.items()},
    }
    coordinates = {
        "layer": found["layers"],
        "place": (("prompt", "position"), places),
        **token_axes(tokenizer, tokens, ("prompt", "position")),
        **token_axes(tokenizer, np.array(followed, dtype=np.int64), ("target",), "target"),
    }
    entropy = read["entropy"]
    if notes := outputs.not_finite_cells(entropy, np.broadcast_to(places[:, None, :] >= 0, entropy.shape)):
        how["notes"] = notes
    return LogitLens(xr.Dataset(arrays, coordinates), provenance(model, found, **prompts_known(tokenizer, ids), **how))


def _stacked(parts: list[torch.Tensor], length: int) -> np.ndarray[Any, Any]:
    """(layers, positions, …) of several prompts in one array, shorter prompts filled up with not-a-number."""
    shape = (len(parts), parts[0].shape[0], length, *parts[0].shape[2:])
    whole = np.full(shape, np.nan)
    for row, part in enumerate(parts):
        whole[row, :, : part.shape[1]] = part.numpy()
    return whole
