"""One name for each part of a decoder, whatever its family calls it; the only place that knows families.

Used by every method, beside the weights.  Names are looked for on the model itself, so a new family with usual names
works unnamed; what is missing is said with the names that were tried.  Families that are tested: GPT-2, GPT-NeoX
(Pythia), Llama (and DeepSeek distills of it), Qwen 2 and 3, Gemma 1 and 2, Mistral.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

#: Where each part is looked for, in this order: the first four from the model, the next three from a layer, the last
#: from its attention.
PLACES = {
    "layers": (
        *("model.layers", "transformer.h", "gpt_neox.layers", "model.decoder.layers", "model.language_model.layers"),
        *("transformer.blocks", "layers"),
    ),
    "embedding": (
        *("model.embed_tokens", "transformer.wte", "gpt_neox.embed_in", "model.decoder.embed_tokens"),
        *("model.language_model.embed_tokens", "embed_tokens"),
    ),
    "norm": (
        *("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm", "model.decoder.final_layer_norm"),
        *("model.language_model.norm", "transformer.norm_f", "norm"),
    ),
    "head": ("lm_head", "embed_out", "output_projection"),
    "attention": ("self_attn", "attn", "attention"),
    "mlp": ("mlp", "feed_forward", "block_sparse_moe"),
    "mlp_norm": ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2"),
    "projection": ("o_proj", "c_proj", "dense", "out_proj"),
    "q": ("c_attn", "query_key_value", "q_proj"),
    "k": ("c_attn", "query_key_value", "k_proj"),
    "v": ("c_attn", "query_key_value", "v_proj"),
}
_IN_LAYER, _IN_ATTENTION = ("attention", "mlp", "mlp_norm"), ("projection", "q", "k", "v")
#: What a part is, in words.
_WORDS = {
    "layers": "its list of layers",
    "embedding": "the token embedding",
    "norm": "the final norm",
    "head": "the unembedding",
    "attention": "the attention block of a layer",
    "mlp": "the MLP of a layer",
    "mlp_norm": "the norm before a layer's MLP",
    "projection": "the output projection of attention",
    **{part: f"the {part} projection of attention" for part in "qkv"},
}

#: Where parts are that a model keeps at unusual places: the path of the list of layers, or paths by part.
Paths = str | Mapping[str, str] | None

#: Places that can be read and changed, in the order in which a layer computes them.
SITES = ("residual_pre", "q", "k", "v", "pattern", "head", "attention", "residual_mid", "mlp", "residual")
#: Sites that have one part for each attention head (keys and values: for each group of heads).
HEADED = ("q", "k", "v", "pattern", "head")
#: Sites that are tensors of the model; a pattern is given by what it makes of the values, at ``head``.
READABLE = tuple(site for site in SITES if site != "pattern")


class Eager:
    """Within it a model computes its attention in the plain way.

    A class: the decorator of a generator does not travel with a job, and the server would have a bare generator.

    Raises:
        ValueError: this family cannot.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._before: str = module.config._attn_implementation

    def __enter__(self) -> None:
        try:
            if self._before != "eager":
                self._module.set_attn_implementation("eager")
        except (ValueError, ImportError) as error:
            raise ValueError(f"This family does not give its attention patterns ({error}).") from None

    def __exit__(self, *_: object) -> None:
        if self._before != "eager":
            self._module.set_attn_implementation(self._before)


class Decoder:
    """The parts of ``model`` as nnsight envoys, and what its configuration says about them.

    Args:
        paths: where parts are that are at unusual places.

    Raises:
        AttributeError: a part is at none of the usual places.
        ValueError: there is no part of a name in ``paths``.
    """

    def __init__(self, model: Any, paths: Paths = None) -> None:
        self.model = model
        self._named = _named(paths)
        self.layers = layers_of(model, paths)
        config = model._module.config.get_text_config()
        self.heads: int = config.num_attention_heads
        self.groups: int = getattr(config, "num_key_value_heads", None) or self.heads
        self.width: int = config.hidden_size
        self.head_width: int = getattr(config, "head_dim", None) or self.width // self.heads
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale: float = getattr(config, "logit_scale", None) or 1.0 / (
            getattr(config, "logits_scaling", None) or 1.0
        )

    @property
    def embedding(self) -> Any:
        """Token embedding: ids to (rows, positions, width)."""
        return self._part("embedding")

    @property
    def norm(self) -> Any:
        """Norm before the unembedding."""
        return self._part("norm")

    @property
    def head(self) -> Any:
        """Unembedding: width to vocabulary."""
        return self._part("head")

    def attention(self, layer: int) -> Any:
        """Attention block of a layer."""
        return self._part("attention", layer)

    def projection(self, layer: int) -> Any:
        """Output projection of a layer's attention: heads' outputs side by side to width."""
        return self._part("projection", layer)

    def mlp(self, layer: int) -> Any:
        """MLP of a layer."""
        return self._part("mlp", layer)

    def _part(self, part: str, layer: int = 0) -> Any:
        root = self.model
        if part in _IN_LAYER:
            root = self.layers[layer]
        elif part in _IN_ATTENTION:
            root = self.attention(layer)
        return _found(self.model, root, part, self._named)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """What the model would say of hidden states (…, width): norm, unembedding and soft-cap; (…, vocabulary).

        To be called outside of traces: the modules run without nnsight's hooks.
        """
        values: torch.Tensor = self.head._module(self.norm._module(states)) * self.scale
        return values if self.softcap is None else torch.tanh(values / self.softcap) * self.softcap

    # -- attention patterns ---------------------------------------------------

    def eager(self) -> Eager:
        """Attention that gives its pattern, for the traces inside; afterwards it is as it was before."""
        return Eager(self.model._module)

    def pattern(self, layer: int) -> torch.Tensor:
        """Attention pattern, rows sum to 1: (rows, heads, queries, keys); inside a trace, within :meth:`eager`.

        Raises:
            ValueError: this family's attention does not give it.
        """
        given = self.attention(layer).output
        if isinstance(given, torch.Tensor) or len(given) < 2 or given[1] is None:
            raise ValueError("This family's attention gives no pattern: read q and k with a trace of your own.")
        found: torch.Tensor = given[1]
        return found

    def of_heads(self, values: torch.Tensor) -> torch.Tensor:
        """Each head's own values, out of those of groups: (…, groups, head width) to (…, heads, head width)."""
        return values.repeat_interleave(self.heads // values.shape[-2], -2)

    # -- reading and changing a site, inside a trace -------------------------

    def read(self, site: str, layer: int) -> torch.Tensor:
        """The activation at a site: (rows, positions, width), for headed sites (rows, positions, heads, head width).

        A view, so that what is written into it is what the model goes on with.
        """
        return self.shaped(site, self.tensor(site, layer))

    def write(
        self, site: str, layer: int, rows: Any, position: Any, value: torch.Tensor, head: int | None = None
    ) -> None:
        """Put ``value`` in place at some rows and a position of a site, of one head where one is named."""
        place = self.read("head" if site == "pattern" else site, layer)
        if head is None:
            place[rows, position] = value
        else:
            place[rows, position, head] = value

    def parts(self, site: str) -> int:
        """How many heads (or groups of heads) a headed site has; 1 for the others."""
        if site not in HEADED:
            return 1
        return self.groups if site in ("k", "v") else self.heads

    def tensor(self, site: str, layer: int) -> torch.Tensor:
        """The model's own tensor that holds a site: what gradients are taken of."""
        block = self.layers[layer]
        sandwiched = hasattr(block, "pre_feedforward_layernorm")  # Gemma 2 norms what is added to the stream
        if site in ("residual_pre", "residual"):
            return _tensor(block.input if site == "residual_pre" else block.output)
        if site == "residual_mid":
            return self._middle(layer)
        if site == "attention":
            return _tensor(block.post_attention_layernorm.output if sandwiched else self.attention(layer).output)
        if site == "mlp":
            return _tensor(block.post_feedforward_layernorm.output if sandwiched else self.mlp(layer).output)
        if site == "head":
            return _tensor(self.projection(layer).input)
        if site in ("q", "k", "v"):
            return _tensor(self._part(site, layer).output)
        raise ValueError(f"There is no site {site!r} to be read: choose from {', '.join(READABLE)}.")

    def shaped(self, site: str, tensor: torch.Tensor) -> torch.Tensor:
        """A site's part of the tensor that holds it, as a view."""
        if site not in HEADED:
            return tensor
        if site == "head":
            return tensor.unflatten(-1, (self.heads, self.head_width))
        attention = self.attention(0)
        if site in self._named:
            return tensor.unflatten(-1, (self.parts(site), self.head_width))
        if hasattr(attention, "c_attn"):  # GPT-2: all queries, then all keys, then all values
            part = "qkv".index(site) * self.width
            return tensor[..., part : part + self.width].unflatten(-1, (self.heads, self.head_width))
        if hasattr(attention, "query_key_value"):  # GPT-NeoX: query, key and value of one head after the other
            return tensor.unflatten(-1, (self.heads, 3, self.head_width))[..., "qkv".index(site), :]
        return tensor.unflatten(-1, (self.parts(site), self.head_width))

    def _middle(self, layer: int) -> torch.Tensor:
        if getattr(self.model._module.config, "use_parallel_residual", False):
            raise ValueError("This family adds attention and MLP at once: it has no residual stream between the two.")
        return _tensor(self._part("mlp_norm", layer).input)


def layers_of(model: Any, paths: Paths = None) -> Any:
    """The model's list of layers.

    Raises:
        AttributeError: it is at none of the usual places, or not where ``paths`` says.
        ValueError: there is no part of a name in ``paths``.
    """
    return _found(model, model, "layers", _named(paths))


def _named(paths: Paths) -> dict[str, str]:
    named = {"layers": paths} if isinstance(paths, str) else dict(paths or {})
    if unknown := [part for part in named if part not in PLACES]:
        raise ValueError(f"There is no part {unknown[0]!r} of a model to name: there is {', '.join(PLACES)}.")
    return named


def _found(model: Any, root: Any, part: str, named: Mapping[str, str]) -> Any:
    """A part, counted from ``root``; of layers a list.

    Raises:
        AttributeError: it is not there; with what else is needed, and how to name it.
    """
    tried = (named[part],) if part in named else PLACES[part]
    for path in tried:
        found = _reached(root, path)
        if found is not None and (part != "layers" or isinstance(found._module, torch.nn.ModuleList)):
            return found
    place = f"not at {tried[0]}" if part in named else f"at none of the places that are known here ({', '.join(tried)})"
    how = "path='…' (in edif.sweep: layers='…')" if part == "layers" else f"path={{{part!r}: '…'}}"
    raise AttributeError(
        f"This model keeps {_WORDS[part]} {place}. Methods need {_needed(model, named)}. print(model) shows where they "
        f"are; name what is missing: {how}, counted from the model ({', '.join(tuple(PLACES)[:4])}), from a "
        f"layer ({', '.join(_IN_LAYER)}), or from its attention ({', '.join(_IN_ATTENTION)})."
    )


def _needed(model: Any, named: Mapping[str, str]) -> str:
    """Every part, with where it was found, as far as the parts around it were."""
    layers = _reached(model, _place(model, "layers", named) or "")
    layer = layers[0] if layers is not None and isinstance(layers._module, torch.nn.ModuleList) else None
    attention = None if layer is None else _reached(layer, _place(layer, "attention", named) or "")
    said = []
    for part in PLACES:
        root = layer if part in _IN_LAYER else attention if part in _IN_ATTENTION else model
        found = None if root is None else _place(root, part, named)
        said.append(part if root is None else f"{part} ({found or 'missing'})")
    return ", ".join(said)


def _place(root: Any, part: str, named: Mapping[str, str]) -> str | None:
    """The path at which a part is, or None."""
    tried = (named[part],) if part in named else PLACES[part]
    return next((path for path in tried if _reached(root, path) is not None), None)


def _reached(root: Any, path: str) -> Any:
    """What is at a path, or None."""
    for name in path.split("."):
        root = getattr(root, name, None)
        if root is None:
            return None
    return root


def _tensor(output: Any) -> torch.Tensor:
    """The first tensor of what a module takes or gives; in some families that is a tuple."""
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return found
